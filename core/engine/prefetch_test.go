package engine

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"blobpglite/core/lease"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// indexes counts how often layers are read, and holds the lease back until the first one was requested.
type indexes struct {
	store.Store
	reads  atomic.Int64
	asked  chan struct{}
	once   sync.Once
	broken error        // error of the first reading of a layer
	before func() error // done before the lease is written, once
	lease  sync.Once
}

func (s *indexes) Get(ctx context.Context, key string) (store.Object, error) {
	if strings.HasPrefix(key, "base/") && strings.HasSuffix(key, "/index") {
		first := s.reads.Add(1) == 1
		s.once.Do(func() { close(s.asked) })
		if first && s.broken != nil {
			return store.Object{}, s.broken
		}
	}
	return s.Store.Get(ctx, key)
}

func (s *indexes) Put(ctx context.Context, key string, body []byte, id string, c store.Cond) (store.Gen, error) {
	if key == lease.Key {
		<-s.asked
		var err error
		s.lease.Do(func() {
			if s.before != nil {
				err = s.before()
			}
		})
		if err != nil {
			return 0, err
		}
	}
	return s.Store.Put(ctx, key, body, id, c)
}

// TestLayerIsFetchedBesideTheLease: it is requested before the lease is there, and read once; if it could not be read, or was replaced
// before the fence, the valid one is read.
func TestLayerIsFetchedBesideTheLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		broken  error
		compact bool
		reads   int64
	}{
		"fetched":  {reads: 1},
		"broken":   {broken: store.ErrUnavailable, reads: 2},
		"replaced": {compact: true, reads: 2},
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
			must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
			must(t, e, "INSERT INTO t VALUES (2)")
			s := &indexes{Store: st, asked: make(chan struct{}), broken: c.broken}
			if c.compact {
				s.before = func() error {
					if _, err := e.Query(t.Context(), "INSERT INTO t VALUES (3)"); err != nil {
						return err
					}
					return e.Compact(t.Context())
				}
			}
			var loads atomic.Int64
			next := open(t, s, inLog, func(o *Options) {
				o.Create, o.Runtime = false, nil
				o.Load = func(context.Context) (*pglite.Runtime, error) { loads.Add(1); return runtime, nil }
			})
			want := "2"
			if c.compact {
				want = "3"
			}
			if got := must(t, next, "SELECT count(*) FROM t"); got != want {
				t.Errorf("%s rows, want %s", got, want)
			}
			if s.reads.Load() != c.reads || loads.Load() != 1 {
				t.Errorf("layers were read %d times, want %d; the runtime was asked for %d times", s.reads.Load(), c.reads, loads.Load())
			}
			if err := next.Close(t.Context()); err != nil {
				t.Error(err)
			}
			e.Abandon()
		})
	}
}
