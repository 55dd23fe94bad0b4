package lease

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// late is a store that does not answer puts while it is deaf, and may apply the first of them later.
type late struct {
	store.Store
	deaf bool
	held []func() error
}

func (l *late) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if !l.deaf {
		return l.Store.Put(ctx, key, body, id, cond)
	}
	l.held = append(l.held, func() error {
		_, err := l.Store.Put(context.WithoutCancel(ctx), key, body, id, cond)
		return err
	})
	return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
}

// apply performs the n-th held put.
func (l *late) apply(t *testing.T, n int) {
	t.Helper()
	if err := l.held[n](); err != nil {
		t.Fatal(err)
	}
}

// deafRenewal makes a lease one of whose renewals ended without an answer.
func deafRenewal(t *testing.T) (*late, skipping, *Lease) {
	t.Helper()
	st, clk := &late{Store: mem.New(mem.Options{})}, newClock()
	l := acquire(t, options(st, clk, "first"), 0)
	st.deaf = true
	if err := l.Renew(t.Context()); !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("a renewal without an answer: %v", err)
	}
	st.deaf = false
	return st, clk, l
}

// TestLateRenewalIsOurs: a renewal that ended without an answer was applied after all. The next one finds another generation than its own,
// with its own write id in it.
func TestLateRenewalIsOurs(t *testing.T) {
	t.Parallel()
	st, clk, l := deafRenewal(t)
	st.apply(t, 0)
	if err := l.Renew(t.Context()); err != nil {
		t.Fatalf("a false alarm: %v", err)
	}
	if !l.Valid() || len(l.undecided) != 0 {
		t.Errorf("valid: %t, undecided: %v", l.Valid(), l.undecided)
	}
	clk.Advance(2 * ttl)
	if err := l.Ensure(t.Context()); err != nil {
		t.Errorf("the renewal after it: %v", err)
	}
}

// TestLateRenewalOfSeveral: of several renewals without an answer, any may be the one that was applied.
func TestLateRenewalOfSeveral(t *testing.T) {
	t.Parallel()
	for n := range 2 {
		st, _, l := deafRenewal(t)
		first := len(st.held)
		st.deaf = true
		if err := l.Renew(t.Context()); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		st.deaf = false
		st.apply(t, n*first)
		if err := l.Renew(t.Context()); err != nil {
			t.Errorf("renewal %d was applied late: %v", n, err)
		}
	}
}

// TestLateRenewalLosesToAnAnsweredOne: once a swap of the same generation is known to have succeeded, the late one is void.
func TestLateRenewalLosesToAnAnsweredOne(t *testing.T) {
	t.Parallel()
	st, _, l := deafRenewal(t)
	if err := l.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.held[0](); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a swap of an old generation: %v", err)
	}
	if err := l.Renew(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLateRenewalAndATakeover: a rival that took over after the late renewal is a rival.
func TestLateRenewalAndATakeover(t *testing.T) {
	t.Parallel()
	st, clk, l := deafRenewal(t)
	st.apply(t, 0)
	clk.Advance(2 * ttl)
	acquire(t, options(st, clk, "second"), 0)
	if err := l.Renew(t.Context()); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "second") {
		t.Errorf("taken over, and told: %v", err)
	}
}

// TestReleaseBehindALateRenewal: the lease is free afterwards.
func TestReleaseBehindALateRenewal(t *testing.T) {
	t.Parallel()
	st, clk, l := deafRenewal(t)
	st.apply(t, 0)
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	acquire(t, options(st, clk, "second"), 0)
}

func TestUndecidedIsBounded(t *testing.T) {
	t.Parallel()
	st, _, l := deafRenewal(t)
	st.deaf = true
	for range maxUndecided + 5 {
		if err := l.Renew(t.Context()); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
	}
	if len(l.undecided) != maxUndecided {
		t.Errorf("%d are remembered", len(l.undecided))
	}
}

