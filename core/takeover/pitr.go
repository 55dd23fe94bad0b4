package takeover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// ErrBeyondRetention: the requested state is older than what is kept, or lies in the future. The error says what is kept.
var ErrBeyondRetention = errors.New("beyond retention")

// RecoveryTarget names a state of a database: the one after a record of its log, or the last one at a time. Exactly one field is set.
type RecoveryTarget struct {
	Seq  uint64
	Time time.Time // by the writers' wall clocks, which the records carry
}

// Latest names the newest state: after the last record when the log is read.
func Latest() RecoveryTarget {
	return RecoveryTarget{Time: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
}

func (t RecoveryTarget) String() string {
	if t == Latest() {
		return "the last record"
	}
	if t.Seq != 0 {
		return fmt.Sprintf("record %d", t.Seq)
	}
	return t.Time.UTC().Format(time.RFC3339Nano)
}

// RecoveryPoint is what an earlier state is restored from: a layer, and the records after it.
type RecoveryPoint struct {
	Manifest manifest.Manifest
	Layer    manifest.Layer
	Records  []wal.Record // after Layer, fences included
	Seq      uint64       // number of the last record in the state
	End      bool         // the log had no further record
}

// ReadAt reads what a state is restored from. parallel is how many records are read concurrently, 0: the log's default. It takes no lease
// and writes nothing, so it may run alongside a writer. It only names the layer: if the layer turns out to be gone, it was collected in the
// meantime; call ReadAt again. Errors: ErrBeyondRetention, store.ErrNotFound (no database), store.ErrInvalid, those of the log and of the
// manifest, the store's.
func ReadAt(ctx context.Context, st store.Store, at RecoveryTarget, parallel int) (RecoveryPoint, error) {
	if (at.Seq == 0) == at.Time.IsZero() {
		return RecoveryPoint{}, fmt.Errorf("read an earlier state: %w: give either a record or a time", store.ErrInvalid)
	}
	for range maxRestarts {
		m, _, err := manifest.Load(ctx, st)
		if err != nil {
			return RecoveryPoint{}, err
		}
		past, err := readAt(ctx, st, m, at, parallel)
		now, _, loadErr := manifest.Load(ctx, st)
		switch {
		case loadErr != nil && err != nil:
			return RecoveryPoint{}, fmt.Errorf("distinguish damage from a log that was compacted in the meantime (%v): %w", err, loadErr)
		case loadErr != nil:
			return RecoveryPoint{}, loadErr
		case now.WalStart != m.WalStart: // neither what was read nor what was missing can be trusted
			continue
		case errors.Is(err, store.ErrNotFound):
			return RecoveryPoint{}, fmt.Errorf("%w: an object that was listed is gone: %w", wal.ErrCorrupt, err)
		}
		return past, err
	}
	return RecoveryPoint{}, fmt.Errorf("read the state at %s: the log was compacted %d times while it was read: %w", at, maxRestarts, store.ErrUnavailable)
}

// errEnough ends a reading early.
var errEnough = errors.New("enough was read")

func readAt(ctx context.Context, st store.Store, m manifest.Manifest, at RecoveryTarget, parallel int) (RecoveryPoint, error) {
	past := RecoveryPoint{Manifest: m}
	found := false
	for _, l := range m.Layers {
		if at.Seq != 0 && l.Seq <= at.Seq || at.Seq == 0 && !l.Taken.After(at.Time) {
			past.Layer, found = l, true
		}
	}
	if !found {
		return RecoveryPoint{}, fmt.Errorf("the state at %s is %w: %s", at, ErrBeyondRetention, kept(m))
	}
	from, err := position(past.Layer)
	if err != nil {
		return RecoveryPoint{}, err
	}
	past.Seq = from.Seq
	if at.Seq == from.Seq {
		return past, nil
	}
	_, err = wal.Read(ctx, st, wal.ReadOptions{From: from, DatabaseID: m.DatabaseID, Parallel: parallel}, func(r wal.Record) error {
		if at.Seq != 0 && r.Seq > at.Seq || at.Seq == 0 && r.Time.After(at.Time) {
			return errEnough
		}
		past.Records, past.Seq = append(past.Records, r), r.Seq
		return nil
	})
	past.End = err == nil
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return RecoveryPoint{}, err
	case past.Seq < at.Seq:
		return RecoveryPoint{}, fmt.Errorf("the state at %s is %w: the log ends at record %d", at, ErrBeyondRetention, past.Seq)
	}
	return past, nil
}

// kept says how far back a manifest reaches.
func kept(m manifest.Manifest) string {
	if len(m.Layers) == 0 {
		return "nothing has been committed yet"
	}
	return fmt.Sprintf("the states after record %d are kept, from %s on", m.Layers[0].Seq, m.Layers[0].Taken.UTC().Format(time.RFC3339))
}
