package replica

import (
	"context"
	"fmt"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/pgdata"
)

// Without Options.MaxLag, a statement waits for a look if the last one is more than restPolls polls, and at least restLeast, in the past.
// That happens after a rest, or when the bucket does not answer.
const (
	restPolls = 3
	restLeast = 3 * time.Second
)

// ask is called before a statement runs: it notes that the replica is in use, and waits for a look if the last one is too old.
func (l *life) ask(ctx context.Context) error {
	r := l.r
	now := r.clock.Monotonic()
	rested := r.resting()
	r.asked.Store(int64(now))
	bound := r.o.MaxLag
	switch {
	case bound > 0:
	case rested:
		bound = r.o.Poll
	default:
		bound = max(restPolls*r.o.Poll, restLeast)
	}
	l.mu.Lock()
	fresh, tried := l.fresh, l.tried
	l.mu.Unlock()
	if now-fresh <= bound || r.o.MaxLag == 0 && !rested && now-tried <= bound {
		if rested { // it begins looking again
			signal(l.kick)
		}
		return nil
	}
	err := l.awaitLook(ctx, now-bound)
	if err != nil && r.o.MaxLag == 0 && ctx.Err() == nil {
		r.log.Warn("the replica serves the state that it has, because it could not read the log", "error", err)
		return nil
	}
	return err
}

// awaitLook waits for a look that began at or after since and reached the end of the log.
func (l *life) awaitLook(ctx context.Context, since time.Duration) error {
	r := l.r
	limit := r.clock.NewTimer(r.o.WaitLimit)
	defer limit.Stop()
	called := r.clock.Monotonic()
	for {
		l.mu.Lock()
		fresh, tried, trouble, changed := l.fresh, l.tried, l.trouble, l.changed
		l.mu.Unlock()
		switch {
		case fresh >= since:
			return nil
		case tried >= called && trouble != nil:
			return fmt.Errorf("%w: %w", ErrStale, trouble)
		}
		signal(l.kick)
		select {
		case <-changed:
		case <-limit.C():
			return fmt.Errorf("%w: no look at the log has succeeded within %v", ErrStale, r.o.WaitLimit)
		case <-l.engine.Failed():
			return l.engine.Err()
		case <-l.engine.Done():
			return engine.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitFirst is the pause after a look that has not reached the awaited position; it doubles each time, up to Options.Poll.
const awaitFirst = 10 * time.Millisecond

// await waits until the replica has reached a position.
func (l *life) await(ctx context.Context, position uint64) error {
	r := l.r
	limit := r.clock.NewTimer(r.o.WaitLimit)
	defer limit.Stop()
	pause := min(awaitFirst, r.o.Poll)
	there := func() bool { return l.engine.Reached() >= position || l.engine.Position() >= position }
	for !there() {
		r.asked.Store(int64(r.clock.Monotonic()))
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		signal(l.kick)
		late := fmt.Errorf("%w: the replica is at %s, and %s was requested", engine.ErrBehind, pgdata.LSN(l.engine.Position()), pgdata.LSN(position))
		select {
		case <-changed:
		case <-limit.C():
			if why := l.stoppedBy(); why != nil {
				return fmt.Errorf("%w, and replay has stopped: %w", late, why)
			}
			return fmt.Errorf("%w %v ago", late, r.o.WaitLimit)
		case <-l.engine.Failed():
			return l.engine.Err()
		case <-l.engine.Done():
			return engine.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
		if !there() {
			if err := r.clock.Sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, r.o.Poll)
		}
	}
	return nil
}
