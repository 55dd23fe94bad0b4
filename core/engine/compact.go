package engine

import (
	"context"
	"fmt"
	"time"

	"blobpglite/core/memfs"
	"blobpglite/core/wal"
)

// What a restore is reckoned to take, where nothing was measured: a request for each record, 32 at once at the 38 ms that
// Cloud Storage takes for a small one, the bytes through PostgreSQL's recovery, and a layer's own bytes.
const (
	replayRecord = 38 * time.Millisecond / replayParallel
	replayRate   = 40 << 20 // bytes a second
	restoreRate  = 512 << 20
	// replayParallel is how many records are read at once; minRecord is what one takes from a bucket that is next door.
	replayParallel = 32
	minRecord      = 50 * time.Microsecond
	// minBudget keeps a small database from compacting all the time.
	minBudget = 250 * time.Millisecond
)

// Where no budget is given, a database under steady load is not to spend its time on layers: after one that took a
// second, the next is not begun for layerPause seconds, unless the log has grown to mustCompact budgets. At mostGrown
// budgets commits wait.
const (
	layerPause  = 7
	mustCompact = 2
	mostGrown   = 4
)

// replayTime predicts what replaying the log since the last layer adds to a restore.
func (m *logMode) replayTime() time.Duration {
	return time.Duration(m.records.Load())*m.recordTime() + time.Duration(float64(m.bytes.Load())/replayRate*float64(time.Second))
}

// recordTime is what a record takes to be read: a bucket that takes appends faster than Cloud Storage gives them back
// faster too.
func (m *logMode) recordTime() time.Duration {
	if m.o.RecordTime > 0 {
		return m.o.RecordTime
	}
	if d := time.Duration(m.request.Load()); d > 0 {
		return min(max(d/replayParallel, minRecord), replayRecord)
	}
	return replayRecord
}

// requested takes how long an append has taken into account. The goroutine that appends calls it, nobody else.
func (m *logMode) requested(took time.Duration) {
	const share = 8 // of the newest in the mean
	if old := m.request.Load(); old > 0 {
		took = time.Duration(old) + (took-time.Duration(old))/share
	}
	m.request.Store(int64(max(took, 1)))
}

// budget is what replaying the log may add to a restore; below zero: anything.
func (m *logMode) budget() time.Duration {
	if m.o.RestoreBudget == 0 {
		return max(time.Duration(m.layerTime.Load()), minBudget)
	}
	return m.o.RestoreBudget
}

// wanted says whether a layer is wanted: at half of the budget, so that the other half is there while it is on its way.
func (m *logMode) wanted() bool {
	budget := m.budget()
	return budget >= 0 && m.replayTime() >= budget/2
}

// due says whether a wanted layer is to be taken now.
func (m *logMode) due() bool {
	if !m.wanted() {
		return false
	}
	rests := m.o.RestoreBudget == 0 && m.replayTime() < mustCompact*m.budget()
	return !rests || m.o.Clock.Monotonic() >= time.Duration(m.pause.Load())
}

// consider starts a compaction, or maintenance, if it is due: one after the other, for pages that change while a layer holds them
// are in memory twice. It is called under the turn and only starts things.
func (m *logMode) consider() {
	if m.due() && !(m.upkeep.running.Load() && m.replayTime() < m.budget()) && m.compacting.CompareAndSwap(false, true) {
		m.layers.Go(func() {
			if err := m.compact(m.layerCtx); err != nil && m.layerCtx.Err() == nil {
				m.o.Logger.Warn("the log was not compacted", "error", err)
			}
			m.compacting.Store(false)
			m.inTurn(m.layerCtx, func() { m.upkeep.consider(m) })
		})
	}
	m.upkeep.consider(m)
}

// inTurn does something under the turn, unless the engine ends before.
func (m *logMode) inTurn(ctx context.Context, do func()) {
	if m.e.take(ctx) == nil {
		defer m.e.give()
		do()
	}
}

// throttle holds a commit back while the budget is used up and the layer that frees it is still on its way: the promise
// about restores is kept even by a client that commits faster than layers can be taken. It does not wait for a layer that has
// no cut yet: that layer waits for the turn, which the client may have. (Where others have it, the cut comes in between.)
func (m *logMode) throttle(ctx context.Context) {
	const look = 2 * time.Millisecond
	for m.compacting.Load() && m.asked.Load() == nil {
		limit := m.budget()
		if m.o.RestoreBudget == 0 {
			limit *= mostGrown
		}
		if limit < 0 || m.replayTime() < limit {
			break
		}
		if err := m.o.Clock.Sleep(ctx, look); err != nil {
			return // it is durable; only the waiting ends
		}
	}
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
	c, err := m.nextCut(ctx)
	if err != nil {
		return err
	}
	// Publish only what is durable: every record up to the layer's position is in the log before its pages go anywhere.
	position, err := c.at(ctx)
	if err != nil {
		return err
	}
	began := m.o.Clock.Monotonic()
	defer func() {
		now := m.o.Clock.Monotonic()
		m.pause.Store(int64(now + layerPause*(now-began)))
	}()
	if err := m.publish(ctx, c.files, position); err != nil {
		return err
	}
	m.records.Add(-c.records)
	m.bytes.Add(-c.bytes)
	m.o.Logger.Info("a layer was taken", "seq", position.Seq, "took", m.o.Clock.Monotonic()-began)
	return m.collect(ctx)
}

