package clock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A timeout runs on the given clock, and leaves nothing behind.
func TestWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewVirtual(time.Unix(0, 0))
		parent, leave := context.WithCancel(t.Context())
		ctx, cancel := WithTimeout(parent, v, time.Second)
		<-time.After(time.Hour) // the machine's clock: irrelevant
		if ctx.Err() != nil {
			t.Fatalf("ended by another clock: %v", ctx.Err())
		}
		v.Advance(time.Second - 1)
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatalf("ended too early: %v", ctx.Err())
		}
		v.Advance(1)
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) || parent.Err() != nil {
			t.Fatalf("%v, and of its parent %v", ctx.Err(), parent.Err())
		}
		cancel()

		ctx, cancel = WithTimeout(parent, v, time.Second)
		cancel()
		if ctx.Err() != context.Canceled {
			t.Errorf("canceled: %v", ctx.Err())
		}
		ctx, cancel = WithTimeout(parent, v, time.Second)
		defer cancel()
		leave()
		<-ctx.Done()
		if ctx.Err() != context.Canceled {
			t.Errorf("of a parent that has ended: %v", ctx.Err())
		}
		synctest.Wait()
		if n := v.Pending(); n != 0 {
			t.Errorf("%d timers are left", n)
		}

		ctx, cancel = WithTimeout(t.Context(), System(), time.Minute)
		defer cancel()
		if end, ok := ctx.Deadline(); !ok || time.Until(end) != time.Minute {
			t.Errorf("the system's: %v, %v", end, ok)
		}
	})
}
