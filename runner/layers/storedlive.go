package layers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func storedLiveVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "storedlive",
			Doc: "a week of a database's files, without PostgreSQL, on a virtual clock and a store in memory: pages change at random, " +
				"more by day, in bursts, in a nightly batch, and not at all in quiet hours; every ten minutes, if something changed, a " +
				"layer is taken that shares with the previous one, published with ten minutes of retention, and collected. What is stored " +
				"is compared with what the same files take without sharing, and layers named by the manifest are restored and compared " +
				"byte by byte",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the files"},
				{Name: "days", Kind: scenario.KindInt, Default: "7", Doc: "of virtual time"},
				{Name: "sample", Kind: scenario.KindInt, Default: "50", Doc: "after how many layers what is kept is restored, and written " +
					"without sharing"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "weeks, each with its own seed"},
			},
			Metrics: bench.MetricDocs(
				"layers_count", "layers taken", "restored_count", "layers restored and compared",
				"live_bytes", "size of a layer's files without sharing", "stored_bytes", "bytes of all objects in the bucket "+
					"after a collection",
				"newest_ratio", "bytes of the objects that the newest layer needs, over live bytes", "stored_ratio", "bytes of all objects in the "+
					"bucket, over live bytes",
				"changed_bytes", "uncompressed bytes that changed, per layer", "cleaned_bytes", "bytes that a layer rewrote to free "+
					"segments that were hardly used",
				"cleaning_ratio", "bytes rewritten over bytes that changed, in all layers",
				"cleaned_ratio", "bytes that a layer rewrote, over the larger of what changed and 16 MiB",
				"segments_count", "segments that the newest layer needs", "index_bytes", "size of the newest layer's index",
			),
		},
		Bare: true,
		Run:  storedLive,
	}
}

const (
	weekStep  = 10 * time.Minute // between layers, and how long states are kept
	weekEpoch = 1
	// leastCleaning is what a layer may clean however little has changed: see core/base, plan.go.
	leastCleaning = 16 << 20
)

// week is one that passes.
type week struct {
	r       *bench.Run
	seed    uint64
	st      *mem.Store
	clk     *clock.Virtual
	load    *pageLoad
	learnt  gc.Learnt
	from    uint64
	seq     uint64
	layer   *base.Layer
	mark    memfs.Mark
	clones  map[string]*memfs.FS // of each layer that the manifest names
	perRaw  float64              // stored bytes for each raw one, with nothing shared
	sample  int
	changed int64
	cleaned int64
}

func storedLive(ctx context.Context, r *bench.Run, args scenario.Args) error {
	for round := range args.Int("rounds") {
		w := &week{
			r: r, seed: r.Seed + uint64(round), st: mem.New(mem.Options{}), clk: clock.NewVirtual(time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)),
			clones: map[string]*memfs.FS{}, sample: max(args.Int("sample"), 1),
		}
		r.Notes = append(r.Notes, fmt.Sprintf("round %d: seed %d", round+1, w.seed))
		if err := w.pass(ctx, int64(args.Size("size")), args.Int("days")); err != nil {
			return fmt.Errorf("seed %d: %w", w.seed, err)
		}
	}
	return nil
}

// pass lets the days pass.
func (w *week) pass(ctx context.Context, size int64, days int) error {
	var err error
	if w.load, err = newPageLoad(size, w.seed); err != nil {
		return err
	}
	_, _, err = manifest.Update(ctx, w.st, w.manifestOptions(), func(m *manifest.Manifest) error {
		m.DatabaseID = "week"
		return nil
	})
	if err != nil {
		return err
	}
	steps := int64(days) * int64(24*time.Hour/weekStep)
	for i := range steps + 1 {
		w.r.Progress(fmt.Sprintf("%s %s: the week passes", w.r.Cell.Probe, w.r.Cell.Label), i, steps)
		if i > 0 {
			w.clk.Advance(weekStep)
			some, err := w.load.step(time.Duration(i) * weekStep)
			if err != nil {
				return err
			}
			if !some {
				continue
			}
		}
		if err := w.take(ctx); err != nil {
			return err
		}
	}
	if err := w.look(ctx); err != nil {
		return err
	}
	w.r.Metrics.Value("layers_count", float64(w.seq))
	w.r.Metrics.Value("cleaning_ratio", float64(w.cleaned)/float64(max(w.changed, 1)))
	return nil
}

