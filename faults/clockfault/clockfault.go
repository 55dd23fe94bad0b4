// Package clockfault is a clock that goes wrong as clocks do: it jumps, drifts, stops.
//
//	clk := clockfault.New(clock.System())
//	clk.Jump(-time.Hour)   // the wall clock only: like a step of NTP
//	clk.Drift(1.5)         // both readings run 1.5 times as fast from now on
//	clk.Freeze()           // both stop, including timers: like a suspended machine
//	clk.Thaw()             // they continue where they stopped; the wall clock stays behind
//
// The monotonic reading never runs backwards, whatever is done: operating systems also keep that promise.
package clockfault

import (
	"context"
	"fmt"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// Clock is a clock.Clock that can go wrong. It is safe for concurrent use.
type Clock struct {
	base clock.Clock

	mu      sync.Mutex
	rate    float64       // own time per base time
	frozen  bool          // as a rate of zero
	baseAt  time.Duration // base monotonic reading at the last change
	own     time.Duration // own monotonic reading then
	wall    time.Time     // own wall clock then
	changed chan struct{} // closed at each change: timers look again
	faults  int64
}

// New makes a clock that is right until one of its methods makes it wrong.
func New(base clock.Clock) *Clock {
	c := &Clock{base: base, rate: 1, changed: make(chan struct{})}
	c.baseAt, c.own, c.wall = base.Monotonic(), base.Monotonic(), base.Now()
	return c
}

// Jump steps the wall clock.
func (c *Clock) Jump(d time.Duration) {
	c.change(func() { c.wall = c.wall.Add(d) })
}

// Drift sets how fast both readings run: 1 is right. It must be positive.
func (c *Clock) Drift(rate float64) error {
	if !(rate > 0 && rate <= 1e6) {
		return fmt.Errorf("drift of a clock: a rate of %v: want one above 0, at most a million", rate)
	}
	c.change(func() { c.rate = rate })
	return nil
}

// Freeze stops both readings and all timers.
func (c *Clock) Freeze() { c.change(func() { c.frozen = true }) }

// Thaw lets readings and timers continue.
func (c *Clock) Thaw() { c.change(func() { c.frozen = false }) }

// Fired is how often the clock was changed. A test that expects faults should check that it is not zero.
func (c *Clock) Fired() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults
}

func (c *Clock) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	do()
	c.faults++
	close(c.changed)
	c.changed = make(chan struct{})
}

// settle brings the readings up to now. c.mu is held.
func (c *Clock) settle() {
	now := c.base.Monotonic()
	passed := c.scaled(now - c.baseAt)
	c.baseAt, c.own, c.wall = now, c.own+passed, c.wall.Add(passed)
}

func (c *Clock) scaled(d time.Duration) time.Duration {
	if c.frozen {
		return 0
	}
	return time.Duration(float64(d) * c.rate)
}

// Now is the wall clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall.Add(c.scaled(c.base.Monotonic() - c.baseAt))
}

// Monotonic never runs backwards.
func (c *Clock) Monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own + c.scaled(c.base.Monotonic()-c.baseAt)
}

// left returns how much base time passes until an own monotonic reading, and a channel that closes at the next change. Less than zero:
// never.
func (c *Clock) left(until time.Duration) (time.Duration, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	switch own := until - c.own; {
	case own <= 0:
		return 0, c.changed
	case c.frozen:
		return -1, c.changed
	default:
		return max(time.Duration(float64(own)/c.rate), 1), c.changed
	}
}

type timer struct {
	fire chan time.Time
	stop chan struct{}

	mu    sync.Mutex
	ended bool
}

// NewTimer fires when the own monotonic reading has advanced by d.
func (c *Clock) NewTimer(d time.Duration) clock.Timer {
	t := &timer{fire: make(chan time.Time, 1), stop: make(chan struct{})}
	until := c.Monotonic() + d
	go t.run(c, until)
	return t
}

// run waits in base time, and looks again whenever the clock is changed. It ends when the timer fires or is stopped.
func (t *timer) run(c *Clock, until time.Duration) {
	for {
		left, changed := c.left(until)
		var due <-chan time.Time
		var base clock.Timer
		if left >= 0 {
			base = c.base.NewTimer(left)
			due = base.C()
		}
		select {
		case <-due:
			if left, _ := c.left(until); left == 0 && t.end() {
				t.fire <- c.Now()
				return
			}
		case <-changed:
		case <-t.stop:
			if base != nil {
				base.Stop()
			}
			return
		}
		if base != nil {
			base.Stop()
		}
	}
}

// end reports whether the timer was still running.
func (t *timer) end() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := !t.ended
	t.ended = true
	return was
}

func (t *timer) C() <-chan time.Time { return t.fire }

func (t *timer) Stop() bool {
	if !t.end() {
		return false
	}
	close(t.stop)
	return true
}

// Sleep waits on a timer of this clock.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
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
