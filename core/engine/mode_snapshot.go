package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// snapshots is the mode that commits by uploading a layer. What commits during an upload shares the next layer.
type snapshots struct {
	o        *Options
	e        *Engine
	database string // its id
	epoch    uint64

	// Under the cluster's lock.
	sight   sight
	synced  uint64 // syncs by clients' processes: each commit ends with one
	written wal.Op // the last operation on PostgreSQL's log

	turn         chan struct{} // its holder commits, and owns the fields below
	seq, commits uint64        // of the last layer
	kept         []*base.Layer // layers in the bucket, oldest first
	taken        layerMoment   // the last of them

	durable     atomic.Uint64 // syncs covered by the last layer
	completions atomic.Uint64 // transactions that had ended when the last layer was cut
	stats       atomic.Pointer[CommitStats]
}

func newSnapshots(e *Engine, m manifest.Manifest) *snapshots {
	s := &snapshots{o: &e.o, e: e, database: m.DatabaseID, epoch: m.Epoch, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	s.stats.Store(&CommitStats{})
	return s
}

// maxClaims bounds how often an opening tries to become the writer against rivals that open at the same time.
const maxClaims = 8

// openSnapshot opens in mode snapshot.
func (e *Engine) openSnapshot(ctx context.Context, op *opening) error {
	m, err := e.claim(ctx, op)
	if err != nil {
		return err
	}
	s := newSnapshots(e, m)
	e.commits = s
	op.stats.Epoch = m.Epoch
	if len(m.Layers) == 0 {
		return e.startNew(ctx, op, s.setHooks)
	}
	r, err := op.readLayer(ctx, m)
	if err != nil {
		return err
	}
	layer := m.Layers[len(m.Layers)-1]
	s.seq, s.commits, s.taken = layer.Seq, m.Commits, r.taken
	s.kept = []*base.Layer{r.taken.layer}
	e.holds(r.taken.layer)
	s.setHooks(r.data)
	return e.startOn(ctx, op, r.data, nil)
}

// claim makes this engine the manifest's writer, under the next epoch, and returns the manifest.
func (e *Engine) claim(ctx context.Context, op *opening) (manifest.Manifest, error) {
	pgliteSHA256 := "" // of a new database
	for range maxClaims {
		at := e.o.Clock.Monotonic()
		seen, _, err := manifest.Load(ctx, e.o.Store)
		switch {
		case errors.Is(err, store.ErrNotFound) && !e.o.Create:
			return seen, fmt.Errorf("%w: %w", ErrNoDatabase, err)
		case errors.Is(err, store.ErrNotFound):
			if err := takeover.CheckPlace(ctx, e.o.Store); err != nil {
				return seen, err
			}
			if pgliteSHA256, err = op.beforeCreate(ctx); err != nil {
				return seen, err
			}
			op.stats.Created = true
		case errors.Is(err, manifest.ErrNewer):
			return seen, fmt.Errorf("%w: %w", ErrVersion, err)
		case err != nil:
			return seen, err
		default:
			op.stats.Created = false
			if err := e.o.checkVersion(seen); err != nil {
				return seen, err
			}
			if err := e.noLog(ctx, seen); err != nil {
				return seen, err
			}
		}
		op.stats.Manifest = op.since(at)
		at = e.o.Clock.Monotonic()
		m, err := e.claimFrom(ctx, seen, pgliteSHA256)
		op.stats.Claim = op.since(at)
		if errors.Is(err, errRival) || errors.Is(err, manifest.ErrFenced) {
			continue
		}
		if err == nil {
			err = e.o.Hook.Fire(ctx, point.RestoreAfterManifest)
		}
		return m, err
	}
	return manifest.Manifest{}, fmt.Errorf("%w: %d other writers claimed it in the meantime; try again", ErrFenced, maxClaims)
}

// errRival: another writer has claimed the database since the manifest was read.
var errRival = errors.New("claimed by another writer")

// claimFrom swaps the manifest from seen to one of the next epoch, with this writer.
func (e *Engine) claimFrom(ctx context.Context, seen manifest.Manifest, pgliteSHA256 string) (manifest.Manifest, error) {
	o := manifest.Options{
		Epoch: seen.Epoch + 1, Writer: e.o.Writer, Create: e.o.Create, Hook: e.o.Hook, Clock: e.o.Clock,
	}
	m, _, err := manifest.Update(ctx, e.o.Store, o, func(m *manifest.Manifest) error {
		if m.Epoch != seen.Epoch && m.Writer != e.o.Writer {
			return errRival
		}
		if m.DatabaseID == "" {
			m.DatabaseID = store.NewWriteID()
			m.Postgres, m.PGliteSHA256 = pglite.PostgresVersion, pgliteSHA256
		}
		return nil
	})
	return m, err
}

// noLog rejects a database that has a commit log, which this mode would not see. The log is dense, so it is empty if its first name is
// absent.
func (e *Engine) noLog(ctx context.Context, m manifest.Manifest) error {
	first := wal.Key(max(m.WalStart, 1))
	_, err := e.o.Store.Get(ctx, first)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %s; use mode %q", ErrMode, first, ModeLog)
}

func (s *snapshots) mayServe(context.Context) error { return nil }
func (s *snapshots) mayLeave(mark) bool             { return false }
func (s *snapshots) backpressure(context.Context)   {} // each commit is a layer
func (s *snapshots) last() CommitStats              { return *s.stats.Load() }
func (s *snapshots) reached() []wal.Record          { return []wal.Record{{Ops: []wal.Op{s.written}}} }

// setHooks counts the syncs of clients' processes.
func (s *snapshots) setHooks(data *memfs.FS) {
	data.SetHooks(memfs.Hooks{
		Sync: func(string, bool) {
			c := s.e.server.live.Load()
			if c == nil || background(c.Current()) {
				return
			}
			s.sight.notice(c, s.synced)
			s.synced++
			c.Current().Note = s.synced
		},
		Write: func(name string, off int64, p []byte) {
			s.e.countLog(name, off, p)
			if op, ok := reaches(name, off, p); ok {
				s.written = op
			}
		},
	})
}

func (s *snapshots) mark(p *pglite.Process, inBlock bool) mark {
	if c := s.e.server.live.Load(); c != nil {
		s.sight.notice(c, s.synced)
	}
	return s.sight.answer(p, inBlock, s.o.Answers)
}

// started implements committer. After a crash, what was recovered is visible, and may not be in a layer.
func (s *snapshots) started(c *pglite.Cluster, again bool) {
	s.sight.completions = c.Completions()
	if again {
		s.synced++
		s.sight.visible = s.synced
	}
	s.completions.Store(s.sight.completions)
}

// idle implements committer. It also covers commits with synchronous_commit=off.
func (s *snapshots) idle() bool {
	idle := false
	err := s.e.server.locked(func(c *pglite.Cluster) {
		idle = s.synced == s.durable.Load() && c.Completions() == s.completions.Load()
	})
	return err == nil && idle
}

// waitFor takes a layer, unless another one taken in the meantime holds what the answer reports.
func (s *snapshots) waitFor(ctx context.Context, at mark) (committed bool, err error) {
	if s.durable.Load() >= at.number() {
		return at.wrote(), nil
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return false, errors.Join(store.ErrUnknown, ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	if err := s.e.poisonedBy(); err != nil {
		return false, err
	}
	if s.durable.Load() < at.number() {
		err = s.commit(context.WithoutCancel(ctx))
	}
	return at.wrote(), err
}

func (s *snapshots) force(ctx context.Context) (CommitStats, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return s.last(), ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	err := s.e.poisonedBy()
	if err == nil {
		err = s.commit(ctx)
	}
	return s.last(), err
}

func (s *snapshots) close(ctx context.Context, abandon bool) error {
	if abandon || s.e.halted.Load() || s.idle() { // everything that a halted PostgreSQL has acknowledged is in a layer
		return nil
	}
	_, err := s.force(ctx)
	return err
}

// keepLayers is how many complete layers stay in the bucket: the manifest's and the one before it, so that an opening that read the
// manifest just before a commit still finds the layer it names.
const keepLayers = 2

// commit uploads the files as they are now as a layer, and swaps the manifest to it. Its caller has the turn.
func (s *snapshots) commit(ctx context.Context) error {
	var stats CommitStats
	clk := s.o.Clock
	began := clk.Monotonic()

	// A checkpoint keeps the log in the layer small.
	if err := s.e.checkpoint(ctx); err != nil {
		return err
	}
	stats.Checkpoint = clk.Monotonic() - began

	// The clone is taken while no process runs: it is what a crash at this moment would leave.
	at := clk.Monotonic()
	var c cut
	var synced, completions uint64
	err := s.e.server.locked(func(cluster *pglite.Cluster) {
		c, synced, completions = cutOf(cluster.Data()), s.synced, cluster.Completions()
	})
	if err != nil {
		return err
	}
	stats.Clone = clk.Monotonic() - at

	o, err := layerOptions(c.files, false)
	if err == nil {
		err = inProduction(c.files)
	}
	if err != nil {
		return err
	}
	o.Database = s.database
	o.Share, o.Since, o.Hook, o.Clock = s.taken.layer, s.taken.moment, s.o.Hook, clk
	seq := s.seq + 1
	key := base.Key(s.epoch, seq)
	layer, written, err := base.Write(ctx, s.o.Store, key, c.files, o)
	if err != nil {
		return err
	}
	stats.Compress, stats.Upload, stats.Layer = written.Compress, written.Upload, written.Wall
	stats.RawBytes, stats.StoredBytes = written.RawBytes, written.StoredBytes

	at = clk.Monotonic()
	if err := s.publish(ctx, manifest.Layer{
		Key: key, Epoch: s.epoch, Seq: seq, RawBytes: written.RawBytes, StoredBytes: written.StoredBytes, Segments: written.Segments, Taken: clk.Now(),
	}); err != nil {
		return err
	}
	stats.ManifestCAS = clk.Monotonic() - at
	s.seq = seq
	s.commits++
	s.kept, s.taken = append(s.kept, layer), layerMoment{layer, c.moment}
	s.e.holds(layer)
	s.durable.Store(synced)
	s.completions.Store(completions)
	s.collect(ctx)
	stats.Wall = clk.Monotonic() - began
	s.stats.Store(&stats)
	return nil
}

// publish swaps the manifest to a layer. An engine that is no longer the manifest's writer is fenced.
func (s *snapshots) publish(ctx context.Context, layer manifest.Layer) error {
	o := manifest.Options{Epoch: s.epoch, Writer: s.o.Writer, Hook: s.o.Hook, Clock: s.o.Clock}
	_, _, err := manifest.Update(ctx, s.o.Store, o, func(m *manifest.Manifest) error {
		if m.Writer != s.o.Writer {
			return fmt.Errorf("%w: epoch %d of %s", manifest.ErrFenced, m.Epoch, m.Writer)
		}
		m.Layers = []manifest.Layer{layer}
		m.WalStart = layer.Seq + 1
		m.Commits = s.commits + 1
		return nil
	})
	return err
}

// collect deletes layers that are no longer needed. A failed deletion only costs storage.
func (s *snapshots) collect(ctx context.Context) {
	for len(s.kept) > keepLayers {
		l := s.kept[0]
		s.kept = s.kept[1:]
		needed := map[string]bool{}
		for _, other := range s.kept {
			for _, key := range other.Objects() {
				needed[key] = true
			}
		}
		// The index first: a layer without one does not exist, a layer without a segment is damaged.
		err := s.o.Store.Delete(ctx, base.IndexKey(l.Key()))
		for _, key := range l.Objects() {
			if err == nil && !needed[key] {
				err = s.o.Store.Delete(ctx, key)
			}
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			s.o.Logger.Warn("an old layer could not be deleted", "layer", l.Key(), "error", err)
		}
	}
}