// TestRefusedRenewalIsNotInDoubt: a write that was never applied need not be remembered.
func TestRefusedRenewalIsNotInDoubt(t *testing.T) {
	t.Parallel()
	clk := newClock()
	st := &refusing{Store: mem.New(mem.Options{})}
	l := acquire(t, options(st, clk, "first"), 0)
	st.refuse = true
	if err := l.Renew(t.Context()); !errors.Is(err, store.ErrDenied) {
		t.Fatal(err)
	}
	if len(l.undecided) != 0 {
		t.Errorf("remembered: %v", l.undecided)
	}
}

type refusing struct {
	store.Store
	refuse bool
}

func (r *refusing) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if r.refuse {
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrDenied}
	}
	return r.Store.Put(ctx, key, body, id, cond)
}

func sample() State {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return State{Format: Format, Holder: "h", Address: "h:5432", Acquired: at, Expires: at.Add(ttl), WriteID: "w"}
}

func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	body, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Decode(body); err != nil || s != sample() {
		t.Fatalf("%+v, %v", s, err)
	}
	for name, change := range map[string]func(string) string{
		"a field missing": func(s string) string { return strings.Replace(s, `"holder":"h",`, "", 1) },
		"a field doubled": func(s string) string { return strings.Replace(s, `{`, `{"holder":"x",`, 1) },
		"another case":    func(s string) string { return strings.Replace(s, "holder", "Holder", 1) },
		"another order": func(s string) string {
			return strings.Replace(s, `"holder":"h","address":"h:5432"`, `"address":"h:5432","holder":"h"`, 1)
		},
		"another time zone":  func(s string) string { return strings.Replace(s, "03:04:05.000000006Z", "04:04:05.000000006+01:00", 1) },
		"null":               func(string) string { return "null" },
		"a null field":       func(s string) string { return strings.Replace(s, `"h:5432"`, "null", 1) },
		"cut":                func(s string) string { return s[:len(s)-1] },
		"more behind":        func(s string) string { return s + "x" },
		"not UTF-8":          func(s string) string { return strings.Replace(s, `"h"`, "\"\xff\"", 1) },
		"too large":          func(s string) string { return s + strings.Repeat(" ", MaxBytes) },
		"too long a text":    func(s string) string { return strings.Replace(s, `"h"`, `"`+strings.Repeat("h", maxText+1)+`"`, 1) },
		"an address of none": func(s string) string { return strings.Replace(s, `"holder":"h"`, `"holder":""`, 1) },
		"format 0":           func(s string) string { return strings.Replace(s, `"format":1`, `"format":0`, 1) },
	} {
		changed := change(string(body))
		if changed == string(body) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Decode([]byte(changed)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var loose strings.Builder
	for _, r := range string(body) {
		loose.WriteRune(r)
		if r == '{' || r == ',' {
			loose.WriteString("\n  ")
		}
	}
	if _, err := Decode([]byte(loose.String())); err != nil {
		t.Errorf("white space: %v", err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*State){
		"no write id":                  func(s *State) { s.WriteID = "" },
		"another format":               func(s *State) { s.Format = 2 },
		"a long holder":                func(s *State) { s.Holder = strings.Repeat("x", maxText+1) },
		"not UTF-8":                    func(s *State) { s.Address = "\xff" },
		"a year that JSON cannot hold": func(s *State) { s.Expires = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		s := sample()
		change(&s)
		if _, err := Encode(s); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecodeStrict: whatever is accepted encodes as it was, except for white space.
func FuzzDecodeStrict(f *testing.F) {
	body, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := Decode(body)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		again, err := Encode(s)
		if err != nil || !json.Valid(again) || len(body) > MaxBytes {
			t.Fatalf("%q was accepted as %+v, which cannot be written: %v", body, s, err)
		}
		if back, err := Decode(again); err != nil || back != s {
			t.Errorf("%+v came back as %+v, %v", s, back, err)
		}
	})
}
