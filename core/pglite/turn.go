package pglite

import (
	"iter"
	"sync"
	"time"
)

// A process is a coroutine: it runs on the goroutine that resumes it, until it pauses. Usually that is its own, the one started with it.
// But while it rests, waiting for its client, the client's goroutine may resume it (Conn.Run): then the statement runs on that goroutine,
// and the answer is there when Run returns. No other goroutine needs waking. With more than one processor that would mean waking a thread
// on another one, which costs more than a small statement.
//
// A client's goroutine runs a process only while nothing waits for the lock. When the process would wait, or takes long, it is handed over
// to its own goroutine and continues there, and Run returns.
type turns struct {
	resume func() (pause, bool) // runs the process until it pauses; false: it has ended
	yield  func(pause) bool     // pauses; called by the process

	direct bool // a client's goroutine runs it. Owned by the running goroutine

	mu    sync.Mutex
	state turn
	again bool          // woken while it ran directly
	left  time.Duration // how long it rests; below zero: without limit
	news  chan struct{} // tells its own goroutine to look at state again
}

// turn says which goroutine runs a process.
type turn int

const (
	turnOwn    turn = iota // its own goroutine runs it, or is about to
	turnRests              // none runs it
	turnDirect             // a client's goroutine runs it
	turnOver               // it has ended
)

// pause says why a process paused: to rest for left (below zero: without limit), or to continue on its own goroutine.
type pause struct {
	left     time.Duration
	handOver bool
}

// loop is the process's own goroutine.
func (p *Process) loop(run body) {
	t := &p.turns
	t.resume, _ = iter.Pull(func(yield func(pause) bool) {
		t.yield = yield
		p.run(run)
	})
	for {
		pause, more := t.resume()
		if !more || !p.awaken(pause.left) {
			return
		}
	}
}

// awaken waits while the process rests, until it must continue on its own goroutine; false: it has ended.
func (p *Process) awaken(left time.Duration) bool {
	t := &p.turns
	t.mu.Lock()
	t.state, t.left = turnRests, left
	t.mu.Unlock()
	killed := (<-chan struct{})(p.in.killed)
	for {
		end, stop := p.timer(left)
		woken := true
		select {
		case <-end:
		case <-p.wake:
		case <-killed:
			killed = nil // so that it is handled once
		case <-t.news:
			woken = false
		}
		stop()
		t.mu.Lock()
		left = t.left
		switch {
		case t.state == turnOver:
			t.mu.Unlock()
			return false
		case t.state == turnRests && woken:
			t.state = turnOwn
			t.mu.Unlock()
			return true
		case t.state == turnDirect && woken:
			t.again = true
		case t.state == turnOwn: // it was handed over, and now waits itself
			woken, t.again = woken || t.again, false
			t.mu.Unlock()
			if woken {
				p.poke() // what came in the meantime is for that wait
			}
			return true
		}
		t.mu.Unlock()
	}
}

// timer returns a timer that fires once; below zero: never.
func (p *Process) timer(d time.Duration) (end <-chan time.Time, stop func()) {
	if d < 0 {
		return nil, func() {}
	}
	t := p.in.clock.NewTimer(d)
	return t.C(), func() { t.Stop() }
}

// idle pauses the process until something wakes it, left has passed (below zero: without limit), or it is killed. It has the lock, and
// gives it up while it is paused.
func (p *Process) idle(left time.Duration) {
	p.c.lock.unlock()
	p.turns.yield(pause{left: left})
	if !p.turns.direct { // else Conn.Run has it already
		p.c.lock.lock(p)
	}
}

// aside waits for something without the lock, so that others run. All waits of a process go through it, except those that idle ends: a
// client's goroutine must not be held up, and only on its own goroutine does a process notice what wakes it.
func (p *Process) aside(wait func()) {
	p.handOver()
	p.c.lock.unlock()
	wait()
	p.c.lock.lock(p)
}

// handOver moves the process to its own goroutine, if a client's goroutine runs it. Call it before anything that may take long.
func (p *Process) handOver() {
	if !p.turns.direct {
		return
	}
	if p.conn != nil {
		signalOne(p.conn.heard) // what it has answered so far
	}
	p.c.stats.handedOver.Add(1)
	p.turns.yield(pause{handOver: true})
}

// runDirectly runs a resting process on the caller's goroutine, until it rests again or hands itself over. If another goroutine runs it, or
// the lock is taken, it does nothing and returns false.
func (p *Process) runDirectly() bool {
	t := &p.turns
	t.mu.Lock()
	if t.state != turnRests || !p.c.lock.tryLock(p) {
		t.mu.Unlock()
		return false
	}
	p.c.stats.direct.Add(1)
	t.state = turnDirect
	before := t.left
	t.mu.Unlock()
	t.direct = true
	pause, more := t.resume()
	t.direct = false
	t.mu.Lock()
	switch {
	case !more:
		t.state = turnOver
	case pause.handOver || t.again:
		t.state = turnOwn
	default:
		t.state, t.left = turnRests, pause.left
	}
	tell := t.state != turnRests || t.left >= 0 || before >= 0
	t.mu.Unlock()
	if tell {
		signalOne(t.news)
	}
	return true
}
