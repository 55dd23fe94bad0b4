package engine

import (
	"context"
	"sync"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
)

// prefetch fetches a layer, during lease and fence, before it is certain that this is the one to restore. A layer is written only once, so
// whatever was fetched under its name is that layer. The zero value fetches nothing.
type prefetch struct {
	mu   sync.Mutex
	key  string
	stop context.CancelFunc
	done chan struct{}

	got restored
	err error
}

// begin starts fetching a layer.
func (p *prefetch) begin(ctx context.Context, op *opening, l manifest.Layer, e base.Expect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, p.stop = context.WithCancel(ctx)
	p.key, p.done = l.Key, make(chan struct{})
	go func() {
		defer close(p.done)
		p.got, p.err = op.fetchLayer(ctx, l, e)
	}()
}

// result waits for the layer under key. No files and no error: another one is being fetched, or fetching this one failed, so the caller has
// to read it.
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

// drop discards what was fetched, and waits until the fetching has ended.
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
