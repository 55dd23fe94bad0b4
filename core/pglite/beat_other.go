//go:build !(linux && amd64)

package pglite

import (
	"sync"
	"sync/atomic"
	"time"
)

// beat asks, every so often, whoever runs a guest to come back to the host. Here a goroutine does it, which Go's garbage
// collector holds up, if it waits for a statement that computes without calling the host, until that calls it: on Linux on amd64
// a thread of its own does it.
type beat struct {
	mu     sync.Mutex
	target *uint32
	quit   chan struct{}
	ended  chan struct{}
}

func newBeat(every time.Duration) (*beat, error) {
	b := &beat{quit: make(chan struct{}), ended: make(chan struct{})}
	go b.run(every)
	return b, nil
}

func (b *beat) run(every time.Duration) {
	defer close(b.ended)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-b.quit:
			return
		}
		b.mu.Lock()
		if b.target != nil {
			atomic.StoreUint32(b.target, 1)
		}
		b.mu.Unlock()
	}
}

// aim says where a one is to be stored from now on; nil: nowhere.
func (b *beat) aim(word *uint32) {
	b.mu.Lock()
	b.target = word
	b.mu.Unlock()
}

// settle returns when nothing is stored any more where it was aimed before: aim has seen to that.
func (b *beat) settle() {}

// close ends it.
func (b *beat) close() {
	close(b.quit)
	<-b.ended
}
