package takeover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
)

// DefaultPatience is the default of Options.Patience: longer than a store's own retries of one request.
const DefaultPatience = 10 * time.Second

// patiently runs a step of an opening with a time limit. Several layers of code retry a store that refuses for lack of quota, while a
// client waits: so the time until the client learns the bucket's answer must be bounded.
func patiently(ctx context.Context, d time.Duration, step func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	err := step(bounded)
	if ctx.Err() != nil || bounded.Err() == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// Not the context's error, which would say that the caller had given up.
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

// release releases the lease of an opening that has failed, even if ctx has ended.
func (op *opening) release(ctx context.Context) error {
	return patiently(context.WithoutCancel(ctx), op.o.Patience, op.out.Lease.Release)
}

// place checks, before a lease is made at a prefix that has none, whether a database may be made there, so that a refused opening leaves
// nothing behind. The check is repeated when the database is made.
func (op *opening) place(ctx context.Context) error {
	_, _, err := manifest.Load(ctx, op.o.Store)
	if errors.Is(err, store.ErrNotFound) && op.o.Create {
		return CheckPlace(ctx, op.o.Store)
	}
	if errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil // anything else wrong with the manifest is reported after the lease
}
