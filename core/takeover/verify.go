package takeover

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Report is what Verify found.
type Report struct {
	DatabaseID string
	Layer      string // the newest; empty: none
	From, To   uint64 // records From..To are sound; To < From: there are none
	Epoch      uint64 // the highest
	Fences     int
	Bytes      int64 // of the records
}

// Verify reads a database's manifest and its whole log without writing, and says up to which record it is sound. The
// error, if there is one, names the first thing that is not. Layers are checked by whoever reads them (base.Read).
func Verify(ctx context.Context, st store.Store) (Report, error) {
	for range maxRestarts {
		m, _, err := manifest.Load(ctx, st)
		if err != nil {
			return Report{}, err
		}
		r, err := verify(ctx, st, m)
		now, _, loadErr := manifest.Load(ctx, st)
		if loadErr != nil {
			return r, errors.Join(err, loadErr)
		}
		if now.WalStart == m.WalStart {
			return r, err
		}
	}
	return Report{}, fmt.Errorf("verify: the log was compacted %d times while it was read: %w", maxRestarts, store.ErrUnavailable)
}

func verify(ctx context.Context, st store.Store, m manifest.Manifest) (Report, error) {
	from, err := From(m)
	if err != nil {
		return Report{}, err
	}
	r := Report{DatabaseID: m.DatabaseID, From: from.Seq + 1, To: from.Seq, Epoch: max(m.Epoch, from.Epoch)}
	if n := len(m.Layers); n > 0 {
		r.Layer = m.Layers[n-1].Key
	}
	for _, l := range m.Layers {
		if there, err := exists(ctx, st, base.IndexKey(l.Key)); err != nil {
			return r, err
		} else if !there {
			return r, fmt.Errorf("layer %q: %w: the manifest names it, and its index is not there", l.Key, manifest.ErrCorrupt)
		}
	}
	_, err = wal.Read(ctx, st, wal.ReadOptions{From: from, DatabaseID: m.DatabaseID}, func(rec wal.Record) error {
		r.To, r.Epoch = rec.Seq, max(r.Epoch, rec.Epoch)
		r.Bytes += int64(rec.Bytes)
		if rec.Kind == wal.Fence {
			r.Fences++
		}
		return nil
	})
	return r, err
}

// exists looks for a name without reading what it holds.
func exists(ctx context.Context, st store.Store, key string) (bool, error) {
	for a, err := range st.List(ctx, key, "") {
		return err == nil && a.Key == key, err
	}
	return false, nil
}
