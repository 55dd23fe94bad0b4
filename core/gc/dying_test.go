package gc

import (
	"context"

	"blobpglite/core/store"
)

// dying refuses every deletion after the first few.
type dying struct {
	store.Store
	left int
}

func (d *dying) Delete(ctx context.Context, key string) error {
	if d.left--; d.left < 0 {
		return &store.OpError{Op: "delete", Key: key, Err: store.ErrDenied}
	}
	return d.Store.Delete(ctx, key)
}
