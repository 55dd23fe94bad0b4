package clock

import (
	"context"
	"time"
)

// WithTimeout is context.WithTimeout on a clock: the context ends when d has passed on c, with context.DeadlineExceeded.
// Its Deadline method returns ctx's, because deadlines are readings of the system's clock. Call cancel, as with
// context.WithTimeout.
func WithTimeout(ctx context.Context, c Clock, d time.Duration) (_ context.Context, cancel context.CancelFunc) {
	if _, ok := c.(system); ok {
		return context.WithTimeout(ctx, d)
	}
	inner, end := context.WithCancelCause(ctx)
	timer := c.NewTimer(d)
	go func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			end(context.DeadlineExceeded)
		case <-inner.Done():
		}
	}()
	return timed{inner}, func() { end(context.Canceled) }
}

// timed is a context whose Err is context.DeadlineExceeded if its time has run out.
type timed struct{ context.Context }

// Err implements context.Context.
func (t timed) Err() error {
	if context.Cause(t.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return t.Context.Err()
}
