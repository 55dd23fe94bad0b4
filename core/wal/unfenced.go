package wal

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/store"
)

// Unfenced proves that no other writer had taken over the log when it was called. It gets the names after tail, the last record that this
// writer knows to be its own. A fence would have one of them, and is never deleted. settled says that no append of this writer was in
// flight at the call: then the first name is enough, which is one GET; otherwise it takes two.
//
//	tail + 1   may be this writer's own append, applied but not answered yet: then a successor may have fenced after it, and
//	           may even have collected it, so that its absence proves nothing
//	tail + 2   if this is the writer's own as well, it was begun after this call, so no other writer had fenced
//
// Errors: ErrFenced (a *FencedError), ErrForeign, ErrCorrupt, ErrNewer, the store's (then nothing is known).
func Unfenced(ctx context.Context, st store.Store, tail Position, settled bool, databaseID string, epoch uint64) error {
	last := tail.Seq + 2
	if settled {
		last = tail.Seq + 1
	}
	for seq := tail.Seq + 1; seq <= last; seq++ {
		o, err := st.Get(ctx, Key(seq))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for a fence at record %d: %w", seq, err)
		}
		f, err := decodeFrame(o.Body)
		switch {
		case err != nil:
			return fmt.Errorf("look for a fence at record %d: %w", seq, err)
		case f.record.DatabaseID != databaseID:
			return fmt.Errorf("record %d: %w: %s, this is %s", seq, ErrForeign, f.record.DatabaseID, databaseID)
		case f.record.Epoch > epoch:
			return &FencedError{Seq: seq, Epoch: f.record.Epoch, Ours: epoch, By: f.record.Writer}
		}
	}
	return nil
}
