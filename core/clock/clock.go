// Package clock is the only reader of time: everything that waits, times out or stamps takes a Clock.
//
//	clk := clock.System()
//	start := clk.Monotonic()
//	if err := clk.Sleep(ctx, 50*time.Millisecond); err != nil { return err }
//	elapsed := clk.Monotonic() - start
//
// Two readings are kept apart on purpose. Now is the wall clock: it may step (NTP, a suspended machine) and goes into
// records for people and into lease expiry times, which only ever affect liveness. Monotonic never steps backwards;
// durations and "am I still inside my own lease" are measured with it.
//
// Virtual is a clock that moves only when a test advances it.
package clock

import (
	"context"
	"time"
)

// Clock reads and waits for time. Implementations are safe for concurrent use.
type Clock interface {
	// Now returns the wall clock's time: for records and for leases. It may step in either direction.
	Now() time.Time
	// Monotonic returns the time since an arbitrary start. It never steps and never runs backwards.
	Monotonic() time.Duration
	// NewTimer returns a timer that fires once after d. A d of zero or less fires immediately.
	NewTimer(d time.Duration) Timer
	// Sleep waits for d, or until ctx is done: then it returns the context's error. A d of zero or less returns
	// immediately, with the context's error if it is already done.
	Sleep(ctx context.Context, d time.Duration) error
}

// Timer fires once.
type Timer interface {
	// C delivers one value when the timer fires. The channel is never closed.
	C() <-chan time.Time
	// Stop prevents the timer from firing. It reports whether it did: false if the timer had already fired or been
	// stopped.
	Stop() bool
}

// System returns the machine's clock. Its monotonic reading starts at zero at this call.
func System() Clock { return system{start: time.Now()} }

type system struct{ start time.Time }

func (system) Now() time.Time             { return time.Now() }
func (s system) Monotonic() time.Duration { return time.Since(s.start) }

func (system) NewTimer(d time.Duration) Timer { return systemTimer{time.NewTimer(d)} }

func (s system) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, s, d) }

type systemTimer struct{ t *time.Timer }

func (t systemTimer) C() <-chan time.Time { return t.t.C }
func (t systemTimer) Stop() bool          { return t.t.Stop() }

// sleep waits on a timer of c: the one implementation of Sleep.
func sleep(ctx context.Context, c Clock, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
