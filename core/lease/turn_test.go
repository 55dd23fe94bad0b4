package lease

import (
	"context"
	"errors"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// silent is a store that, while deaf, does not answer puts of the lease until the put's context ends.
type silent struct {
	store.Store
	deaf  bool
	asked chan struct{}
}

func (s *silent) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if !s.deaf {
		return s.Store.Put(ctx, key, body, id, cond)
	}
	close(s.asked)
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestNobodyWaitsForAnothersWrite longer than its own context allows: neither a release, nor a renewal, nor serving by the lease waits for
// another goroutine's renewal that gets no answer.
func TestNobodyWaitsForAnothersWrite(t *testing.T) {
	t.Parallel()
	st, clk := &silent{Store: mem.New(mem.Options{}), asked: make(chan struct{})}, newClock()
	l := acquire(t, options(st, clk, "first"), 0)
	clk.Advance(ttl) // it has run out, so Ensure would write it
	st.deaf = true
	stuck, giveUp := context.WithCancel(t.Context())
	renewed := make(chan error, 1)
	go func() { renewed <- l.Renew(stuck) }()
	<-st.asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func(context.Context) error{"release": l.Release, "renew": l.Renew, "ensure": l.Ensure} {
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	giveUp()
	if err := <-renewed; !errors.Is(err, context.Canceled) {
		t.Errorf("the renewal: %v", err)
	}
	st.deaf = false
	if err := l.Ensure(t.Context()); err != nil { // the turn is free again, and the lease is still ours
		t.Error(err)
	}
}
