package layers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

const (
	growthRecord   = 334      // bytes of a commit's record, as measured by e2c
	growthFiles    = 10 << 20 // bytes of files
	growthLayerDue = 60       // records after a layer, at which the next is taken
	growthDirty    = 12       // pages that change between two layers
	growthSample   = 96       // wakes at each end that are compared
)

func growthVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "growth",
			Doc: "the modeled traffic's wakes over many days at the level of the store, in virtual time, without PostgreSQL: each takes " +
				"the lease, reads, fences, swaps, appends its writes, takes and collects layers when they are due, and releases the " +
				"lease. The requests of a wake at the end are compared with those of the first days",
			Args: []scenario.Arg{{Name: "days", Kind: scenario.KindInt, Default: "365", Doc: "of traffic"}},
			Metrics: bench.MetricDocs("first_class_a_count", "class A requests of a cold start in the first days, excluding its writes", "last_class_a_count", "class A requests of a cold "+
				"start in the last days, excluding its writes", "first_list_count", "list requests of a cold start "+
				"in the first days", "last_list_count", "list requests of a cold start "+
				"in the last days",
				"first_get_count", "GETs of a cold start in the first days: all its class B requests", "last_get_count", "GETs of a cold start in the "+
					"last days: all its class B requests",
				"first_kept_bytes", "bytes in the bucket except fences, in the first days", "last_kept_bytes", "bytes in the bucket except "+
					"fences, in the last days",
				"first_stored_per_used_ratio", "pages in the newest base backup's objects over those it uses, in the first days", "last_stored_per_used_ratio", "pages in the newest base "+
					"backup's objects over those it uses, in the last days; the bound is 2", "first_manifest_bytes", "size of the manifest in the first days", "last_manifest_bytes", "size of the manifest in the last days", "first_object_count", "objects in the bucket except "+
					"fences, in the first days",
				"last_object_count", "objects in the bucket except fences, in the last days", "fence_count", "fences at the end, which stay "+
					"forever", "fence_bytes", "bytes of all fences at the end", "stored_bytes", "bytes of everything stored at the end", "fences_per_wake_ratio", "fences that each cold start "+
					"adds forever",
				"collect_list_count", "list requests of a collection, over all days", "collect_all_list_count", "list requests of a collection "+
					"that goes through the whole log, as one in 64 does: this one keeps growing", "fences_month_usd", "monthly price of all fences "+
					"at the end"),
		},
		Run: runGrowth,
	}
}

// paged counts a bucket's list requests. It is used by one goroutine.
type paged struct {
	*mem.Store
	pages int64 // requests
	whole bool  // the log was listed from its beginning
}

// List implements store.Store.
func (p *paged) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	p.whole = p.whole || prefix == wal.Prefix() && after == ""
	return func(yield func(store.Attrs, error) bool) {
		p.pages++
		n := 0
		for a, err := range p.Store.List(ctx, prefix, after) {
			if n > 0 && n%store.PageSize == 0 {
				p.pages++
			}
			n++
			if !yield(a, err) {
				return
			}
		}
	}
}

// grown is a database without PostgreSQL.
type grown struct {
	r     *bench.Run
	mem   *paged
	st    *store.Counted
	clk   *clock.Virtual
	load  *pageLoad
	layer *base.Layer
	mark  memfs.Mark
	since int // records after the layer
	epoch uint64
}

func runGrowth(ctx context.Context, r *bench.Run, args scenario.Args) error {
	days := args.Int("days")
	load, err := newPageLoad(growthFiles, r.Seed)
	if err != nil {
		return err
	}
	bucket := &paged{Store: mem.New(mem.Options{})}
	g := &grown{r: r, mem: bucket, st: store.Count(bucket), clk: clock.NewVirtual(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), load: load}
	wakes := workload.Traffic(r.Seed, days*24)
	for i, w := range wakes {
		if d := w.At - g.clk.Monotonic(); d > 0 {
			g.clk.Advance(d)
		}
		before, pages := g.st.Ops(), bucket.pages
		if err := g.wake(ctx, w); err != nil {
			return fmt.Errorf("wake %d, epoch %d: %w", i+1, g.epoch, err)
		}
		now := g.st.Ops()
		end := ""
		switch {
		case i >= len(wakes)-growthSample:
			end = "last"
		case i >= growthSample && i < 2*growthSample: // the very first ones have no layers
			end = "first"
		}
		if end != "" {
			r.Metrics.Value(end+"_class_a_count", float64(now.ClassA-before.ClassA-int64(w.Writes)))
			r.Metrics.Value(end+"_list_count", float64(bucket.pages-pages))
			r.Metrics.Value(end+"_get_count", float64(now.ClassB-before.ClassB))
			if err := g.census(ctx, end, i == len(wakes)-1); err != nil {
				return err
			}
		}
		if i%workload.DayWakes == 0 {
			r.Progress(r.Cell.Probe+": days", int64(i/workload.DayWakes), int64(days))
		}
	}
	return g.judge(ctx, len(wakes))
}

// wake is one wake: what core/engine does, without an engine.
func (g *grown) wake(ctx context.Context, w workload.Wake) error {
	writer := fmt.Sprintf("wake-%d", g.epoch+1)
	o, err := takeover.Open(ctx, takeover.Options{
		Store: g.st, Writer: writer, Create: true, Postgres: "18.6", Retain: manifest.DefaultRetain, Clock: g.clk, AcquireTimeout: time.Minute, Parallel: 1,
	})
	if err != nil {
		return err
	}
	g.epoch = o.Epoch
	fence := o.Log.Tail().Seq
	body := make([]byte, growthRecord)
	for range w.Writes {
		for i := range body {
			body[i] = byte(g.load.random.Uint32())
		}
		if _, err := o.Log.Append(ctx, []wal.Op{{Kind: wal.OpWrite, Path: "/pg_wal/1", Data: body}}); err != nil {
			return err
		}
		g.since++
		g.clk.Advance(50 * time.Millisecond)
	}
	if g.since >= growthLayerDue {
		if err := g.takeLayer(ctx, o, writer, fence); err != nil {
			return err
		}
	}
	return o.Lease.Release(ctx)
}

