package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func fired(t clock.Timer) bool {
	select {
	case <-t.C():
		return true
	default:
		return false
	}
}

func TestSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clk := clock.System()
		wall, mono := clk.Now(), clk.Monotonic()
		if err := clk.Sleep(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if d := clk.Now().Sub(wall); d != time.Minute {
			t.Errorf("the wall clock moved by %v in a minute", d)
		}
		if d := clk.Monotonic() - mono; d != time.Minute {
			t.Errorf("the monotonic clock moved by %v in a minute", d)
		}
		timer, stopped := clk.NewTimer(time.Second), clk.NewTimer(time.Second)
		if !stopped.Stop() {
			t.Error("a running timer says that it could not be stopped")
		}
		<-timer.C()
		if timer.Stop() || fired(stopped) {
			t.Error("a timer that fired was stopped, or a stopped one fired")
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, clk := range map[string]clock.Clock{"system": clock.System(), "virtual": clock.NewVirtual(start)} {
			ctx, cancel := context.WithCancel(t.Context())
			slept := make(chan error)
			go func() { slept <- clk.Sleep(ctx, time.Hour) }()
			synctest.Wait() // it sleeps
			cancel()
			if err := <-slept; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: a canceled sleep returns %v", name, err)
			}
			if err := clk.Sleep(ctx, 0); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: a sleep of nothing under a canceled context returns %v", name, err)
			}
			if err := clk.Sleep(t.Context(), -1); err != nil {
				t.Errorf("%s: a negative sleep returns %v", name, err)
			}
		}
	})
}

func TestVirtualMovesOnlyWhenTold(t *testing.T) {
	clk := clock.NewVirtual(start)
	late, early, gone := clk.NewTimer(3*time.Second), clk.NewTimer(time.Second), clk.NewTimer(2*time.Second)
	now := clk.NewTimer(0)
	if !fired(now) || fired(early) {
		t.Error("a timer of zero fires at once, one of a second does not")
	}
	if clk.Pending() != 3 || !gone.Stop() || gone.Stop() || clk.Pending() != 2 {
		t.Errorf("%d timers are pending after one of three was stopped", clk.Pending())
	}
	clk.Advance(time.Second)
	if !fired(early) || fired(late) || early.Stop() {
		t.Error("after a second the timer of one second has fired, and only that")
	}
	clk.Advance(time.Hour)
	select {
	case at := <-late.C():
		if want := start.Add(3 * time.Second); !at.Equal(want) {
			t.Errorf("the timer of three seconds says it fired at %v, want %v", at, want)
		}
	default:
		t.Error("the timer of three seconds did not fire in an hour")
	}
	if fired(gone) {
		t.Error("a stopped timer fired")
	}
	if !clk.Now().Equal(start.Add(time.Hour+time.Second)) || clk.Monotonic() != time.Hour+time.Second {
		t.Errorf("the clock reads %v, %v", clk.Now(), clk.Monotonic())
	}
}

func TestAwaitPending(t *testing.T) {
	clk := clock.NewVirtual(start)
	const sleepers = 3
	woken := make(chan error)
	for range sleepers {
		go func() { woken <- clk.Sleep(t.Context(), time.Minute) }()
	}
	if err := clk.AwaitPending(t.Context(), sleepers); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Minute)
	for range sleepers {
		if err := <-woken; err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := clk.AwaitPending(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("await under a canceled context returns %v", err)
	}
}

func TestAdvanceBackwardsPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the clock ran backwards")
		}
	}()
	clock.NewVirtual(start).Advance(-1)
}
