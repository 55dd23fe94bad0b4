package engine

import (
	"context"
	"errors"
	"strings"
	"sync"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
)

// ahead is a layer that is fetched before it is certain that it is the one to be restored: beside the lease and the fence.
// A layer is written once, so what was fetched under its name is that layer. The zero value has none.
type ahead struct {
	mu   sync.Mutex
	key  string
	stop context.CancelFunc
	done chan struct{}

	got restored
	err error
}

// restored are files as a layer has them.
type restored struct {
	data  *memfs.FS
	taken taken
	stats base.Stats
}

// taken is a layer, and the moment at which the files were what it holds: the next one shares what has not changed since.
type taken struct {
	layer *base.Layer
	at    memfs.Mark
}

// fetchLayer reads a layer into files, or, of one that is large or damaged, what is wanted first.
func (e *Engine) fetchLayer(ctx context.Context, l manifest.Layer) (r restored, err error) {
	r.data = memfs.New(memfs.Options{Now: e.o.Clock.Now})
	if e.pages == nil || l.RawBytes <= min(eagerBytes, e.o.Cache/2) {
		r.taken.layer, r.stats, err = base.Read(ctx, e.o.Store, l.Key, r.data, base.ReadOptions{Clock: e.o.Clock})
		r.taken.at = r.data.Mark()
		if e.pages == nil || !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotFound) {
			return r, err
		}
		e.o.Logger.Error("the newest layer is damaged: what is, is an error for who reads it; pgserve verify names all of it", "layer", l.Key, "error", err)
		r.data = memfs.New(memfs.Options{Now: e.o.Clock.Now})
	}
	r.taken.layer, r.taken.at, r.stats, err = base.Open(ctx, e.pages, l.Key, r.data, wishOf)
	return r, err
}

// wishOf says what of a data directory an opening reads. What belongs to one database is in nobody's way if it is damaged who does not
// connect to that one.
func wishOf(path string) base.Wish {
	switch {
	case !pglite.KeepResident(path):
		return base.Later
	case strings.HasPrefix(path, "/base/"):
		return base.Now
	}
	return base.Needed
}

// begin fetches a layer.
func (a *ahead) begin(ctx context.Context, e *Engine, l manifest.Layer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ctx, a.stop = context.WithCancel(ctx)
	a.key, a.done = l.Key, make(chan struct{})
	go func() {
		defer close(a.done)
		a.got, a.err = e.fetchLayer(ctx, l)
	}()
}

// take waits for the layer, if it is the one that is being fetched. No files and no error: it is not, or it was not
// fetched, and has to be read as ever.
func (a *ahead) take(ctx context.Context, key string) (restored, error) {
	a.mu.Lock()
	wanted, done := a.key, a.done
	a.mu.Unlock()
	if wanted != key {
		a.drop()
		return restored{}, nil
	}
	select {
	case <-done:
	case <-ctx.Done():
		return restored{}, ctx.Err()
	}
	got, err := a.got, a.err
	a.drop()
	if err != nil {
		return restored{}, nil
	}
	return got, nil
}

// drop gives up what was fetched, and waits until nothing of it is left.
func (a *ahead) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done == nil {
		return
	}
	a.stop()
	<-a.done
	a.key, a.done, a.got = "", nil, restored{}
}
