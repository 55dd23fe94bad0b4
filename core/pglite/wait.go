package pglite

import (
	"math"
	"sync"
	"time"
)

// safe reports whether the process holds no lightweight lock, for which others can only poll.
func (p *Process) safe() bool {
	at := p.c.rt.places
	return p.in.mem.u32(at.InterruptHoldoffCount) == 0 && p.in.mem.u32(at.CritSectionCount) == 0
}

// mustLive leaves the guest for good if the process was killed.
func (p *Process) mustLive() {
	if p.in.wasKilled() {
		p.in.trapf("%w", errKilled)
	}
}

// yield is called where PostgreSQL can be interrupted: it handles signals, and lets others run if they wait and the process has run for
// long. Beats are not aligned with the lock: the first may come right after a process got it, so it means nothing, and in the middle of a
// small statement acting on it would cost more than the rest of the statement. The second means that the process has run for at least
// sliceTime; then it also leaves the client's goroutine that runs it.
func (p *Process) yield() {
	p.mustLive()
	p.beats++
	long := p.beats > 1
	if long {
		p.handOver()
	}
	p.deliver()
	if !p.safe() || p.reporting {
		return
	}
	if p.hold != nil && !p.inTransaction() {
		p.hold = nil // its statement was canceled, so the reason for the hold is gone
	}
	if p.hold != nil {
		p.stay()
		return
	}
	if !long || p.c.lock.waiting.Load() == 0 {
		return
	}
	p.c.stats.yields.Add(1)
	p.c.lock.unlock()
	p.c.lock.lock(p)
	p.mustLive()
	p.deliver()
}

// inTransaction reports whether the process is in a transaction that has not failed.
func (p *Process) inTransaction() bool {
	at := p.c.rt.places
	proc := p.in.mem.u32(at.MyProc)
	return proc != 0 && p.in.mem.u32(proc+at.layout.Offsets["PGPROC.vxid.lxid"]) != 0
}

// Hold stops the process, as soon as it holds no lightweight lock, until the channel is closed or its transaction has failed. Others run in
// the meantime. Call it with the lock, for example in a hook of the files.
func (p *Process) Hold(until <-chan struct{}) {
	p.hold = until
	p.interrupt()
}

// stay holds the process. A signal is handled first.
func (p *Process) stay() {
	hold, over := p.hold, false // another hold may come while it waits
	p.aside(func() {
		select {
		case <-hold:
			over = true
		case <-p.wake:
		case <-p.in.killed:
		}
	})
	p.mustLive()
	if over && p.hold == hold {
		p.hold = nil
	} else {
		p.interrupt() // hold it again once it has handled what woke it
	}
	p.deliver()
}

// usleep is pg_usleep. If the process holds a lightweight lock, it does not sleep: no other process could run, and PostgreSQL sleeps there
// only to spare others, as autovacuum does after some pages. The exception: if processes wait for bytes that are away, it may be waiting
// for one of them.
func (p *Process) usleep(d time.Duration) {
	if !p.safe() && p.c.fetching.Load() == 0 {
		return
	}
	p.aside(func() { p.waitWoken(nil, d) })
	p.mustLive()
	p.deliver()
}

// semaphore lets others run. The process wants a lightweight lock that another one has, and waits until a flag in its PGPROC is cleared.
// Since a process with such a lock keeps running, this happens only if the holder waits for bytes that are away.
func (p *Process) semaphore() {
	p.mustLive()
	p.aside(func() { p.waitWoken(nil, semaphoreLook) })
	p.mustLive()
}

// semaphoreLook is the polling interval of a process that waits for a semaphore.
const semaphoreLook = time.Millisecond

// waitWoken waits for a wake-up, for d (below zero: without limit), or until the process is killed. wake may be nil.
func (p *Process) waitWoken(wake <-chan struct{}, d time.Duration) {
	var end <-chan time.Time
	if d >= 0 {
		t := p.in.clock.NewTimer(d)
		defer t.Stop()
		end = t.C()
	}
	select {
	case <-end:
	case <-wake:
	case <-p.in.killed:
	}
}

