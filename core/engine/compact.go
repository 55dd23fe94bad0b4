package engine

import (
	"context"
	"fmt"
	"time"

	"blobpglite/core/memfs"
	"blobpglite/core/wal"
)

// What replaying the log is reckoned to take, where nothing was measured: a request for each record, 32 at once at the
// 38 ms that Cloud Storage takes for a small one, and the bytes through PostgreSQL's recovery.
const (
	replayRecord = 38 * time.Millisecond / 32
	replayRate   = 40 << 20 // bytes a second
	// minBudget keeps a small database from compacting all the time.
	minBudget = 250 * time.Millisecond
)

// replayTime predicts what replaying the log since the last layer adds to a restore.
func (m *logMode) replayTime() time.Duration {
	return time.Duration(m.records.Load())*replayRecord + time.Duration(float64(m.bytes.Load())/replayRate*float64(time.Second))
}

// budget is what replaying the log may add to a restore; below zero: anything.
func (m *logMode) budget() time.Duration {
	if m.o.RestoreBudget == 0 {
		return max(m.layerTime, minBudget)
	}
	return m.o.RestoreBudget
}

// consider starts a compaction, or maintenance, if it is due: at half of the budget, so that the other half is there
// while the layer is on its way. It is called under the turn and only starts things.
func (m *logMode) consider() {
	m.upkeep.consider(m)
	budget := m.budget()
	if budget < 0 || m.replayTime() < budget/2 || !m.compacting.CompareAndSwap(false, true) {
		return
	}
	m.background.Go(func() {
		defer m.compacting.Store(false)
		if err := m.compact(m.ctx); err != nil && m.ctx.Err() == nil {
			m.o.Logger.Warn("the log was not compacted", "error", err)
		}
	})
}

// throttle holds a commit back while the budget is used up and the layer that frees it is still on its way: the promise
// about restores is kept even by a client that commits faster than layers can be taken.
func (m *logMode) throttle(ctx context.Context) error {
	const look = 2 * time.Millisecond
	for m.compacting.Load() && m.budget() >= 0 && m.replayTime() >= m.budget() {
		if err := m.o.Clock.Sleep(ctx, look); err != nil {
			return nil // it is durable; only the waiting ends
		}
	}
	return nil
}

// Compact takes a new layer now, waits for it, and collects what it has made superfluous. Mode snapshot has nothing to
// compact.
func (e *Engine) Compact(ctx context.Context) error {
	m, ok := e.commits.(*logMode)
	if !ok {
		return fmt.Errorf("compact: mode %q has no log", e.o.Mode)
	}
	for !m.compacting.CompareAndSwap(false, true) {
		if err := e.o.Clock.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	defer m.compacting.Store(false)
	return m.compact(ctx)
}

// compact takes a layer at a position of the log, publishes it, and collects. Statements wait only for the checkpoint
// and the clone of the files; the upload goes on beside them.
func (m *logMode) compact(ctx context.Context) error {
	files, at, records, bytes, err := m.cut(ctx)
	if err != nil {
		return err
	}
	// Publish only what is durable: every record up to the layer's position is in the log before its pages go anywhere.
	position, err := at(ctx)
	if err != nil {
		return err
	}
	began := m.o.Clock.Monotonic()
	if err := m.publish(ctx, files, position); err != nil {
		return err
	}
	m.records.Add(-records)
	m.bytes.Add(-bytes)
	m.o.Logger.Info("a layer was taken", "seq", position.Seq, "took", m.o.Clock.Monotonic()-began)
	return m.collect(ctx)
}

// cut clones the files between two statements and ends the log's batch there, so that the layer holds exactly what the
// records up to its position hold.
func (m *logMode) cut(ctx context.Context) (files *memfs.FS, at func(context.Context) (wal.Position, error), records, bytes int64, err error) {
	e := m.e
	if err := e.take(ctx); err != nil {
		return nil, nil, 0, 0, err
	}
	defer e.give()
	// Within a transaction the statement would be the client's own: then recovery replays from the last checkpoint on.
	open, err := e.in.InTransaction()
	if err == nil && !open {
		_, err = e.in.Query(ctx, "CHECKPOINT")
	}
	if err != nil {
		return nil, nil, 0, 0, fmt.Errorf("checkpoint: %w", err)
	}
	files = e.in.Data().Clone()
	at = m.log.seal()
	return files, at, m.records.Load(), m.bytes.Load(), nil
}
