package takeover

import (
	"context"
	"errors"
	"iter"
	"testing"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// unsure collects the log just before it is listed, and from then on the manifest cannot be read.
type unsure struct {
	store.Store
	collect func()
	silent  bool
}

func (u *unsure) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	if prefix == wal.Prefix() && u.collect != nil {
		u.collect()
		u.collect, u.silent = nil, true
	}
	return u.Store.List(ctx, prefix, after)
}

func (u *unsure) Get(ctx context.Context, key string) (store.Object, error) {
	if key == manifest.Key && u.silent {
		return store.Object{}, &store.OpError{Op: "get", Key: key, Err: store.ErrUnavailable}
	}
	return u.Store.Get(ctx, key)
}

// TestUnsureIsNoDamage: a missing record may mean that the log was compacted in the meantime. If the manifest cannot be read to find out,
// that is not called damage. The explorer found that it was.
func TestUnsureIsNoDamage(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(store.Store) error{
		"open": func(st store.Store) error {
			_, err := open(t, st, "next", func(o *Options) { o.Parallel = 1 })
			return err
		},
		"verify": func(st store.Store) error {
			_, err := VerifyWith(t.Context(), st, VerifyOptions{Parallel: 1})
			return err
		},
		"past": func(st store.Store) error {
			_, err := ReadAt(t.Context(), st, Latest(), 1)
			return err
		},
	} {
		st := mem.New(mem.Options{})
		live := mustOpen(t, st, "live")
		for i, id := range []string{"z", "a", "b"} {
			if err := appendID(t, live, id); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				compact(t, st, live) // a state of the past has a layer
			}
		}
		err := read(&unsure{Store: st, collect: func() {
			compact(t, st, live)
			if err := appendID(t, live, "c"); err != nil {
				t.Error(err)
			}
		}})
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