// cut is what a layer is made of: the files at a moment between two statements, and the position of the log that belongs
// to it.
type cut struct {
	files          *memfs.FS
	at             func(context.Context) (wal.Position, error) // waits until it is durable
	records, bytes int64                                       // of the log up to there
}

// cutting is a layer's wait for its cut.
type cutting struct {
	done chan struct{} // closed when there is one
	cut  cut
	err  error
}

// nextCut makes a cut when nobody has the turn, or gets it from a client that keeps the turn for longer (yield).
func (m *logMode) nextCut(ctx context.Context) (cut, error) {
	ask := &cutting{done: make(chan struct{})}
	m.asked.Store(ask)
	defer m.asked.Store(nil)
	select {
	case <-m.e.turn:
	case <-ask.done:
		return ask.cut, ask.err
	case <-ctx.Done():
		return cut{}, ctx.Err()
	}
	defer m.e.give()
	if m.asked.Load() == nil { // who had the turn made the cut and gave the turn up
		return ask.cut, ask.err
	}
	if err := m.e.serves(); err != nil {
		return cut{}, err
	}
	return m.cut(ctx)
}

// yield makes the cut for a layer that waits for it, in the turn of a client that keeps it, such as one with temporary
// tables. Within the client's transaction it does not: PostgreSQL makes its checkpoint between two.
func (m *logMode) yield(ctx context.Context) {
	ask := m.asked.Load()
	if ask == nil {
		return
	}
	if open, err := m.e.in.InTransaction(); open || err != nil {
		return
	}
	if ask = m.asked.Swap(nil); ask == nil {
		return // it has been given up
	}
	ask.cut, ask.err = m.cut(context.WithoutCancel(ctx))
	close(ask.done)
}

// cut clones the files between two statements and ends the log's batch there, so that the layer holds exactly what the
// records up to its position hold. The caller has the turn.
func (m *logMode) cut(ctx context.Context) (cut, error) {
	e := m.e
	// Within a transaction the statement would be the client's own: then recovery replays from the last checkpoint on.
	open, err := e.in.InTransaction()
	if err == nil && !open {
		if _, err = e.in.Maintain(ctx, "CHECKPOINT"); err == nil {
			m.old.checkpoint()
		}
	}
	if err != nil {
		return cut{}, fmt.Errorf("checkpoint: %w", err)
	}
	if m.old.forgot {
		return cut{}, fmt.Errorf("its log is not in the files any more: %w", errOpenTransaction)
	}
	files := e.in.Data().Clone()
	return cut{files: files, at: m.log.seal(), records: m.records.Load(), bytes: m.bytes.Load()}, nil
}

// lastLayerLimit bounds what the last layer may take: a platform gives an instance ten seconds to end.
const lastLayerLimit = 5 * time.Second

// lastLayer is for an engine that ends while a layer is wanted: it was put off, or is on its way, and given up here. Otherwise
// whoever wakes next would replay the log of all that was loaded, and again at every short wake. The files are cut now, while
// the lease is held; what is returned uploads them, and may run when the lease has been given back, since a layer is what it
// is whoever writes meanwhile. Nothing is collected then. Nil: none is wanted. A failure costs nothing but the layer. The caller
// has the turn.
func (m *logMode) lastLayer(ctx context.Context) func(context.Context) {
	m.stopLayer()
	m.layers.Wait()
	if !m.wanted() || !m.compacting.CompareAndSwap(false, true) {
		return nil
	}
	fail := func(err error) {
		m.compacting.Store(false)
		m.o.Logger.Warn("no layer was taken at the end", "error", err)
	}
	c, err := m.cut(ctx)
	if err != nil {
		fail(err)
		return nil
	}
	end, err := c.at(ctx)
	if err != nil {
		fail(err)
		return nil
	}
	return func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		timer := m.o.Clock.NewTimer(lastLayerLimit)
		watched := make(chan struct{})
		defer func() { timer.Stop(); cancel(); <-watched }()
		go func() {
			defer close(watched)
			select {
			case <-timer.C():
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := m.publish(ctx, c.files, end); err != nil {
			fail(err)
			return
		}
		m.compacting.Store(false)
		m.o.Logger.Info("a layer was taken at the end", "seq", end.Seq)
	}
}
