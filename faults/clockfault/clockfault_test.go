package clockfault

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func at() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestGoesRightUntilTold(t *testing.T) {
	base := clock.NewVirtual(at())
	c := New(base)
	base.Advance(time.Hour)
	if c.Now() != base.Now() || c.Monotonic() != base.Monotonic() || c.Fired() != 0 {
		t.Errorf("%v %v instead of %v %v", c.Now(), c.Monotonic(), base.Now(), base.Monotonic())
	}
}

func TestJumpMovesTheWallOnly(t *testing.T) {
	base := clock.NewVirtual(at())
	c := New(base)
	base.Advance(time.Second)
	c.Jump(-time.Hour)
	base.Advance(time.Second)
	if want := at().Add(2*time.Second - time.Hour); !c.Now().Equal(want) {
		t.Errorf("wall %v, want %v", c.Now(), want)
	}
	if c.Monotonic() != base.Monotonic() {
		t.Errorf("monotonic %v", c.Monotonic())
	}
}

func TestDriftAndFreeze(t *testing.T) {
	base := clock.NewVirtual(at())
	c := New(base)
	start := c.Monotonic()
	if err := c.Drift(2); err != nil {
		t.Fatal(err)
	}
	base.Advance(time.Second) // 2 s
	c.Freeze()
	base.Advance(time.Minute) // nothing
	c.Thaw()
	base.Advance(time.Second) // 2 s, at the old rate
	if err := c.Drift(0.5); err != nil {
		t.Fatal(err)
	}
	base.Advance(time.Second) // 0.5 s
	if got, want := c.Monotonic()-start, 4500*time.Millisecond; got != want {
		t.Errorf("monotonic went on by %v, want %v", got, want)
	}
	if want := at().Add(4500 * time.Millisecond); !c.Now().Equal(want) {
		t.Errorf("wall %v, want %v", c.Now(), want)
	}
	for _, rate := range []float64{0, -1, 1e9} {
		if c.Drift(rate) == nil {
			t.Errorf("a rate of %v was taken", rate)
		}
	}
	if c.Fired() != 4 {
		t.Errorf("counted %d", c.Fired())
	}
}

// TestTimersFollow: a timer fires by the clock's own time, however that changes while it runs.
func TestTimersFollow(t *testing.T) {
	base := clock.NewVirtual(at())
	c := New(base)
	timer := c.NewTimer(10 * time.Second)
	c.Freeze()
	base.Advance(time.Hour)
	select {
	case <-timer.C():
		t.Fatal("a timer fired on a clock that stands")
	default:
	}
	c.Thaw()
	if err := c.Drift(5); err != nil {
		t.Fatal(err)
	}
	until := base.Monotonic() + 2*time.Second
	for fired := false; !fired; { // two seconds of the base's are ten of its own
		select {
		case <-timer.C():
			fired = true
			if base.Monotonic() < until {
				t.Errorf("fired %v early", until-base.Monotonic())
			}
		default:
			base.Advance(100 * time.Millisecond)
		}
	}
	if timer.Stop() {
		t.Error("a timer that had fired was stopped")
	}
	other := c.NewTimer(time.Second)
	if !other.Stop() || other.Stop() {
		t.Error("a timer is stopped once")
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	c := New(clock.System())
	c.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Sleep(ctx, time.Millisecond) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := c.Sleep(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
