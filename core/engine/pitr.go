package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// RecoveryTarget names an earlier state: after a record of the log, or at a time.
type RecoveryTarget = takeover.RecoveryTarget

// ErrBeyondRetention: the state is older than what is kept (Options.Retain), or lies in the future. The error says what is kept.
var ErrBeyondRetention = takeover.ErrBeyondRetention

// OpenAt restores an earlier state of a database, to read it. It fences no writer, takes no lease and writes nothing to the store, so a
// writer may run at the same time. Transactions are read-only unless a client says otherwise; what such a transaction writes exists in this
// process only, and is gone when the engine is closed. Options about leases, durability, layers and Cache are ignored. Errors:
// ErrBeyondRetention, ErrNoDatabase, ErrVersion, and those of Open about what was read.
func OpenAt(ctx context.Context, o Options, at RecoveryTarget) (*Engine, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	o.Settings = maps.Clone(o.Settings)
	if o.Settings == nil {
		o.Settings = map[string]string{}
	}
	o.Settings["default_transaction_read_only"] = "on"
	e := newEngine(o)
	e.commits = noCommits{}
	op := newOpening(&e.o)
	began := o.Clock.Monotonic()
	if err := e.openTempDisk(); err != nil {
		return nil, fmt.Errorf("open the database as of %s: %w", at, err)
	}
	p, r, err := op.restoreTo(ctx, at)
	if errors.Is(err, base.ErrCorrupt) { // the damaged part may not be read at all
		if op.pages, err = base.NewPages(o.Store, base.PagesOptions{Clock: o.Clock}); err == nil {
			e.pages = op.pages
			p, r, err = op.restoreTo(ctx, at)
		}
	}
	if err == nil {
		err = e.startOn(ctx, op, r.data, p.Records)
	}
	if err != nil {
		e.temp.close()
		if e.pages != nil {
			e.pages.Close()
		}
		return nil, fmt.Errorf("open the database as of %s: %w", at, err)
	}
	op.stats.Wall = op.since(began)
	e.opened = op.stats
	return e, nil
}

// restoreTo restores the files of an earlier state.
func (op *opening) restoreTo(ctx context.Context, at RecoveryTarget) (takeover.RecoveryPoint, restored, error) {
	gone := "" // a layer named by the manifest that was missing
	for {
		p, err := op.readPoint(ctx, at)
		var r restored
		if err == nil {
			r, err = op.pointFiles(ctx, p)
		}
		if errors.Is(err, store.ErrNotFound) && !errors.Is(err, ErrNoDatabase) {
			if p.Layer.Key != gone {
				gone = p.Layer.Key
				continue // it was collected since the manifest was read
			}
			err = fmt.Errorf("%w: %w", base.ErrCorrupt, err)
		}
		return p, r, err
	}
}

// readPoint reads the manifest and the records that a state is restored from.
func (op *opening) readPoint(ctx context.Context, at RecoveryTarget) (takeover.RecoveryPoint, error) {
	p, err := takeover.ReadAt(ctx, op.o.Store, at, 0)
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = fmt.Errorf("%w: %w", ErrNoDatabase, err)
	case errors.Is(err, manifest.ErrNewer) || errors.Is(err, wal.ErrNewer):
		err = fmt.Errorf("%w: %w", ErrVersion, err)
	case err == nil:
		err = errors.Join(op.o.checkVersion(p.Manifest), op.notYet(p, at))
	}
	return p, err
}

// clocksDiffer is how far clocks of machines may differ before a time that the log does not cover counts as in the future.
const clocksDiffer = time.Minute

// notYet rejects a state that may still change: by the local clock its time has not passed, and the log does not reach beyond it.
func (op *opening) notYet(p takeover.RecoveryPoint, at RecoveryTarget) error {
	now := op.o.Clock.Now()
	if !p.End || at == Latest() || !at.Time.After(now.Add(clocksDiffer)) {
		return nil
	}
	return fmt.Errorf("the state at %s is %w: that time is in the future, it is now %s", at, ErrBeyondRetention, now.UTC().Format(time.RFC3339))
}

// pointFiles puts the layer and the records together.
func (op *opening) pointFiles(ctx context.Context, p takeover.RecoveryPoint) (restored, error) {
	op.stats.Epoch, op.stats.Records = p.Manifest.Epoch, len(p.Records)
	p.Manifest.Layers = []manifest.Layer{p.Layer}
	r, err := op.readLayer(ctx, p.Manifest)
	if err != nil {
		return r, err
	}
	began := op.o.Clock.Monotonic()
	if _, err := replay(r.data, p.Records); err != nil {
		return r, err
	}
	op.stats.Replay = op.since(began)
	return r, nil
}

// noCommits is the committer where there is nothing to make durable: of an earlier state, and of a replica.
type noCommits struct{}

func (noCommits) mayServe(context.Context) error              { return nil }
func (noCommits) mark(*pglite.Process, bool) mark             { return early }
func (noCommits) waitFor(context.Context, mark) (bool, error) { return false, nil }
func (noCommits) mayLeave(mark) bool                          { return true }
func (noCommits) backpressure(context.Context)                {}
func (noCommits) idle() bool                                  { return true }
func (noCommits) force(context.Context) (CommitStats, error)  { return CommitStats{}, nil }
func (noCommits) last() CommitStats                           { return CommitStats{} }
func (noCommits) started(*pglite.Cluster, bool)               {}
func (noCommits) reached() []wal.Record                       { return nil }
func (noCommits) close(context.Context, bool) error           { return nil }
