package lease

import (
	"testing"
	"time"

	"blobpglite/core/store/mem"
)

// TestReleaseOfALeaseThatHasRunOut: a lease that ran out long ago is left as it is, and the next opener takes it without waiting; one that
// a clock a minute behind could still believe valid is released.
func TestReleaseOfALeaseThatHasRunOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		idle     time.Duration
		released bool
	}{
		{0, true}, {ttl, true}, {ttl + clocksApart, true}, {ttl + clocksApart + time.Millisecond, false}, {15 * time.Minute, false},
	} {
		st, clk := mem.New(mem.Options{}), newClock()
		l := acquire(t, options(st, clk, "first"), 0)
		before, err := st.Get(t.Context(), Key)
		if err != nil {
			t.Fatal(err)
		}
		if err := clk.Sleep(t.Context(), c.idle); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		after, err := st.Get(t.Context(), Key)
		if err != nil {
			t.Fatal(err)
		}
		if released := after.Gen != before.Gen; released != c.released {
			t.Errorf("idle for %v: written at its end: %v", c.idle, released)
		}
		if l.Valid() || l.Ensure(t.Context()) == nil {
			t.Errorf("idle for %v: it is still held", c.idle)
		}
		began := clk.Monotonic()
		acquire(t, options(st, clk, "second"), 0)
		if waited := clk.Monotonic() - began; waited > 0 {
			t.Errorf("idle for %v: the next one waited for %v", c.idle, waited)
		}
	}
}
