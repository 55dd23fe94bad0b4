package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/wal"
)

// consider starts a compaction in the background if one is due. It does not wait.
func (m *logMode) consider() {
	if m.layerCtx.Err() != nil || !m.budget.due() || !m.compacting.CompareAndSwap(false, true) {
		return
	}
	m.layers.Go(func() {
		defer m.compacted()
		err := m.compact(m.layerCtx)
		isThere := err == nil || errors.Is(err, errNotCollected)
		switch m.budget.tried(isThere); {
		case m.layerCtx.Err() != nil:
		case !isThere:
			m.o.Logger.Warn("the log could not be compacted", "error", err)
		case err != nil:
			m.o.Logger.Warn("objects that a layer has made superfluous could not be deleted", "error", err)
		}
	})
}

// errNotCollected: a layer was taken, but not everything that it has made superfluous was deleted.
var errNotCollected = errors.New("a layer was taken, but the objects that it has made superfluous could not be deleted")

// backpressure holds a commit back while the budget is used up and the layer that frees it is being taken. So the promise about restores
// holds even if a client commits faster than layers can be taken.
func (m *logMode) backpressure(ctx context.Context) {
	for eased := m.budget.eased.next(); m.compacting.Load() && m.budget.usedUp(); eased = m.budget.eased.next() {
		select {
		case <-eased:
		case <-ctx.Done():
			return // the commit is durable; only the wait is cut short
		}
	}
}

// compacted ends a compaction, or an attempt: callers that wait for it may continue, or begin the next one.
func (m *logMode) compacted() {
	m.compacting.Store(false)
	m.budget.eased.tell()
}

// Compact takes a new layer now, waits for it, and collects what it has made superfluous. In mode snapshot it returns an error.
func (e *Engine) Compact(ctx context.Context) error {
	m, ok := e.commits.(*logMode)
	if !ok {
		return fmt.Errorf("compact: mode %q has no log", e.o.Mode)
	}
	for ended := m.budget.eased.next(); !m.compacting.CompareAndSwap(false, true); ended = m.budget.eased.next() {
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer m.compacted()
	return m.compact(ctx)
}

// compact takes a layer at a position of the log, publishes it, and collects. Statements wait only while the files are cloned; they run
// during the checkpoint and the upload.
func (m *logMode) compact(ctx context.Context) error {
	c, err := m.cut(ctx)
	if err != nil {
		return err
	}
	// Publish only what is durable: every record up to the layer's position is in the log before any of its pages is uploaded.
	position, err := c.durable(ctx)
	if err != nil {
		return err
	}
	began := m.o.Clock.Monotonic()
	defer func() { m.budget.worked(m.o.Clock.Monotonic() - began) }()
	settle, err := m.publish(ctx, c, position)
	if err == nil {
		err = settle()
	}
	if err != nil {
		return err
	}
	m.budget.covered(c.records, c.bytes)
	m.o.Logger.Info("a layer was taken", "seq", position.Seq, "took", m.o.Clock.Monotonic()-began)
	if err := m.collect(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNotCollected, err)
	}
	return nil
}

// cut is what a layer is made from: a clone of the files at a moment when no process runs, and the position of the log at that moment.
type cut struct {
	files          *memfs.FS
	moment         memfs.Mark                                  // of the tree they were cloned from: they hold everything written before it
	durable        func(context.Context) (wal.Position, error) // waits until that position is durable
	records, bytes int64                                       // of the log, up to that position
	took           time.Duration                               // how long the clone took
}

// cutOf clones files.
func cutOf(data *memfs.FS) cut {
	moment := data.Mark()
	return cut{files: data.Clone(), moment: moment}
}

