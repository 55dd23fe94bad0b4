package engine

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
)

// snapshots is the mode that commits by uploading everything.
type snapshots struct {
	o       *Options
	e       *Engine
	epoch   uint64
	seq     uint64 // of the last layer
	commits uint64
	kept    []keptLayer // layers in the bucket, oldest first
	dirty   bool        // something was synced that is not durable yet
	stats   CommitStats
}

func (s *snapshots) begin(context.Context) error { return nil }
func (s *snapshots) durable() bool               { return !s.dirty }
func (s *snapshots) idle() bool                  { return !s.dirty }
func (s *snapshots) last() CommitStats           { return s.stats }

// settle commits under the turn. Nothing new in the files: nothing is uploaded.
func (s *snapshots) settle(ctx context.Context) (func(context.Context) error, bool, error) {
	if !s.dirty {
		return nil, false, nil
	}
	_, err := s.force(ctx)
	return nil, false, err
}

func (s *snapshots) force(ctx context.Context) (CommitStats, error) {
	stats, err := s.commit(ctx, s.e.in)
	if err == nil {
		s.dirty, s.stats = false, stats
	}
	return stats, err
}

func (s *snapshots) catchUp(context.Context) error { return nil }

// yield and throttle have nothing to do: a commit is a layer.
func (s *snapshots) yield(context.Context)    {}
func (s *snapshots) throttle(context.Context) {}

func (s *snapshots) close(ctx context.Context, give bool) error {
	if give || !s.dirty || s.e.halted.Load() { // of a halted PostgreSQL nothing was acknowledged that is not in a layer
		return nil
	}
	_, err := s.force(ctx)
	return err
}

// watch marks the mode dirty when PostgreSQL syncs a file: at each commit it syncs its log once, before the answer.
func (s *snapshots) watch(data *memfs.FS) {
	data.SetHooks(memfs.Hooks{
		Sync:  func(string, bool) { s.dirty = true },
		Write: s.e.countLog,
	})
}

// keptLayer is a complete layer in the bucket.
type keptLayer struct {
	key   string
	parts int
}

// keepLayers is how many complete layers stay in the bucket: the manifest's and the one before it, so that an opening
// that has read the manifest just before a commit still finds what it names.
const keepLayers = 2

// commit uploads the files as they are now as a layer, and swaps the manifest to it.
func (s *snapshots) commit(ctx context.Context, in *pglite.Instance) (CommitStats, error) {
	var stats CommitStats
	clk := s.o.Clock
	began := clk.Monotonic()

	// A checkpoint keeps the layer's share of the log small. Within a transaction the statement would be the
	// client's own, so there the log since the last checkpoint goes along instead; recovery replays it.
	open, err := in.InTransaction()
	if err != nil {
		return stats, err
	}
	if !open {
		at := clk.Monotonic()
		if _, err := in.Maintain(ctx, "CHECKPOINT"); err != nil {
			return stats, fmt.Errorf("checkpoint: %w", err)
		}
		stats.Checkpoint = clk.Monotonic() - at
	}

	// The clone is taken between two calls of the guest: the files are as a crash at this moment would leave them.
	at := clk.Monotonic()
	files := in.Data().Clone()
	stats.Clone = clk.Monotonic() - at

	include, err := layerFilter(files)
	if err == nil {
		err = inProduction(files)
	}
	if err != nil {
		return stats, err
	}
	seq := s.seq + 1
	key := base.Key(s.epoch, seq)
	written, err := base.Write(ctx, s.o.Store, key, files, base.WriteOptions{Include: include, Hook: s.o.Hook, Clock: clk})
	if err != nil {
		return stats, err
	}
	stats.Compress, stats.Upload, stats.Layer = written.Compress, written.Upload, written.Wall
	stats.RawBytes, stats.StoredBytes = written.RawBytes, written.StoredBytes

	at = clk.Monotonic()
	if err := s.publish(ctx, manifest.Layer{
		Key: key, Epoch: s.epoch, Seq: seq, RawBytes: written.RawBytes, StoredBytes: written.StoredBytes, Taken: clk.Now(),
	}); err != nil {
		return stats, err
	}
	stats.ManifestCAS = clk.Monotonic() - at
	s.seq = seq
	s.commits++
	s.kept = append(s.kept, keptLayer{key, written.Parts})
	s.collect(ctx)
	stats.Wall = clk.Monotonic() - began
	return stats, nil
}

// publish swaps the manifest to a layer. Whoever is no longer the manifest's writer is fenced.
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

// collect deletes layers that are no longer needed. What it does not manage to delete costs storage, no more.
func (s *snapshots) collect(ctx context.Context) {
	for len(s.kept) > keepLayers {
		l := s.kept[0]
		s.kept = s.kept[1:]
		// The index first: a layer without one does not exist, a layer without a part is damaged.
		err := s.o.Store.Delete(ctx, base.IndexKey(l.key))
		for n := 0; n < l.parts && err == nil; n++ {
			err = s.o.Store.Delete(ctx, base.PartKey(l.key, n))
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			s.o.Logger.Warn("an old layer was not deleted", "layer", l.key, "error", err)
		}
	}
}
