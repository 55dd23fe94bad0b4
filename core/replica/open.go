package replica

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/base"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// openTries bounds how often an opening starts over because the log was compacted and collected in the meantime.
const openTries = 16

// beginning is what an engine is opened from.
type beginning struct {
	manifest manifest.Manifest
	records  []wal.Record
	at       wal.Position // position of the last of these records
	stopped  error        // why the log was not read further
}

// begin opens an engine at the newest layer, with the records after it, and starts following the log.
func (r *Replica) begin(ctx context.Context) (*life, error) {
	for range openTries {
		at := r.clock.Monotonic()
		b, err := r.read(ctx)
		if errors.Is(err, errCompacted) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open a replica: %w", err)
		}
		l := newLife(r, b)
		l.engine, err = engine.OpenReplica(ctx, r.o.Engine, engine.Start{
			Manifest: b.manifest, Records: b.records, Admit: l.ask, Await: l.await, Due: l.due,
		})
		if errors.Is(err, store.ErrNotFound) && r.newer(ctx, b.manifest) {
			continue // the layer was collected after the manifest was read
		}
		if errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("%w: %w", base.ErrCorrupt, err)
		}
		if err != nil {
			return nil, err
		}
		l.opened(at, b)
		r.asked.Store(int64(r.clock.Monotonic()))
		r.work.Go(l.follow)
		return l, nil
	}
	return nil, fmt.Errorf("open a replica: the log was compacted %d times while it was read: %w", openTries, store.ErrUnavailable)
}

// errCompacted: the log was compacted while it was read.
var errCompacted = errors.New("the log was compacted while it was read")

// read reads the manifest and the records after its newest layer, up to the first that cannot be read.
func (r *Replica) read(ctx context.Context) (beginning, error) {
	st := r.o.Engine.Store
	m, _, err := manifest.Load(ctx, st)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return beginning{}, fmt.Errorf("%w: %w", engine.ErrNoDatabase, err)
	case errors.Is(err, manifest.ErrNewer):
		return beginning{}, fmt.Errorf("%w: %w", engine.ErrVersion, err)
	case err != nil:
		return beginning{}, err
	case len(m.Layers) == 0:
		return beginning{}, fmt.Errorf("%w: nothing has been committed yet", engine.ErrNoDatabase)
	}
	b := beginning{manifest: m}
	from, err := takeover.From(m)
	if err != nil {
		return b, err
	}
	b.at, err = wal.Read(ctx, st, wal.ReadOptions{From: from, DatabaseID: m.DatabaseID}, func(rec wal.Record) error {
		b.records = append(b.records, rec)
		return nil
	})
	if err != nil && !damaged(err) {
		return b, err
	}
	now, _, loadErr := manifest.Load(ctx, st)
	switch {
	case loadErr != nil:
		return b, loadErr
	case now.WalStart != m.WalStart: // neither what was read nor what was missing can be trusted
		return b, errCompacted
	}
	b.stopped = err
	return b, nil
}

// damaged says whether an error means that the log cannot be read further, however often that is tried, unless its start has moved.
func damaged(err error) bool {
	return errors.Is(err, wal.ErrCorrupt) || errors.Is(err, wal.ErrForeign) || errors.Is(err, wal.ErrNewer) ||
		errors.Is(err, store.ErrNotFound) || errors.Is(err, engine.ErrStuck) || errors.Is(err, ErrMissing)
}

// newer says whether there is a newer layer than a manifest's.
func (r *Replica) newer(ctx context.Context, than manifest.Manifest) bool {
	now, _, err := manifest.Load(ctx, r.o.Engine.Store)
	return err == nil && newest(now).Key != newest(than).Key
}

func newest(m manifest.Manifest) (l manifest.Layer) {
	if n := len(m.Layers); n > 0 {
		l = m.Layers[n-1]
	}
	return l
}
