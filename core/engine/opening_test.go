package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// reads counts the reads.
type reads struct {
	store.Store
	n atomic.Int64
}

func (r *reads) Get(ctx context.Context, key string) (store.Object, error) {
	r.n.Add(1)
	return r.Store.Get(ctx, key)
}

// storedLayer makes a layer that holds one file.
func storedLayer(t *testing.T, st store.Store, seq uint64) manifest.Layer {
	t.Helper()
	files := memfs.New(memfs.Options{})
	if err := files.WriteFile("/file", []byte("of a layer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := base.Write(t.Context(), st, base.Key(1, seq), files, base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return manifest.Layer{Key: base.Key(1, seq), Epoch: 1, Seq: seq}
}

func openingOn(st store.Store) *opening {
	return newOpening(&Options{Store: st, Clock: clock.System(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

// A layer that was fetched ahead is not fetched again if it is the right one, and is not used if it is another. No PostgreSQL is needed.
func TestOpeningFetchesAhead(t *testing.T) {
	t.Parallel()
	below := mem.New(mem.Options{})
	old, newest := storedLayer(t, below, 1), storedLayer(t, below, 2)
	st := &reads{Store: below}
	for _, c := range []struct {
		name  string
		ahead []manifest.Layer
		reads int // of objects: multiples of what one layer takes
	}{
		{"nothing ahead", nil, 1}, {"the one", []manifest.Layer{newest}, 1}, {"an older one", []manifest.Layer{old}, 2},
	} {
		before := st.n.Load()
		op := openingOn(st)
		for _, l := range c.ahead {
			op.newest.begin(t.Context(), op, l, base.Expect{})
			<-op.newest.done // it is there
		}
		r, err := op.readLayer(t.Context(), manifest.Manifest{Layers: []manifest.Layer{old, newest}})
		if err != nil {
			t.Fatal(c.name, err)
		}
		if b, err := r.data.ReadFile("/file"); err != nil || string(b) != "of a layer" {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
		if r.taken.layer.Key() != newest.Key || op.stats.Restore <= 0 {
			t.Errorf("%s: restored %s in %v", c.name, r.taken.layer.Key(), op.stats.Restore)
		}
		const each = 2 // the index, one segment
		if got := int(st.n.Load() - before); got != each*c.reads {
			t.Errorf("%s: %d reads, want %d", c.name, got, each*c.reads)
		}
	}
}

// PostgreSQL is loaded once, for all concurrent callers; a failure is not kept.
func TestOpeningLoadsOnce(t *testing.T) {
	t.Parallel()
	loads, broken := 0, errors.New("broken")
	op := openingOn(mem.New(mem.Options{}))
	op.o.Load = func(context.Context) (*pglite.Runtime, error) {
		if loads++; loads == 1 {
			return nil, broken
		}
		return runtime, nil
	}
	if _, err := op.runtime(t.Context()); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if rt, err := op.load(t.Context()); rt != runtime || err != nil {
				t.Errorf("%v, %v", rt, err)
			}
		})
	}
	all.Wait()
	if loads != 2 {
		t.Errorf("it was loaded %d times", loads)
	}
}
