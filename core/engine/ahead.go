package engine

import (
	"context"
	"sync"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
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

// fetchLayer reads a layer into files, or, of one that is large, what is wanted first.
func (e *Engine) fetchLayer(ctx context.Context, l manifest.Layer) (r restored, err error) {
	r.data = memfs.New(memfs.Options{Now: e.o.Clock.Now})
	if e.pages != nil && l.RawBytes > min(eagerBytes, e.o.Cache/2) {
		r.taken.layer, r.taken.at, r.stats, err = base.Open(ctx, e.pages, l.Key, r.data, pglite.KeepResident)
		return r, err
	}
	key := l.Key
	r.taken.layer, r.stats, err = base.Read(ctx, e.o.Store, key, r.data, base.ReadOptions{Clock: e.o.Clock})
	r.taken.at = r.data.Mark()
	return r, err
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