// cut clones the files while no process runs and ends the log's batch there, so that the layer holds exactly what the records up to its
// position hold. It holds open transactions as they are after a crash: recovery rolls them back, unless a later record commits them. The
// checkpoint before it keeps small the part of PostgreSQL's own log that the layer needs.
func (m *logMode) cut(ctx context.Context) (cut, error) {
	if err := m.e.checkpoint(ctx); err != nil {
		return cut{}, err
	}
	var c cut
	err := m.e.server.locked(func(cluster *pglite.Cluster) {
		began := m.o.Clock.Monotonic()
		c = cutOf(cluster.Data())
		c.took = m.o.Clock.Monotonic() - began
		c.durable, c.records, c.bytes = m.log.seal(), m.budget.records.Load(), m.budget.bytes.Load()
	})
	if m.cache != nil && err == nil {
		// Otherwise the clone would keep in memory the pages that the files evict while the layer is being taken.
		c.files.Evict(memfs.Eviction{Keep: pglite.KeepResident})
	}
	return c, err
}

// firstLayer uploads a new database's files as they were before its first commit: all records are replayed on top of them. It runs once,
// before the first append, so that a database that is never written costs nothing.
func (m *logMode) firstLayer(ctx context.Context) error {
	if m.hasBase.Load() {
		return nil
	}
	settle, err := m.publish(ctx, m.initial, m.opened.Log.Tail())
	if err != nil {
		return fmt.Errorf("upload the first layer: %w", err)
	}
	// In the background: the holder of the cluster's lock may be waiting for an append.
	m.background.Go(func() { _ = settle() })
	m.initial = cut{}
	m.hasBase.Store(true)
	return nil
}

// publish uploads files as the layer at a position, up to which every record is durable, and swaps the manifest to it. The layer shares
// unchanged pages with the last one. settle, which takes the cluster's lock, tells the files where their pages are now; until it has run,
// nothing of older layers may be collected.
func (m *logMode) publish(ctx context.Context, c cut, at wal.Position) (settle func() error, err error) {
	settle = func() error { return nil }
	if err := inProduction(c.files); err != nil { // records follow it
		return nil, err
	}
	o, err := layerOptions(c.files, m.cache.isCrowded())
	if err != nil {
		return nil, err
	}
	o.Database = m.opened.Manifest.DatabaseID
	o.Share, o.Since, o.Hook, o.Clock = m.taken.layer, m.taken.moment, m.o.Hook, m.o.Clock
	o.Unreadable = func(segment string, err error) {
		m.o.Logger.Error("a page segment is damaged or gone: its pages stay where they are, and statements that read them fail; restore the object", "object", segment, "error", err)
	}
	if m.cache != nil {
		o.Pages, o.Boot = m.cache.pages, m.cache.bootSet()
	}
	key := base.Key(m.opened.Epoch, at.Seq)
	layer, stats, err := base.Write(ctx, m.o.Store, key, c.files, o)
	if err != nil {
		return nil, err
	}
	read := stats.RawBytes
	if m.cache != nil {
		read = min(read, max(eagerBytes, m.cache.budget))
	}
	m.budget.published(read)
	now, err := manifest.Publish(ctx, m.o.Store,
		manifest.Options{Epoch: m.opened.Epoch, Writer: m.o.Writer, Hook: m.o.Hook, Clock: m.o.Clock, Retain: m.o.Retain},
		manifest.Layer{
			Key: key, Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:]),
			RawBytes: stats.RawBytes, StoredBytes: stats.StoredBytes, Segments: stats.Segments,
		})
	if m.undecided = err != nil; err != nil {
		return nil, err
	}
	// Only a layer that the manifest names may be shared with: the next collection deletes all others.
	if n := len(now.Layers); n > 0 && now.Layers[n-1].Key == key {
		m.taken = layerMoment{layer, c.moment}
		m.e.holds(layer)
		m.lastTaken.Store(&LayerStats{Seq: at.Seq, Clone: c.took, Written: stats})
		m.learnt.Layer(key, layer.Segments())
		m.cache.published()
		settle = func() error { return m.cache.settle(ctx, layer, c.moment) }
	}
	return settle, nil
}

// collect deletes what the new layer has made superfluous.
func (m *logMode) collect(ctx context.Context) error {
	tail := m.log.position().Seq
	stats, err := gc.Collect(ctx, gc.Options{
		Store: m.o.Store, Epoch: m.opened.Epoch, Writer: m.o.Writer, From: m.collected, Recent: true, Clock: m.o.Clock, Hook: m.o.Hook, Parallel: gc.MaxParallel, Learnt: &m.learnt,
		IsData: func(seq uint64) bool { return seq > m.fence && seq <= tail },
	})
	if err == nil {
		m.collected = stats.WalStart
	}
	return err
}

