package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// overtaken is a reader's store: whenever it has read a manifest, and then begins to read pages, the writer takes a layer first.
type overtaken struct {
	store.Store
	mu    sync.Mutex
	due   bool
	times int
	layer func(n int)
}

func (o *overtaken) Get(ctx context.Context, key string) (store.Object, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.due = o.due || key == manifest.Key; o.due && strings.HasPrefix(key, base.SegmentPrefix()) {
		o.due = false
		o.times++
		o.layer(o.times)
	}
	return o.Store.Get(ctx, key)
}

// TestReadersBesideAWriter: a reader that has begun to read the newest layer can read it to its end, though the writer takes the next ones
// in quick succession, each without what the previous one added.
func TestReadersBesideAWriter(t *testing.T) {
	for name, read := range map[string]func(t *testing.T, st store.Store) error{
		"restore": func(t *testing.T, st store.Store) error {
			_, err := Restore(t.Context(), st, Latest(), nil)
			return err
		},
		"branch": func(t *testing.T, st store.Store) error {
			_, err := Branch(t.Context(), mem.New(mem.Options{}), st, BranchOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, inLog, func(o *Options) { o.RestoreBudget, o.Retain = -1, manifest.DefaultRetain })
			layer := func(n int) {
				must(t, e, fmt.Sprintf("DROP TABLE IF EXISTS t%d", n))
				must(t, e, fmt.Sprintf("CREATE TABLE t%d AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 8000) g", n+1))
				if err := e.Compact(t.Context()); err != nil {
					t.Error(err)
				}
			}
			for n := range 3 {
				layer(n)
			}
			o := &overtaken{Store: st, layer: func(n int) {
				if n < 4 { // then it may end
					layer(2 + n)
				}
			}}
			if err := read(t, o); err != nil || o.times != 1 {
				t.Errorf("it began %d times: %v", o.times, err)
			}
		})
	}
}
