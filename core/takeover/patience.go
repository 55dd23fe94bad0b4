package takeover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
)

// DefaultPatience of Options: above what a store's own repetitions of one request take.
const DefaultPatience = 10 * time.Second

// patiently does a step of an opening within a time. A store that refuses for lack of quota is asked again and again, by itself
// and by whoever uses it, while a client waits: what the bucket has answered is to be told in a bounded time.
func patiently(ctx context.Context, d time.Duration, step func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := step(bounded)
	if ctx.Err() != nil || bounded.Err() == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// Not the context's error: to whoever waits it would say that it was the caller who gave up.
	return fmt.Errorf("%w: not done within %v: %v", store.ErrUnavailable, d, err)
}

// manifest reads the manifest.
func (op *opening) manifest(ctx context.Context) (m manifest.Seen, err error) {
	err = patiently(ctx, op.o.Patience, func(ctx context.Context) (err error) {
		m.Manifest, m.Gen, err = manifest.Load(ctx, op.o.Store)
		return err
	})
	return m, err
}

// release gives back the lease of an opening that has failed, also where it was given up.
func (op *opening) release(ctx context.Context) error {
	return patiently(context.WithoutCancel(ctx), op.o.Patience, op.out.Lease.Release)
}

// place says why no database may be made at a prefix where there is not even a lease, before there is one: of an opening that
// is refused nothing is left. It is looked at once more when the database is made.
func (op *opening) place(ctx context.Context) error {
	_, _, err := manifest.Load(ctx, op.o.Store)
	if errors.Is(err, store.ErrNotFound) && op.o.Create {
		return CheckPlace(ctx, op.o.Store)
	}
	if errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil // what else is wrong with the manifest is said behind the lease
}
