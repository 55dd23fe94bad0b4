package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/store/storetest"
)

// Views of a store are stores.
func TestViewsConform(t *testing.T) {
	t.Parallel()
	t.Run("prefixed", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) store.Store { return store.Prefixed(mem.New(mem.Options{}), "some/where") })
	})
	t.Run("counted", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) store.Store { return store.Count(mem.New(mem.Options{})) })
	})
	t.Run("counted without ranges", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) store.Store { return store.Count(plain{mem.New(mem.Options{})}) })
	})
}

// plain is a store that reads no ranges.
type plain struct{ s store.Store }

func (p plain) Get(ctx context.Context, key string) (store.Object, error) { return p.s.Get(ctx, key) }
func (p plain) Delete(ctx context.Context, key string) error              { return p.s.Delete(ctx, key) }
func (p plain) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return p.s.List(ctx, prefix, after)
}
func (p plain) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	return p.s.Put(ctx, key, body, id, cond)
}

func TestPrefixedPassesOnWhatTheStoreCan(t *testing.T) {
	t.Parallel()
	if _, ok := store.Prefixed(mem.New(mem.Options{}), "p").(store.RangeGetter); !ok {
		t.Error("the view of a store that reads ranges does not")
	}
	if _, ok := store.Prefixed(plain{mem.New(mem.Options{})}, "p").(store.RangeGetter); ok {
		t.Error("the view of a store that reads no ranges claims to")
	}
	base := mem.New(mem.Options{})
	if store.Prefixed(base, "") != store.Store(base) {
		t.Error("the view under no prefix is not the store itself")
	}
	for _, prefix := range []string{"/", "a//b", "../a"} {
		if _, err := store.Prefixed(base, prefix).Get(t.Context(), "key"); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a view under %q: %v, want ErrInvalid", prefix, err)
		}
	}
	nested := store.Prefixed(store.Prefixed(base, "a/"), "b")
	if _, err := nested.Put(t.Context(), "c", nil, "", store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, err := base.Get(t.Context(), "a/b/c"); err != nil {
		t.Errorf("a view of a view: %v", err)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := store.Count(mem.New(mem.Options{}))
	want := store.Ops{}
	check := func(what string, change func(*store.Ops)) {
		t.Helper()
		change(&want)
		if got := c.Ops(); got != want {
			t.Fatalf("after %s: %+v, want %+v", what, got, want)
		}
	}
	list := func(n int) {
		seen := 0
		for range c.List(ctx, "", "") {
			if seen++; seen == n {
				return
			}
		}
	}
	list(0)
	check("an empty list", func(o *store.Ops) { o.ClassA++ })
	_, _ = c.Put(ctx, "key", []byte("12345"), "id", store.IfAbsent())
	check("a put", func(o *store.Ops) { o.ClassA++; o.BytesUp += 5 })
	_, _ = c.Put(ctx, "key", []byte("12345"), "other", store.IfAbsent())
	check("a refused put", func(o *store.Ops) { o.ClassA++; o.BytesUp += 5 })
	_, _ = c.Get(ctx, "key")
	check("a get", func(o *store.Ops) { o.ClassB++; o.BytesDown += 5 })
	_, _ = c.Get(ctx, "absent")
	check("a get of nothing", func(o *store.Ops) { o.ClassB++ })
	_, _ = c.GetRange(ctx, "key", 1, 2)
	check("a ranged get", func(o *store.Ops) { o.ClassB++; o.BytesDown += 2 })
	_ = c.Delete(ctx, "key")
	check("a delete", func(o *store.Ops) { o.Delete++ })
	for i := range store.PageSize + 1 {
		_, _ = c.Put(ctx, fmt.Sprintf("%05d", i), nil, "", store.Always())
	}
	check("many puts", func(o *store.Ops) { o.ClassA += store.PageSize + 1 })
	list(0)
	check("a list of two pages", func(o *store.Ops) { o.ClassA += 2 })
	list(store.PageSize)
	check("a list that ends with its first page", func(o *store.Ops) { o.ClassA++ })
}

func TestOpError(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]*store.OpError{
		`put "a/b": precondition failed (found generation 7)`: {Op: "put", Key: "a/b", Gen: 7, Err: store.ErrConflict},
		`list: throttled by the store`:                        {Op: "list", Err: store.ErrThrottled},
	} {
		if got := err.Error(); got != want {
			t.Errorf("message %q, want %q", got, want)
		}
		if !errors.Is(err, err.Err) {
			t.Errorf("%v does not wrap %v", err, err.Err)
		}
	}
}

