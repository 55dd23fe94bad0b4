package pglite

import (
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
)

// tickBeat is the portable beat: a goroutine. While Go's garbage collector waits for a statement that computes without calling the host,
// this goroutine waits too, until the statement calls the host or ends. All systems except Linux on amd64 use it.
type tickBeat struct {
	every       time.Duration
	clock       clock.Clock
	wake        chan struct{}
	quit, ended chan struct{}

	mu     sync.Mutex
	target *uint32
	parked bool // waits for wake
}

// idleBeats is the number of beats without a target after which the goroutine waits for one.
const idleBeats = 16

func newTickBeat(every time.Duration) *tickBeat {
	b := &tickBeat{every: every, clock: clock.System(), wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go b.run()
	return b
}

func (b *tickBeat) run() {
	defer close(b.ended)
	for idle := 0; ; {
		t := b.clock.NewTimer(b.every)
		select {
		case <-t.C():
		case <-b.quit:
			t.Stop()
			return
		}
		if idle++; b.strike() {
			idle = 0
		}
		if idle < idleBeats || !b.park() {
			continue
		}
		idle = 0
		select {
		case <-b.wake:
		case <-b.quit:
			return
		}
	}
}

// strike stores a one at the target; false: there is no target.
func (b *tickBeat) strike() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.target != nil {
		atomic.StoreUint32(b.target, 1)
	}
	return b.target != nil
}

// park notes that the goroutine must be woken, unless there is a target.
func (b *tickBeat) park() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parked = b.target == nil
	return b.parked
}

// aim sets where a one is stored from now on; nil: nowhere.
func (b *tickBeat) aim(word *uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.target = word
	if word != nil && b.parked {
		b.parked = false
		b.wake <- struct{}{}
	}
}

// quiesce has nothing to do: after aim, nothing is stored at the earlier target.
func (b *tickBeat) quiesce() {}

// close ends the goroutine.
func (b *tickBeat) close() {
	b.aim(nil)
	close(b.quit)
	<-b.ended
}