func (w *week) manifestOptions() manifest.Options {
	return manifest.Options{Epoch: weekEpoch, Writer: "week", Create: true, Clock: w.clk, Retain: weekStep}
}

// take takes a layer as the engine does: write, publish, collect.
func (w *week) take(ctx context.Context) error {
	w.seq++
	key, mark, files := base.Key(weekEpoch, w.seq), w.load.tree.Mark(), w.load.tree.Clone()
	layer, stats, err := base.Write(ctx, w.st, key, files, base.WriteOptions{Share: w.layer, Since: w.mark, Clock: w.clk})
	if err != nil {
		return err
	}
	m, err := manifest.Publish(ctx, w.st, w.manifestOptions(), manifest.Layer{
		Key: key, Epoch: weekEpoch, Seq: w.seq, RawBytes: stats.RawBytes, StoredBytes: stats.StoredBytes, Segments: stats.Segments,
	})
	if err != nil {
		return err
	}
	w.clones[key] = files
	w.forget(m)
	w.learnt.Layer(key, layer.Segments())
	collected, err := gc.Collect(ctx, gc.Options{
		Store: w.st, Epoch: weekEpoch, Writer: "week", From: w.from, Learnt: &w.learnt, Parallel: gc.MaxParallel, Clock: w.clk,
	})
	if err != nil {
		return err
	}
	first := w.layer == nil
	w.layer, w.mark, w.from = layer, mark, collected.WalStart
	if first || w.seq%uint64(w.sample) == 0 {
		if err := w.look(ctx); err != nil {
			return err
		}
	}
	return w.record(ctx, stats, first)
}

// forget lets clones go whose layers the manifest does not name any more.
func (w *week) forget(m manifest.Manifest) {
	named := map[string]bool{}
	for _, l := range m.Layers {
		named[l.Key] = true
	}
	for key := range w.clones {
		if !named[key] {
			delete(w.clones, key)
		}
	}
}

// record measures what is stored.
func (w *week) record(ctx context.Context, stats base.Stats, first bool) error {
	stored, index := int64(0), int64(0)
	for a, err := range w.st.List(ctx, "", "") {
		if err != nil {
			return err
		}
		if stored += a.Size; a.Key == base.IndexKey(w.layer.Key()) {
			index = a.Size
		}
	}
	live, use, m := w.perRaw*float64(stats.RawBytes), w.layer.Use(), w.r.Metrics
	m.Value("live_bytes", live)
	m.Value("stored_bytes", float64(stored))
	m.Value("newest_ratio", float64(use.StoredBytes)/live)
	m.Value("stored_ratio", float64(stored)/live)
	m.Value("segments_count", float64(use.Segments))
	m.Value("index_bytes", float64(index))
	if first { // all is new
		return nil
	}
	changed := stats.NewRawBytes - stats.CleanedBytes
	w.changed, w.cleaned = w.changed+changed, w.cleaned+stats.CleanedBytes
	m.Value("changed_bytes", float64(changed))
	m.Value("cleaned_bytes", float64(stats.CleanedBytes))
	m.Value("cleaned_ratio", float64(stats.CleanedBytes)/float64(max(changed, leastCleaning)))
	return nil
}

// look restores every layer named by the manifest and compares it with its source, looks for what nothing reaches, and finds out what the
// files take with nothing shared.
func (w *week) look(ctx context.Context) error {
	s, err := TakeStock(ctx, w.st)
	if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound) {
		w.r.Check(checkRestored, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	w.r.Check(bench.CheckCollected, s.Left())
	for _, l := range s.manifest.Layers {
		got := memfs.New(memfs.Options{})
		if _, _, err := base.Read(ctx, w.st, l.Key, got, base.ReadOptions{}); err != nil {
			w.r.Check(checkRestored, err.Error())
			continue
		}
		wrong, err := difference(w.clones[l.Key], got)
		if err != nil {
			return err
		}
		if wrong != "" {
			wrong = l.Key + ": " + wrong
		}
		w.r.Check(checkRestored, wrong)
		w.r.Metrics.Value("restored_count", 1)
	}
	key := w.layer.Key()
	_, stats, err := base.Write(ctx, mem.New(mem.Options{}), key, w.clones[key], base.WriteOptions{})
	if err != nil {
		return err
	}
	w.perRaw = float64(stats.StoredBytes) / float64(stats.RawBytes)
	return nil
}
