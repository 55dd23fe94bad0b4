package layers

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func layerPriceVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "layerprice",
			Doc: "in one process, on a store in memory: fills a database and takes a layer; then, round by round, changes one row in a " +
				"hundred, takes a layer, and writes the same files again without sharing anything, in alternating order. Changes that " +
				"only touch pages (VACUUM, hint bits) are made before each round and go into another layer",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the rows"},
				{Name: "change", OneOf: []string{changeClustered, changeScattered}, Required: true, Doc: "a range of keys, or every " +
					"hundredth row by the hash of its key"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "changes measured"},
			},
			Metrics: bench.MetricDocs(
				"database_bytes", "size of the database, by pg_database_size", "changed_rows_ratio", "share of rows changed in a round",
				"new_bytes", "bytes uploaded for a layer, including its index", "cleaned_bytes", "uncompressed bytes uploaded for a layer "+
					"although the previous one has them too",
				"full_bytes", "size of a layer that shares nothing", "bytes_ratio", "bytes uploaded for a layer over "+
					"those for one that shares nothing",
				"raw_ratio", "share of the database's chunks that a layer wrote",
				"wall_ms", "time of a layer: checkpoint, clone, upload, manifest, collection", "full_wall_ms", "time to write a layer that "+
					"shares nothing, without anything else",
				"wall_ratio", "time of a layer over that of one that shares nothing, round by round",
				"cpu_ms", "processor time of a layer, user and system", "full_cpu_ms", "processor time of a layer that shares nothing, "+
					"user and system", "cpu_ratio", "processor time of a layer "+
					"over that of one that shares nothing, round by round",
				"clone_us", "time to clone the files, which statements wait for", "reopen_ms", "time to reopen at the end, with "+
					"every row verified",
			),
		},
		Run: layerPrice,
	}
}

const (
	changeClustered = "clustered"
	changeScattered = "scattered"
)

// priceShare: a round changes 1/priceShare of the rows.
const priceShare = 100

// pricing is one cell of layerprice.
type pricing struct {
	r      *bench.Run
	clk    clock.Clock
	data   workload.Dataset
	change string
	st     store.Store
	e      *engine.Engine
}

