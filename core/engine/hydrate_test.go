package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// pageGate is a store that holds back requests for pages while it is shut.
type pageGate struct {
	store.Store
	waiting atomic.Int64

	mu   sync.Mutex
	open chan struct{} // nil: it is open
}

func (g *pageGate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *pageGate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open = nil
}

func (g *pageGate) GetRange(ctx context.Context, key string, off, n int64) (store.Object, error) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open != nil && strings.HasPrefix(key, "page/") {
		g.waiting.Add(1)
		defer g.waiting.Add(-1)
		select {
		case <-open:
		case <-ctx.Done():
			return store.Object{}, ctx.Err()
		}
	}
	return g.Store.(store.RangeGetter).GetRange(ctx, key, off, n)
}

// firstRowsAt is a clock by which the first rows are there when the test says so.
type firstRowsAt struct {
	clock.Clock
	now chan struct{}
}

func (c firstRowsAt) Sleep(ctx context.Context, d time.Duration) error {
	if d != firstRows {
		return c.Clock.Sleep(ctx, d)
	}
	select {
	case <-c.now:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestHydration: after the first rows, all of a database that fits is fetched, but nothing while a statement waits for pages; after that no
// pages are fetched any more.
func TestHydration(t *testing.T) {
	t.Parallel()
	gate, rows := &pageGate{Store: large(t)}, make(chan struct{})
	e := open(t, gate, inLog, cached, func(o *Options) {
		o.Cache, o.Clock = 120<<20, firstRowsAt{clock.System(), rows}
	})
	must(t, e, "SELECT pad FROM t WHERE id = 4711")
	if _, away := memory(t, e); away < 30<<20 {
		t.Fatalf("%d bytes are away, so there is nothing to fetch", away)
	}
	gate.shut()
	got := make(chan error, 1)
	go func() {
		_, err := e.Query(t.Context(), "SELECT pad FROM t WHERE id = 50000")
		got <- err
	}()
	waitUntil(t, func() bool { return gate.waiting.Load() > 0 })
	_, before := memory(t, e)
	close(rows)
	waits := func() bool {
		e.readers.mu.Lock()
		defer e.readers.mu.Unlock()
		return e.readers.none != nil
	}
	waitUntil(t, func() bool { return waits() || gate.waiting.Load() > 1 })
	if _, away := memory(t, e); gate.waiting.Load() != 1 || away != before {
		t.Errorf("while a statement waits for a page, %d requests are on their way, and %d bytes of %d are away", gate.waiting.Load(), away, before)
	}
	gate.lift()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { _, away := memory(t, e); return away == 0 })
	fetched := e.Stats().Cache.Pages.Requests
	if got := must(t, e, "SELECT count(*) || ' ' || sum(length(pad)) FROM t"); got != fmt.Sprint(bulkRows, bulkRows*padBytes) {
		t.Error(got)
	}
	if n := e.Stats().Cache.Pages.Requests - fetched; n != 0 {
		t.Errorf("%d requests for pages when all were there", n)
	}
}
