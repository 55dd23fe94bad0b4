package replica

import (
	"context"
	"errors"

	"blobpglite/core/engine"
)

// moveFrom opens the newest layer alongside a life, and replaces the life once the new one has got at least as far. It reports whether it
// did; if not, the life continues.
func (r *Replica) moveFrom(ctx context.Context, l *life, because error) bool {
	if !errors.Is(because, engine.ErrCapacity) && !r.newer(ctx, l.from) {
		return false // nothing would be gained; it is tried again when there is a newer layer
	}
	r.log.Info("the replica is moving to the newest layer", "because", because)
	next, err := r.begin(ctx)
	if err == nil {
		if err = r.overtake(ctx, next, l); err != nil {
			next.engine.Abandon()
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			r.log.Warn("the replica could not move to the newest layer", "error", err)
		}
		return false
	}
	r.mu.Lock()
	if r.closed || r.life != l {
		r.mu.Unlock()
		next.engine.Abandon()
		return false
	}
	r.next = next
	r.mu.Unlock()
	r.moves.Add(1)
	l.engine.Move(because)
	return true
}

// overtakeLooks bounds how often the next life looks until it has got as far.
const overtakeLooks = 32

// overtake waits until next has got at least as far as l, so that a client that reconnects sees no less than before.
func (r *Replica) overtake(ctx context.Context, next, l *life) error {
	for range overtakeLooks {
		if next.engine.Position() >= l.engine.Position() {
			return nil
		}
		if err := next.awaitLook(ctx, r.clock.Monotonic()); err != nil {
			return err
		}
	}
	return errors.New("the newest layer and the log after it end before the state that this replica has already shown")
}