// poll is poll(2): it returns when a descriptor is ready, a signal has come (EINTR), or the time is over. Here a process waits for its
// client, its latch, or a lock.
func (p *Process) poll(fds, n uint32, timeout int32) int32 {
	in := p.in
	var end time.Duration
	if timeout > 0 {
		end = in.clock.Monotonic() + time.Duration(timeout)*time.Millisecond
	}
	if p.kind == KindCheckpoint {
		p.c.checkpoints.wake() // the checkpointer waits, so any requested checkpoint is done
	}
	if p.kind == KindStartup {
		p.c.recovery.wake()
	}
	for {
		p.mustLive()
		if p.deliver() {
			in.mem.putU32(p.c.rt.places.Errno, guestEINTR)
			return -1
		}
		if count := in.pollOnce(fds, n); count > 0 || timeout == 0 {
			return int32(count)
		}
		left := time.Duration(-1)
		if timeout > 0 {
			if left = end - in.clock.Monotonic(); left <= 0 {
				return 0
			}
		}
		if p.conn != nil {
			p.conn.flush(p)
		}
		p.idle(left)
	}
}

// waiters wakes goroutines that wait for something, so that each checks again.
type waiters struct {
	mu  sync.Mutex
	all map[chan struct{}]bool
}

// join returns a channel that gets a value at the next wake; leave must be called afterwards.
func (w *waiters) join() (heard chan struct{}, leave func()) {
	heard = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan struct{}]bool{}
	}
	w.all[heard] = true
	return heard, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, heard)
	}
}

func (w *waiters) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// From CheckpointerShmemStruct (checkpointer.c), and the flags of a checkpoint (xlog.h).
const (
	checkpointStarted = 8
	checkpointFailed  = 16
	checkpointDone    = 12
	checkpointFlags   = 20

	checkpointWait      = 0x20
	checkpointRequested = 0x40
)

// requestCheckpoint is RequestCheckpoint, which PGlite reduced to an immediate checkpoint by the caller.
func (p *Process) requestCheckpoint(flags uint32) {
	c, m := p.c, p.in.mem
	checkpointer := c.process(KindCheckpoint)
	if checkpointer == nil || p.kind == KindStartup && checkpointer == p {
		p.in.checkpoint(flags)
		return
	}
	c.stats.checkpoints.Add(1)
	shm := m.u32(c.rt.places.CheckpointerShmem)
	before, failed := m.u32(shm+checkpointStarted), m.u32(shm+checkpointFailed)
	m.putU32(shm+checkpointFlags, m.u32(shm+checkpointFlags)|flags|checkpointRequested)
	p.wakeCheckpointer(checkpointer)
	if flags&checkpointWait == 0 {
		return
	}
	heard, leave := c.checkpoints.join()
	defer leave()
	wait := func(done func() bool) {
		for !done() {
			p.aside(func() { p.waitWoken(heard, checkpointLook) })
			p.mustLive()
		}
	}
	wait(func() bool { return m.u32(shm+checkpointStarted) != before })
	started := m.u32(shm + checkpointStarted)
	wait(func() bool { return int32(m.u32(shm+checkpointDone)-started) >= 0 })
	if m.u32(shm+checkpointFailed) != failed {
		p.in.raise(internalError, "checkpoint request failed")
	}
}

// checkpointLook is the polling interval of a waiter for a checkpoint.
const checkpointLook = 10 * time.Millisecond

// internalError is SQLSTATE XX000, as PostgreSQL packs it.
const internalError = ('X' - '0') | ('X'-'0')<<6

// wakeCheckpointer sets the checkpointer's latch.
func (p *Process) wakeCheckpointer(checkpointer *Process) {
	m, l := p.in.mem, p.c.rt.places.layout
	global := m.u32(p.c.rt.places.ProcGlobal)
	if n := m.u32(global + l.Offsets["PROC_HDR.checkpointerProc"]); n != math.MaxUint32 {
		m.putU32(m.u32(global)+l.Sizes["PGPROC"]*n+l.Offsets["PGPROC.procLatch"], 1)
	}
	checkpointer.signal(sigURG)
}
