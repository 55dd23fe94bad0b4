package takeover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// refusing is a store that refuses requests for a key until the caller gives up.
type refusing struct {
	store.Store
	key   string
	after int // this many are served first
}

func (r *refusing) refused(ctx context.Context, key string) error {
	if key != r.key {
		return nil
	}
	if r.after--; r.after >= 0 {
		return nil
	}
	<-ctx.Done()
	return fmt.Errorf("%w (the last request: %w: rateLimitExceeded)", ctx.Err(), store.ErrThrottled)
}

func (r *refusing) Get(ctx context.Context, key string) (store.Object, error) {
	if err := r.refused(ctx, key); err != nil {
		return store.Object{}, err
	}
	return r.Store.Get(ctx, key)
}

func (r *refusing) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if err := r.refused(ctx, key); err != nil {
		return 0, err
	}
	return r.Store.Put(ctx, key, body, id, cond)
}

// An opening that a bucket refuses is given up in bounded time, whatever step it is at, and reports the bucket's error.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	for _, c := range []refusing{{key: lease.Key}, {key: manifest.Key}, {key: manifest.Key, after: 1}} {
		st := mem.New(mem.Options{})
		if err := mustOpen(t, st, "w").Lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Store = st
		_, err := open(t, &c, "next", func(o *Options) { o.AcquireTimeout, o.Patience, o.Parallel = 0, 50*time.Millisecond, 1 })
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "rateLimitExceeded") {
			t.Errorf("%s, after %d: %v", c.key, c.after, err)
		}
		if c.after >= 0 {
			t.Errorf("%s: nothing was refused", c.key)
		}
	}
}