func layerPrice(ctx context.Context, r *bench.Run, args scenario.Args) (err error) {
	p := &pricing{
		r: r, clk: clock.System(), data: workload.Dataset{Bytes: int64(args.Size("size")), Seed: r.Seed}, change: args.String("change"), st: mem.New(mem.Options{}),
	}
	if p.e, err = p.open(ctx); err != nil {
		return err
	}
	defer func() { p.e.Abandon() }()
	if err := p.fill(ctx); err != nil {
		return err
	}
	rounds := args.Int("rounds")
	for i := range rounds {
		r.Progress(fmt.Sprintf("%s %s: layers", r.Cell.Probe, r.Cell.Label), int64(i), int64(rounds))
		if err := p.round(ctx, i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	return p.verify(ctx)
}

func (p *pricing) open(ctx context.Context) (*engine.Engine, error) {
	return p.r.OpenEngine(ctx, p.st, bench.LongLease, bench.NoLayers)
}

// all runs statements one after the other.
func (p *pricing) all(ctx context.Context, statements ...string) (last []pglite.Result, err error) {
	for _, sql := range statements {
		if last, err = p.e.Query(ctx, sql); err != nil {
			return nil, fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return last, nil
}

// fill loads the rows. Each page has room for a new version of a row, so that updates are in place where PostgreSQL can do that (HOT). The
// only index is the key's: one of random values would make every change a scattered one.
func (p *pricing) fill(ctx context.Context) error {
	load := p.data.Statements()
	if _, err := p.all(ctx, load[0], "DROP INDEX rows_n", "ALTER TABLE rows SET (fillfactor = 85, autovacuum_enabled = off)"); err != nil {
		return err
	}
	for i, sql := range load[1:] {
		p.r.Progress(fmt.Sprintf("%s %s: loading", p.r.Cell.Probe, p.r.Cell.Label), int64(i), int64(len(load)-1))
		if _, err := p.all(ctx, sql); err != nil {
			return err
		}
	}
	results, err := p.all(ctx, "VACUUM (FREEZE, ANALYZE)", "SELECT pg_database_size('postgres')")
	if err != nil {
		return err
	}
	var size float64
	if _, err := fmt.Sscan(results[0].Rows[0][0], &size); err != nil {
		return fmt.Errorf("read the database's size: %w", err)
	}
	p.r.Metrics.Value("database_bytes", size)
	return p.e.Compact(ctx)
}

// sql changes a hundredth of the rows, other ones in each round.
func (p *pricing) sql(round int) string {
	where := fmt.Sprintf("abs(hashint8(id)::bigint) %% %d = %d", priceShare, round%priceShare)
	if p.change == changeClustered {
		each := max(p.data.Rows()/priceShare, 1)
		first := (7 + 13*round) % priceShare * each
		where = fmt.Sprintf("id > %d AND id <= %d", first, first+each)
	}
	return "UPDATE rows SET text_that_compresses = reverse(text_that_compresses) WHERE " + where
}

// priced is the cost of a layer.
type priced struct {
	wall, cpu time.Duration
	stats     base.Stats
}

// round changes rows, and takes a layer. Before it, or in the next round after it, the files are written with nothing shared. What the
// change leaves for VACUUM goes into a layer of its own.
func (p *pricing) round(ctx context.Context, n int) error {
	var layer, full priced
	var err error
	if n%2 == 1 {
		if full, err = p.full(ctx); err != nil {
			return err
		}
	}
	changed, err := p.all(ctx, p.sql(n))
	if err != nil {
		return err
	}
	var rows float64
	if _, err := fmt.Sscanf(changed[0].Tag, "UPDATE %f", &rows); err != nil {
		return fmt.Errorf("read %q: %w", changed[0].Tag, err)
	}
	p.r.Metrics.Value("changed_rows_ratio", rows/float64(p.data.Rows()))
	if layer, err = p.layer(ctx); err != nil {
		return err
	}
	if n%2 == 0 {
		if full, err = p.full(ctx); err != nil {
			return err
		}
	}
	p.record(layer, full)
	if _, err := p.all(ctx, "VACUUM rows"); err != nil {
		return err
	}
	return p.e.Compact(ctx)
}

// layer takes one, as a database does.
func (p *pricing) layer(ctx context.Context) (priced, error) {
	return p.timed(func() (base.Stats, error) {
		if err := p.e.Compact(ctx); err != nil {
			return base.Stats{}, err
		}
		return p.e.Stats().Layer.Written, nil
	})
}

// full writes the files of the newest layer with nothing shared, into a store of their own.
func (p *pricing) full(ctx context.Context) (priced, error) {
	m, _, err := manifest.Load(ctx, p.st)
	if err != nil {
		return priced{}, err
	}
	files, key := memfs.New(memfs.Options{}), m.Layers[len(m.Layers)-1].Key
	if _, _, err := base.Read(ctx, p.st, key, files, base.ReadOptions{}); err != nil {
		return priced{}, err
	}
	return p.timed(func() (base.Stats, error) {
		_, stats, err := base.Write(ctx, mem.New(mem.Options{}), key, files, base.WriteOptions{})
		return stats, err
	})
}

// timed measures do. Earlier garbage is collected first.
func (p *pricing) timed(do func() (base.Stats, error)) (priced, error) {
	runtime.GC()
	before, err := bench.OwnCPU()
	if err != nil {
		return priced{}, err
	}
	began := p.clk.Monotonic()
	stats, err := do()
	wall := p.clk.Monotonic() - began
	after, cpuErr := bench.OwnCPU()
	return priced{wall, after - before, stats}, errors.Join(err, cpuErr)
}

func (p *pricing) record(layer, full priced) {
	m := p.r.Metrics
	m.Value("new_bytes", float64(layer.stats.NewBytes))
	m.Value("cleaned_bytes", float64(layer.stats.CleanedBytes))
	m.Value("full_bytes", float64(full.stats.NewBytes))
	m.Value("bytes_ratio", float64(layer.stats.NewBytes)/float64(full.stats.NewBytes))
	m.Value("raw_ratio", float64(layer.stats.NewRawBytes)/float64(layer.stats.RawBytes))
	m.Duration("wall_ms", layer.wall)
	m.Duration("full_wall_ms", full.wall)
	m.Value("wall_ratio", float64(layer.wall)/float64(full.wall))
	m.Duration("cpu_ms", layer.cpu)
	m.Duration("full_cpu_ms", full.cpu)
	m.Value("cpu_ratio", float64(layer.cpu)/float64(full.cpu))
	m.Duration("clone_us", p.e.Stats().Layer.Clone)
}

// verify recomputes the digests, ends the engine as a crash would, opens the database again and compares every row.
func (p *pricing) verify(ctx context.Context) error {
	p.r.Progress(fmt.Sprintf("%s %s: verifying", p.r.Cell.Probe, p.r.Cell.Label), 0, 0)
	if _, err := p.all(ctx, "UPDATE checksums SET digest = chunk_digest(chunk)"); err != nil {
		return err
	}
	if err := p.e.Compact(ctx); err != nil {
		return err
	}
	if err := p.e.Close(ctx); err != nil {
		return err
	}
	at := p.clk.Monotonic()
	e, err := p.open(ctx)
	if err != nil {
		return err
	}
	p.e = e
	results, err := p.all(ctx, workload.VerifySQL)
	if err != nil {
		return err
	}
	p.r.Metrics.Duration("reopen_ms", p.clk.Monotonic()-at)
	found, err := workload.ParseVerify(results)
	if err != nil {
		return err
	}
	wrong := ""
	if err := p.data.Check(found); err != nil {
		wrong = err.Error()
	}
	p.r.Check(bench.CheckChecksum, wrong)
	return nil
}
