package pglite

import (
	"math"
	"sync/atomic"
	"time"

	"blobpglite/core/point"
)

// Signals, in the guest's numbering.
const (
	sigHUP, sigINT, sigKILL, sigUSR1, sigUSR2, sigALRM, sigTERM, sigURG = 1, 2, 9, 10, 12, 14, 15, 23
)

// Errno values, in the guest's numbering.
const (
	guestEINTR = 27
	guestESRCH = 71
)

// kill is kill(2), called by a process.
func (c *Cluster) kill(in *Instance, pid int32, sig uint32) int32 {
	if err := c.o.Hook.Fire(c.ctx, point.ProcessBeforeSignal); err != nil {
		in.trapf("%w", err)
	}
	if pid < 0 {
		pid = -pid // a group: every process is alone in its own
	}
	if pid == postmasterPid {
		c.postmaster(in, sig)
		return 0
	}
	c.mu.Lock()
	p := c.procs[uint32(pid)]
	c.mu.Unlock()
	switch {
	case p == nil:
		in.mem.putU32(c.rt.places.Errno, guestESRCH)
		return -1
	case sig == sigKILL:
		p.kill()
	case sig != 0:
		p.signal(sig)
	}
	return 0
}

// signal marks a signal and wakes the process, which handles it once it has the lock and can be interrupted.
func (p *Process) signal(sig uint32) {
	p.c.stats.signals.Add(1)
	p.pending.Or(1 << sig)
	p.poke()
	if sig != sigURG { // SIGURG only wakes
		p.interrupt()
	}
}

// interrupt makes the process check, as soon as it can be interrupted, whether there is something to do.
func (p *Process) interrupt() {
	p.in.memoryMu.Lock()
	defer p.in.memoryMu.Unlock()
	if p.in.linear.region != nil {
		atomic.StoreUint32(p.interruptWord, 1)
	}
}

// kill ends the process immediately, wherever it is.
func (p *Process) kill() {
	p.in.killOnce.Do(func() { close(p.in.killed) })
	p.interrupt()
}

func (p *Process) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// deliver runs the handlers of pending signals, as the kernel would, and reports whether there were any.
func (p *Process) deliver() bool {
	if p.pending.Load() == 0 || p.inHandler {
		return false
	}
	got := p.pending.Swap(0)
	p.inHandler = true
	defer func() { p.inHandler = false }()
	m, at := p.in.mem, p.c.rt.places
	errno, ran := m.u32(at.Errno), false
	for sig := uint32(1); sig < 32; sig++ {
		if got&(1<<sig) == 0 || m.u32(at.Sigactions+sigactionSize*sig) != at.WrapperHandler {
			continue // ignored, or not handled yet
		}
		if h := m.u32(at.SignalHandlers + 4*sig); h != 0 {
			p.in.callTable(h, sigOf("vi"), uint64(sig))
			ran = true
		}
	}
	m.putU32(at.Errno, errno)
	return ran
}

const sigactionSize = 20

// setTimer is the guest's setitimer(ITIMER_REAL): SIGALRM after the given number of milliseconds; zero: none.
func setTimer(in *Instance, s []uint64) {
	ms := math.Float64frombits(s[1])
	s[0] = 0
	if in.proc != nil {
		in.proc.alarm.set(time.Duration(ms * float64(time.Millisecond)))
	}
}

// set arms the alarm; zero: disarms it.
func (a *alarm) set(d time.Duration) {
	a.stop()
	if d <= 0 {
		return
	}
	t, quit := a.clock.NewTimer(d), make(chan struct{})
	a.quit = func() { close(quit) }
	go func() {
		defer t.Stop()
		select {
		case <-t.C():
			a.ring()
		case <-quit:
		}
	}()
}

func (a *alarm) stop() {
	if a.quit != nil {
		a.quit()
		a.quit = nil
	}
}

// From pmsignal.h: requests of a process to its postmaster. The flags are in PMSignalState.
const (
	beginStandby  = 2
	startLauncher = 4
	startWorker   = 5
	childCountAt  = 44
)

// postmaster handles a signal to the postmaster.
func (c *Cluster) postmaster(in *Instance, sig uint32) {
	switch sig {
	case sigHUP:
		if err := c.reload(); err != nil {
			c.o.Log("WARNING:  " + err.Error())
		}
		for _, p := range c.Processes() {
			p.signal(sigHUP)
		}
		if c.image.autovacuum && !c.o.Standby && c.process(KindLauncher) == nil {
			c.later(func() { c.warn(c.start(KindLauncher)) })
		}
	case sigUSR1:
		flags := in.mem.u32(c.rt.places.PMSignalState)
		asked := func(what uint32) bool {
			at := flags + 4*what
			set := in.mem.u32(at) != 0
			in.mem.putU32(at, 0)
			return set
		}
		if asked(beginStandby) {
			c.once.Do(func() { close(c.hot) })
		}
		if asked(startLauncher) && c.process(KindLauncher) == nil { // transaction IDs are running out, and autovacuum is off
			c.later(func() { c.warn(c.start(KindLauncher)) })
		}
		if asked(startWorker) {
			c.later(func() { c.warn(c.start(KindWorker)) })
		}
	}
}
