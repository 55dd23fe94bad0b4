package takeover

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"blobpglite/core/lease"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

func allKeys(t *testing.T, st store.Store) []string {
	t.Helper()
	var out []string
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a.Key)
	}
	return out
}

// TestNoDatabaseWithinAnother: nor around one. Where one was refused, the other continues undisturbed.
func TestNoDatabaseWithinAnother(t *testing.T) {
	t.Parallel()
	bucket := mem.New(mem.Options{})
	outer := store.Prefixed(bucket, "a/P")
	o := mustOpen(t, outer, "w")
	if err := appendID(t, o, "one"); err != nil {
		t.Fatal(err)
	}
	before := allKeys(t, outer)
	for _, at := range []string{"wal", "base", "base/3-x", "base/00000000000000000001-00000000000000000002", "part/3-x", "part/1-x/y", "x", "x/y/z"} {
		for name, st := range map[string]store.Store{"a view": store.Prefixed(bucket, "a/P/"+at), "a view of a view": store.Prefixed(outer, at)} {
			if _, err := open(t, st, "inner"); !errors.Is(err, ErrNested) {
				t.Errorf("at %s by %s: %v", at, name, err)
			}
			for _, key := range allKeys(t, st) {
				if at != "wal" && at != "base" {
					t.Errorf("at %s: %s was written", at, key)
				}
			}
			if _, err := st.Get(t.Context(), lease.Key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("at %s: there is a lease: %v", at, err)
			}
		}
	}
	for _, at := range []string{"a", ""} {
		st := store.Prefixed(bucket, at)
		if _, err := open(t, st, "around"); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("around it at %q: %v", at, err)
		}
		if _, err := st.Get(t.Context(), lease.Key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("around it at %q: there is a lease: %v", at, err)
		}
	}
	if got := allKeys(t, outer); !slices.Equal(got, before) {
		t.Errorf("the database has %v, it had %v", got, before)
	}
	if _, err := Verify(t.Context(), outer); err != nil {
		t.Error(err)
	}
	if _, err := open(t, store.Prefixed(bucket, "a/Q"), "beside"); err != nil {
		t.Errorf("beside it: %v", err)
	}
	if o, err := open(t, outer, "again"); err != nil || o.Created {
		t.Errorf("it does not open: %v", err)
	}
}

// TestWhatMayStandAbove: only a database's manifest is a reason.
func TestWhatMayStandAbove(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"somebody's manifest": {`{"name": "my web app"}`, nil},
		"none":                {"", nil},
		"a newer version's":   {`{"format":99}`, ErrNested},
		"a damaged one":       {`{"format":1,"database_id":"x"`, ErrNested},
	} {
		bucket := mem.New(mem.Options{})
		if c.body != "" {
			if _, err := bucket.Put(t.Context(), "a/manifest", []byte(c.body), "", store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := open(t, store.Prefixed(bucket, "a/b/c"), "w"); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A user that may see only its own prefix can still create a database.
	own := &placed{Store: mem.New(mem.Options{}), above: denied{mem.New(mem.Options{}), store.ErrDenied}}
	if _, err := open(t, own, "w"); err != nil {
		t.Errorf("what is above may not be read: %v", err)
	}
	own = &placed{Store: mem.New(mem.Options{}), above: denied{mem.New(mem.Options{}), store.ErrUnavailable}}
	if _, err := open(t, own, "w"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("what is above is not known: %v", err)
	}
}

// TestALostManifestIsNotReplaced: whatever is left of a database, nothing is written.
func TestALostManifestIsNotReplaced(t *testing.T) {
	t.Parallel()
	for _, left := range []string{wal.Key(7), "base/00000000000000000001-00000000000000000002/index", "base/1-2/part/000000", "page/1-2/000000", "part/1-x/000000"} {
		st := mem.New(mem.Options{})
		for _, key := range []string{left, "a/stranger", "probe/x-create"} {
			if _, err := st.Put(t.Context(), key, nil, "", store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		before := allKeys(t, st)
		if _, err := open(t, st, "w"); !errors.Is(err, ErrManifestLost) {
			t.Errorf("%s: %v", left, err)
		}
		got := slices.DeleteFunc(allKeys(t, st), func(key string) bool { return key == lease.Key })
		if !slices.Equal(got, before) {
			t.Errorf("%s: %v was made of %v", left, got, before)
		}
	}
	// The leftovers of an opening that died before there was a database do not prevent it.
	st := mem.New(mem.Options{})
	for _, key := range []string{"probe/x-create", "probe/x-swap"} {
		if _, err := st.Put(t.Context(), key, nil, "", store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := open(t, st, "w"); err != nil || !o.Created {
		t.Errorf("leftovers of an opening: %v", err)
	}
}

// TestARivalIsNoLostManifest: a rival makes the database and writes to it between the look for its manifest and that for the rest.
func TestARivalIsNoLostManifest(t *testing.T) {
	t.Parallel()
	below := mem.New(mem.Options{})
	// With an older lease, the place is checked after the lease is taken.
	l, err := lease.Acquire(t.Context(), lease.Options{Store: below, Holder: "earlier", Clock: newClock()}, 0)
	if err == nil {
		err = l.Release(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	st := &listHook{Store: below, f: func() {
		if _, err := Open(t.Context(), opts(below, "rival", 5, nil)); err != nil {
			t.Error(err)
		}
	}}
	o, err := Open(t.Context(), opts(st, "w", 2, nil))
	if err != nil || o.Created || st.f != nil {
		t.Errorf("%+v, %v", o, err)
	}
	// Without one, before it.
	below = mem.New(mem.Options{})
	st = &listHook{Store: below, f: func() { mustOpen(t, below, "rival") }}
	if o, err := open(t, st, "w"); err != nil || o.Created || st.f != nil {
		t.Errorf("before the lease: %+v, %v", o, err)
	}
}

// listHook calls f before the first list.
type listHook struct {
	store.Store
	f func()
}

func (l *listHook) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	if f := l.f; f != nil {
		l.f = nil
		f()
	}
	return l.Store.List(ctx, prefix, after)
}

// placed is a store with something above it.
type placed struct {
	store.Store
	above store.Store
}

func (p *placed) Above() []store.Store { return []store.Store{p.above} }

// denied answers every read with an error.
type denied struct {
	store.Store
	err error
}

func (d denied) Get(_ context.Context, key string) (store.Object, error) {
	return store.Object{}, &store.OpError{Op: "get", Key: key, Err: d.err}
}