// finalLayerLimit bounds the final layer and the collection after it: Cloud Run gives an instance ten seconds to end.
const finalLayerLimit = 5 * time.Second

// The cost of a layer at the end, compared with reading the records again, at Cloud Storage's prices: four writes (the record of its
// checkpoint, its segment, its index, the manifest) at $0.005 per thousand equal fifty reads at $0.0004. A large upload also takes time.
const (
	layerPays      = 50        // records, at least
	layerPaysBytes = 256 << 20 // bytes of files, at most
)

// pays says whether a layer costs less than reading the records since the last one again.
func (m *logMode) pays() bool {
	return m.o.RestoreBudget == 0 && m.budget.records.Load() >= layerPays && m.taken.layer != nil && m.toUpload() <= layerPaysBytes
}

// teaches says whether a layer spares the next cold starts what this one waited for: page after page, because the newest layer has no boot
// set. That happens when data was loaded in one life and only read in later ones, so that no layer is due. It happens once: each later
// layer has the boot set, or a newer one. No layer is taken where none is wanted.
func (m *logMode) teaches() bool {
	return m.o.RestoreBudget >= 0 && m.cache.learnt() && m.taken.layer != nil && !m.taken.layer.HasBootSet() && m.toUpload() <= layerPaysBytes
}

// toUpload is an upper bound of the bytes that a layer would upload.
func (m *logMode) toUpload() int64 {
	n := m.taken.layer.RawBytes()
	if m.cache != nil {
		// On an error PostgreSQL has ended, which the layer's own cut reports.
		_ = m.e.server.locked(func(c *pglite.Cluster) { n = c.Data().UnsettledBytes(nil) })
	}
	return n
}

// finalLayer is for an engine that ends while a layer is wanted: one was put off, or is being taken and is given up here, or a layer costs
// less than what the next cold start would read, or spares it waits. Without it, every cold start would replay the log of everything that
// was loaded. The files are cloned now, while the lease is held. The returned function uploads them, and may run after the lease was
// released: a layer stays correct whoever writes in the meantime. Nil: none is wanted. After a failure only the layer is missing.
func (m *logMode) finalLayer(ctx context.Context) func(context.Context) {
	m.stopLayer()
	m.layers.Wait()
	if !m.budget.wanted() && !m.pays() && !m.teaches() || !m.compacting.CompareAndSwap(false, true) {
		return nil
	}
	fail := func(err error) {
		m.compacted()
		m.o.Logger.Warn("no layer could be taken at the end", "error", err)
	}
	c, err := m.cut(ctx)
	if err != nil {
		fail(err)
		return nil
	}
	end, err := c.durable(ctx)
	if err != nil {
		fail(err)
		return nil
	}
	return func(ctx context.Context) {
		settle, err := m.publish(ctx, c, end)
		if err != nil {
			fail(err)
			return
		}
		m.settleLast = settle
		m.compacted()
		m.o.Logger.Info("a layer was taken at the end", "seq", end.Seq)
	}
}

// collectEvery: one in collectEvery engines collects when it ends. Normally each layer is followed by a collection, but the one at an end
// is not; where every life is short, there would be no collection at all.
const collectEvery = 16

// tidy collects at the end of some engines. The lease may have been released: only the manifest's current writer collects anything.
func (m *logMode) tidy(ctx context.Context) {
	if m.opened.Epoch%collectEvery != 0 || !m.hasBase.Load() || !m.compacting.CompareAndSwap(false, true) {
		return
	}
	defer m.compacted()
	if m.undecided { // a swap that was given up may be applied late: then the manifest names objects that a reading of it now does not show
		return
	}
	if m.settleLast != nil && m.settleLast() != nil { // PostgreSQL has ended, or crashed
		return
	}
	if err := m.collect(ctx); err != nil && !errors.Is(err, manifest.ErrFenced) {
		m.o.Logger.Warn("superfluous objects could not be deleted", "error", err)
	}
}
