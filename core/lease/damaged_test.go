package lease

import (
	"context"
	"errors"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestWhatIsNoLeaseIsReplaced: it blocks no opener, and is reported. What a newer version wrote stays.
func TestWhatIsNoLeaseIsReplaced(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"not JSON": "hello", "empty": "", "half of one": `{"format":1,"holder":"h",`, "unknown field": `{"format":1,"write_id":"w","surprise":1}`,
		"too large": strings.Repeat(" ", MaxBytes+1),
	} {
		st, clk := mem.New(mem.Options{}), newClock()
		if _, err := st.Put(t.Context(), Key, []byte(body), "w", store.Always()); err != nil {
			t.Fatal(err)
		}
		o, heard := options(st, clk, "first"), []error(nil)
		o.Damaged = func(err error) { heard = append(heard, err) }
		acquire(t, o, 0)
		if len(heard) != 1 || !errors.Is(heard[0], ErrCorrupt) || !strings.Contains(heard[0].Error(), "generation 1") {
			t.Errorf("%s: heard %v", name, heard)
		}
		if _, err := Acquire(t.Context(), options(st, clk, "second"), 0); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: the lease that replaced it: %v", name, err)
		}
	}
	st := mem.New(mem.Options{})
	const newer = `{"format":9,"surprise":1}`
	if _, err := st.Put(t.Context(), Key, []byte(newer), "w", store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), options(st, newClock(), "first"), 0); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer version's: %v", err)
	}
	if o, err := st.Get(t.Context(), Key); err != nil || string(o.Body) != newer {
		t.Error("a newer version's was changed")
	}
}

// TestADamagedLeaseIsSwapped: exactly the version that was read is replaced. A rival that is faster keeps the lease.
func TestADamagedLeaseIsSwapped(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	if _, err := st.Put(t.Context(), Key, []byte("hello"), "w", store.Always()); err != nil {
		t.Fatal(err)
	}
	o := options(st, clk, "slow")
	o.Damaged = func(error) { acquire(t, options(st, clk, "fast"), 0) }
	var locked *LockedError
	if _, err := Acquire(t.Context(), o, 0); !errors.As(err, &locked) || locked.Holder != "fast" {
		t.Errorf("got %v", err)
	}
}

// TestAHolderWhoseLeaseWasOverwritten has lost it, and says so; it does not overwrite what is there.
func TestAHolderWhoseLeaseWasOverwritten(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	l := acquire(t, options(st, clk, "holder"), 0)
	if _, err := st.Put(t.Context(), Key, []byte("hello"), "w", store.Always()); err != nil {
		t.Fatal(err)
	}
	if err := l.Renew(context.Background()); !errors.Is(err, ErrLost) {
		t.Errorf("renew: %v", err)
	}
	if err := l.Release(context.Background()); err != nil {
		t.Errorf("release: %v", err)
	}
	if o, err := st.Get(t.Context(), Key); err != nil || string(o.Body) != "hello" {
		t.Errorf("there is %q, %v", o.Body, err)
	}
}

// TestAReleaseTakesNothingFromARival: a holder that slept past its time releases a lease that it no longer has, without having noticed.
func TestAReleaseTakesNothingFromARival(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	l := acquire(t, options(st, clk, "sleeper"), 0)
	clk.Advance(ttl)
	acquire(t, options(st, clk, "rival"), 0)
	if err := l.Release(context.Background()); err != nil {
		t.Errorf("release: %v", err)
	}
	var locked *LockedError
	if _, err := Acquire(t.Context(), options(st, clk, "third"), 0); !errors.As(err, &locked) || locked.Holder != "rival" {
		t.Errorf("a third one: %v", err)
	}
}
