package engine

import (
	"context"
	"sync"

	"blobpglite/core/manifest"
)

// prefetch is a layer that is fetched before it is certain that it is the one to be restored: beside the lease and the fence.
// A layer is written once, so what was fetched under its name is that layer. The zero value has none.
type prefetch struct {
	mu   sync.Mutex
	key  string
	stop context.CancelFunc
	done chan struct{}

	got restored
	err error
}

// begin fetches a layer.
func (p *prefetch) begin(ctx context.Context, op *opening, l manifest.Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, p.stop = context.WithCancel(ctx)
	p.key, p.done = l.Key, make(chan struct{})
	go func() {
		defer close(p.done)
		p.got, p.err = op.fetchLayer(ctx, l)
	}()
}

// result waits for the layer, if it is the one that is being fetched. No files and no error: it is not, or it was not
// fetched, and has to be read as ever.
func (p *prefetch) result(ctx context.Context, key string) (restored, error) {
	p.mu.Lock()
	wanted, done := p.key, p.done
	p.mu.Unlock()
	if wanted != key {
		p.drop()
		return restored{}, nil
	}
	select {
	case <-done:
	case <-ctx.Done():
		return restored{}, ctx.Err()
	}
	got, err := p.got, p.err
	p.drop()
	if err != nil {
		return restored{}, nil
	}
	return got, nil
}

// drop gives up what was fetched, and waits until nothing of it is left.
func (p *prefetch) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		return
	}
	p.stop()
	<-p.done
	p.key, p.done, p.got = "", nil, restored{}
}