// takeLayer takes a layer, as the engine does, and collects.
func (g *grown) takeLayer(ctx context.Context, o *takeover.Opened, writer string, fence uint64) error {
	for range growthDirty {
		f := g.load.files[g.load.random.IntN(len(g.load.files))]
		if err := g.load.write(f, g.load.random.IntN(f.pages)); err != nil {
			return err
		}
	}
	tail := o.Log.Tail()
	mark, clone, key := g.load.tree.Mark(), g.load.tree.Clone(), base.Key(o.Epoch, tail.Seq)
	layer, stats, err := base.Write(ctx, g.st, key, clone, base.WriteOptions{Share: g.layer, Since: g.mark, Clock: g.clk})
	if err != nil {
		return err
	}
	_, err = manifest.Publish(ctx, g.st, manifest.Options{Epoch: o.Epoch, Writer: writer, Clock: g.clk, Retain: manifest.DefaultRetain}, manifest.Layer{
		Key: key, Epoch: tail.Epoch, Seq: tail.Seq, Hash: hex.EncodeToString(tail.Hash[:]), RawBytes: stats.RawBytes, StoredBytes: stats.StoredBytes, Segments: stats.Segments,
	})
	if err != nil {
		return err
	}
	g.layer, g.mark, g.since = layer, mark, 0
	before := g.mem.pages
	g.mem.whole = false
	_, err = gc.Collect(ctx, gc.Options{
		Store: g.st, Epoch: o.Epoch, Writer: writer, Clock: g.clk, Recent: true, IsData: func(seq uint64) bool { return seq > fence && seq <= tail.Seq },
	})
	g.r.Metrics.Value("collect_list_count", float64(g.mem.pages-before))
	if g.mem.whole {
		g.r.Metrics.Value("collect_all_list_count", float64(g.mem.pages-before))
	}
	return err
}

// census counts what is there, without being counted itself.
func (g *grown) census(ctx context.Context, end string, last bool) error {
	fences, fenceBytes, others, bytes := 0, int64(0), 0, int64(0)
	for a, err := range g.mem.Store.List(ctx, "", "") {
		if err != nil {
			return err
		}
		bytes += a.Size
		if len(a.WriteID) > len(wal.FenceID) && a.WriteID[:len(wal.FenceID)] == wal.FenceID {
			fences, fenceBytes = fences+1, fenceBytes+a.Size
		} else {
			others++
		}
		if a.Key == manifest.Key {
			g.r.Metrics.Value(end+"_manifest_bytes", float64(a.Size))
		}
	}
	g.r.Metrics.Value(end+"_object_count", float64(others))
	g.r.Metrics.Value(end+"_kept_bytes", float64(bytes-fenceBytes))
	if g.layer != nil {
		use := g.layer.Use()
		g.r.Metrics.Value(end+"_stored_per_used_ratio", float64(use.Chunks)/float64(use.LiveChunks))
	}
	if last {
		g.r.Metrics.Value("fence_count", float64(fences))
		g.r.Metrics.Value("fence_bytes", float64(fenceBytes))
		g.r.Metrics.Value("stored_bytes", float64(bytes))
		g.r.Metrics.Value("fences_month_usd", float64(fenceBytes)/1e9*record.PriceStorageUSD)
		g.r.Metrics.Value("fences_per_wake_ratio", float64(fences)/float64(g.epoch))
	}
	return nil
}

// bounded returns the metrics that are compared, without first_ and last_, and how much of the first days' mean the last's may be: traffic
// differs from day to day, by its long tail. A newly written database has no page that is stored and not used; later there may be up to as
// many again, because a segment of which less than half is used is written again.
// many again are, for a segment of which less than half is used is written again.
func bounded() map[string]float64 {
	const share, stored = 1.3, 2.0
	return map[string]float64{
		"class_a_count": share, "list_count": share, "get_count": share, "manifest_bytes": share, "object_count": share,
		"kept_bytes": stored, "stored_per_used_ratio": stored,
	}
}

// growthSlack is how far the last days' mean may exceed that: of a request, or object.
const growthSlack = 0.5

// grew says that something has grown from the first days to the last by more than a share; empty: it has not.
func grew(what string, first, last, share float64, wakes int) string {
	if first == 0 {
		return fmt.Sprintf("%s was nothing in the first days: it was not measured", what)
	}
	return bench.Wrongf(last > share*first+growthSlack, "%s of a wake has grown from %.1f to %.1f over %d wakes", what, first, last, wakes)
}

// judge holds the last days against the first.
func (g *grown) judge(ctx context.Context, wakes int) error {
	_, err := takeover.VerifyWith(ctx, g.mem, takeover.VerifyOptions{Deep: true})
	g.r.Check(bench.CheckVerified, bench.Wrongf(err != nil, "%v", err))
	list, err := g.r.Metrics.List()
	if err != nil {
		return err
	}
	mean := map[string]float64{}
	for _, m := range list {
		h, ticks, err := m.Histogram()
		if err != nil {
			return err
		}
		mean[m.Name] = h.Mean() / ticks
	}
	for what, share := range bounded() {
		g.r.Check(bench.CheckBounded, grew(what, mean["first_"+what], mean["last_"+what], share, wakes))
	}
	if wakes < 3*growthSample {
		return errors.New("too few days to compare the last with the first: six at least")
	}
	return nil
}