func TestWriteIDs(t *testing.T) {
	t.Parallel()
	const ids = 1000
	seen := make(map[string]bool)
	for range ids {
		id := store.NewWriteID()
		if len(id) != 26 || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
			t.Fatalf("write id %q is not a ULID", id)
		}
		if err := store.CheckPut("key", nil, id, store.IfAbsent()); err != nil {
			t.Fatalf("a fresh write id is refused: %v", err)
		}
		seen[id] = true
	}
	if len(seen) != ids {
		t.Errorf("%d different ids of %d", len(seen), ids)
	}
	if err := store.CheckPut("key", nil, strings.Repeat("x", store.MaxWriteIDBytes+1), store.Always()); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a write id above the limit: %v", err)
	}
}

func TestCond(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cond        store.Cond
		holds       [3]bool // at generations 0 (absent), 1, 2
		gen         store.Gen
		conditional bool
	}{
		{store.Always(), [3]bool{true, true, true}, 0, false},
		{store.IfAbsent(), [3]bool{true, false, false}, 0, true},
		{store.IfGen(2), [3]bool{false, false, true}, 2, true},
		{store.IfGen(0), [3]bool{false, false, false}, 0, true},
		{store.Cond{}, [3]bool{false, false, false}, 0, false},
	} {
		for g, want := range tt.holds {
			if got := tt.cond.Holds(store.Gen(g)); got != want {
				t.Errorf("%+v at generation %d: %v, want %v", tt.cond, g, got, want)
			}
		}
		if g, conditional := tt.cond.Precondition(); g != tt.gen || conditional != tt.conditional {
			t.Errorf("%+v is the precondition %d, %v", tt.cond, g, conditional)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"wal/1", "", "/", "a//b", "..", "a\x00", "é"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if store.CheckKey(key) != nil {
			return
		}
		// An accepted key is usable below a prefix, as a prefix, and is not changed by it.
		if err := store.CheckList(key, key); err != nil {
			t.Errorf("key %q is good, but not as a prefix: %v", key, err)
		}
		if len(key) < store.MaxKeyBytes-2 {
			if err := store.CheckKey("p/" + key); err != nil {
				t.Errorf("key %q is good, but not below a prefix: %v", key, err)
			}
		}
	})
}

// TestReadOnly: only reads get through, including ranges where the store has them.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	if _, err := st.Put(t.Context(), "k", []byte("body"), "w", store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	view := store.ReadOnly(st)
	if _, err := view.Put(t.Context(), "k", nil, "w", store.Always()); !errors.Is(err, store.ErrDenied) {
		t.Errorf("a put: %v", err)
	}
	if err := view.Delete(t.Context(), "k"); !errors.Is(err, store.ErrDenied) {
		t.Errorf("a delete: %v", err)
	}
	if o, err := view.Get(t.Context(), "k"); err != nil || string(o.Body) != "body" {
		t.Errorf("a get: %q, %v", o.Body, err)
	}
	if o, err := view.(store.RangeGetter).GetRange(t.Context(), "k", 1, 2); err != nil || string(o.Body) != "od" {
		t.Errorf("a range: %q, %v", o.Body, err)
	}
	if _, ok := store.ReadOnly(plain{st}).(store.RangeGetter); ok {
		t.Error("a view reads ranges that its store does not")
	}
}
