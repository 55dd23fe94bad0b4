package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// opening holds what is needed only while a database is being opened: the options, what is loaded and fetched during the steps of the
// protocol, and how long each step took. It can restore files without an engine.
type opening struct {
	o      *Options
	pages  *base.Pages // fetches pages that are away; nil: everything is read
	newest prefetch    // the layer
	stats  OpenStats

	loading sync.Mutex
	loaded  *pglite.Runtime // nil: not yet
}

func newOpening(o *Options) *opening { return &opening{o: o, loaded: o.Runtime} }

func (op *opening) since(began time.Duration) time.Duration { return op.o.Clock.Monotonic() - began }

// prepare prepares PostgreSQL's start while lease, log and layer are being fetched. It returns a function that cancels that and waits until
// it has ended.
func (op *opening) prepare(ctx context.Context, standby bool) (wait func()) {
	inner, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if rt, err := op.load(inner); err == nil {
			o := op.o.cluster(nil)
			o.Standby = standby
			_ = rt.Prepare(inner, o) // the start itself will report errors
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// runtime returns the loaded PostgreSQL, waiting until it is loaded.
func (op *opening) runtime(ctx context.Context) (*pglite.Runtime, error) {
	at := op.o.Clock.Monotonic()
	rt, err := op.load(ctx)
	if err == nil && op.o.Load != nil {
		op.stats.Runtime += op.since(at)
	}
	return rt, err
}

// load loads the runtime, once for all callers.
func (op *opening) load(ctx context.Context) (*pglite.Runtime, error) {
	op.loading.Lock()
	defer op.loading.Unlock()
	if op.loaded == nil {
		rt, err := op.o.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("load PostgreSQL: %w", err)
		}
		op.loaded = rt
	}
	return op.loaded, nil
}

// beforeCreate runs before a database is made; an error prevents that.
func (op *opening) beforeCreate(ctx context.Context) (pgliteSHA256 string, err error) {
	var asked errgroup.Group
	if op.o.BeforeCreate != nil {
		asked.Go(func() error { return op.o.BeforeCreate(ctx) })
	}
	rt, err := op.runtime(ctx)
	if err = errors.Join(asked.Wait(), err); err != nil {
		return "", err
	}
	return rt.SHA256(), nil
}

// readLayer restores the newest layer of a manifest.
func (op *opening) readLayer(ctx context.Context, m manifest.Manifest) (restored, error) {
	layer := m.Layers[len(m.Layers)-1]
	r, err := op.newest.result(ctx, layer.Key)
	if r.data == nil && err == nil {
		r, err = op.fetchLayer(ctx, layer, base.Expected(m, layer))
	}
	if err != nil {
		return r, fmt.Errorf("restore layer %s: %w", layer.Key, err)
	}
	op.stats.Restore, op.stats.Download, op.stats.Decompress = r.stats.Wall, r.stats.Download, r.stats.Decompress
	op.stats.RawBytes, op.stats.Stored, op.stats.ReadBytes, op.stats.apart = r.stats.RawBytes, r.stats.StoredBytes, r.stats.ReadBytes, r.apart
	return r, op.o.Hook.Fire(ctx, point.RestoreAfterBase)
}

// restored are files as a layer holds them.
type restored struct {
	data  *memfs.FS
	taken layerMoment
	stats base.Stats
	apart int64 // bytes of it that did not come from base.Pages
}

// layerMoment is a layer, and the moment when the files equaled it: the next layer shares what has not changed since.
type layerMoment struct {
	layer  *base.Layer
	moment memfs.Mark
}

// fetchLayer reads a layer into files; of a large or damaged one, only what is needed first.
func (op *opening) fetchLayer(ctx context.Context, l manifest.Layer, e base.Expect) (r restored, err error) {
	r.data = memfs.New(memfs.Options{Now: op.o.Clock.Now})
	if op.pages == nil || l.RawBytes <= min(eagerBytes, op.o.Cache/2) {
		r.taken.layer, r.stats, err = base.Read(ctx, op.o.Store, l.Key, r.data, base.ReadOptions{Clock: op.o.Clock, Expect: e})
		r.taken.moment, r.stats.ReadBytes, r.apart = r.data.Mark(), r.stats.StoredBytes, r.stats.StoredBytes
		if op.pages == nil || !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotFound) {
			return r, err
		}
		op.o.Logger.Error("the newest layer is damaged: statements that read damaged pages fail; pgserve verify lists the damage", "layer", l.Key, "error", err)
		r.data = memfs.New(memfs.Options{Now: op.o.Clock.Now})
	}
	if r.taken.layer, r.taken.moment, r.stats, err = base.Open(ctx, op.pages, l.Key, r.data, wishOf, e); err == nil {
		r.apart = r.taken.layer.IndexBytes()
	}
	return r, err
}

// wishOf says whether an opening reads a file of the data directory. A damaged file of one database must not keep clients out of another.
func wishOf(path string) base.Wish {
	switch {
	case pglite.IsCatalog(path):
		return base.Soon
	case !pglite.KeepResident(path):
		return base.Later
	case strings.HasPrefix(path, "/base/"):
		return base.Now
	}
	return base.Needed
}
