package takeover

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// gated holds the writes of the lease back until the log was listed, and counts the manifest's readings.
type gated struct {
	store.Store
	listed    chan struct{}
	once      sync.Once
	manifests atomic.Int64
	gate      func(ctx context.Context) error
}

func (g *gated) Get(ctx context.Context, key string) (store.Object, error) {
	if key == manifest.Key {
		g.manifests.Add(1)
	}
	if strings.HasPrefix(key, "wal/") {
		g.once.Do(func() { close(g.listed) })
	}
	return g.Store.Get(ctx, key)
}

func (g *gated) Put(ctx context.Context, key string, body []byte, id string, c store.Cond) (store.Gen, error) {
	if key == lease.Key {
		if err := g.gate(ctx); err != nil {
			return 0, err
		}
	}
	return g.Store.Put(ctx, key, body, id, c)
}

// TestLogIsReadBesideTheLease: the lease is not granted before a record was requested, which would hang an opening that reads only after it
// has the lease.
func TestLogIsReadBesideTheLease(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	first := mustOpen(t, st, "first")
	for _, id := range []string{"1", "2", "3"} {
		if err := appendID(t, first, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := &gated{Store: st, listed: make(chan struct{})}
	g.gate = func(ctx context.Context) error {
		select {
		case <-g.listed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var heard atomic.Int64
	next := mustOpen(t, g, "next", func(o *Options) { o.OnManifest = func(manifest.Manifest) { heard.Add(1) } })
	if got := ids(next); got != "1 2 3" {
		t.Errorf("restored %q", got)
	}
	if heard.Load() != 1 || g.manifests.Load() != 1 {
		t.Errorf("heard of %d manifests, %d were read; want 1 and 1: behind the fence it is swapped as it was read", heard.Load(), g.manifests.Load())
	}
}

// TestAppendBesideTheLease: what the predecessor appends and compacts between the reading and the fence is found, whether the opening has
// to wait for the lease or not.
func TestAppendBesideTheLease(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, st store.Store, first *Opened){
		"append": func(t *testing.T, _ store.Store, first *Opened) { _ = appendID(t, first, "late") },
		"compact": func(t *testing.T, st store.Store, first *Opened) {
			_ = appendID(t, first, "late")
			compact(t, st, first)
		},
		"release": func(t *testing.T, _ store.Store, first *Opened) {
			_ = appendID(t, first, "late")
			if err := first.Lease.Release(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			first := mustOpen(t, st, "first")
			if err := appendID(t, first, "early"); err != nil {
				t.Fatal(err)
			}
			g := &gated{Store: st, listed: make(chan struct{})}
			var once sync.Once
			g.gate = func(context.Context) error {
				<-g.listed
				once.Do(func() { do(t, st, first) })
				return nil
			}
			next := mustOpen(t, g, "next", func(o *Options) { o.OnManifest = func(manifest.Manifest) {} })
			want := "early late"
			if name == "compact" {
				want = "" // it is in the layer
			}
			if got := ids(next); got != want {
				t.Errorf("restored %q, want %q", got, want)
			}
			if err := appendID(t, first, "zombie"); err == nil {
				t.Error("the predecessor has appended behind the fence")
			}
			if err := appendID(t, next, "mine"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWaitingReadsAgain: after a wait for the lease the log is read again, rather than fenced from where it ended before.
func TestWaitingReadsAgain(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	first := mustOpen(t, st, "first", func(o *Options) { o.LeaseTTL = time.Hour })
	if err := appendID(t, first, "1"); err != nil {
		t.Fatal(err)
	}
	looked := 0
	g := &gated{Store: st, listed: make(chan struct{}), gate: func(context.Context) error { return nil }}
	watch := &watched{gated: g, lease: func() {
		if looked++; looked == 2 { // it waits
			for _, id := range []string{"2", "3"} {
				if err := appendID(t, first, id); err != nil {
					t.Error(err)
				}
			}
			if err := first.Lease.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}}
	next := mustOpen(t, watch, "next", func(o *Options) { o.AcquireTimeout = time.Hour })
	if got := ids(next); got != "1 2 3" {
		t.Errorf("restored %q", got)
	}
	if n := g.manifests.Load(); n != 2 {
		t.Errorf("the manifest was read %d times, want 2: beside the lease and behind it", n)
	}
	if tail := next.Log.Tail(); tail.Seq != 5 {
		t.Errorf("the fence stands at %d", tail.Seq)
	}
}

// watched calls lease before each look at the lease.
type watched struct {
	*gated
	lease func()
}

func (w *watched) Get(ctx context.Context, key string) (store.Object, error) {
	if key == lease.Key {
		w.lease()
	}
	return w.gated.Get(ctx, key)
}
