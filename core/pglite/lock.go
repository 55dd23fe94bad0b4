package pglite

import (
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
)

// hostLock is a cluster's single lock: the process that has it runs, all others wait, in order of arrival. So shared memory and files
// change only where a process gives the lock up: it waits for its client or a row, it sleeps, or it has run for long and holds no
// lightweight lock.
type hostLock struct {
	clock clock.Clock
	beat  *beat // nil: no process will run any more; under the lock

	mu    sync.Mutex
	held  bool
	queue []chan struct{}
	spare []chan struct{}

	waiting atomic.Int32
	current atomic.Pointer[Process] // the process that has it; nil: none has, or the host does

	switches atomic.Int64 // times it went to a different process than last
	waits    atomic.Int64 // times it had to be waited for
	waited   atomic.Int64 // total time of these waits, in nanoseconds
	last     *Process     // the process that had it last; under the lock
}

// lock waits for the lock. p is nil for the host itself.
func (l *hostLock) lock(p *Process) {
	l.mu.Lock()
	if !l.held {
		l.held = true
		l.mu.Unlock()
		l.got(p)
		return
	}
	var ch chan struct{}
	if n := len(l.spare); n > 0 {
		ch, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		ch = make(chan struct{}, 1)
	}
	l.queue = append(l.queue, ch)
	l.waiting.Add(1)
	l.mu.Unlock()
	if p != nil {
		p.queued.Store(true)
		p.handOver()
	}
	began := l.clock.Monotonic()
	<-ch
	if p != nil {
		p.queued.Store(false)
	}
	l.waits.Add(1)
	l.waited.Add(int64(l.clock.Monotonic() - began))
	l.mu.Lock()
	l.spare = append(l.spare, ch)
	l.mu.Unlock()
	l.got(p)
}

// tryLock takes the lock if it is free.
func (l *hostLock) tryLock(p *Process) bool {
	l.mu.Lock()
	taken := !l.held
	l.held = true
	l.mu.Unlock()
	if taken {
		l.got(p)
	}
	return taken
}

// got notes the process that now has the lock.
func (l *hostLock) got(p *Process) {
	l.current.Store(p)
	if p != nil {
		p.beats = 0
		l.aim(p.interruptWord)
	}
	if p != l.last {
		l.last = p
		l.switches.Add(1)
	}
}

// unlock gives the lock to the longest waiter.
func (l *hostLock) unlock() {
	l.aim(nil)
	l.current.Store(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.held = false
		return
	}
	ch := l.queue[0]
	copy(l.queue, l.queue[1:])
	l.queue = l.queue[:len(l.queue)-1]
	l.waiting.Add(-1)
	ch <- struct{}{}
}

// retire ends the beat; no process will run any more. It is called with the lock, which remains usable.
func (l *hostLock) retire() {
	l.beat.close()
	l.beat = nil
}

// aim points the beat at a process's flag; nil: at none.
func (l *hostLock) aim(word *uint32) {
	if l.beat != nil {
		l.beat.aim(word)
	}
}

// sliceTime is the time between two beats. Each beat sets the running process's interrupt flag: PostgreSQL then checks for interrupts, and
// so calls the host. While others wait, a process runs for one to two slices: see Process.yield.
const sliceTime = 1500 * time.Microsecond
