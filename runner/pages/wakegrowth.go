package pages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func wakeGrowthVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "wake_growth",
			Doc: "on the modeled bucket, in one warm process: opens a small and a large database alternately, reading pages on demand, up " +
				"to the first row of a lookup; the first turn only lets each record its boot set",
			Args: []scenario.Arg{
				{Name: "small", Kind: scenario.KindSize, Required: true, Doc: "rows of the small database"},
				{Name: "large", Kind: scenario.KindSize, Required: true, Doc: "rows of the large database"},
				{Name: "cache", Kind: scenario.KindSize, Default: "100MB", Doc: "the engine's Cache, for both"},
				{Name: "turns", Kind: scenario.KindInt, Default: "5", Doc: "of each"},
			},
			Metrics: bench.MetricDocs(
				"wake_small_ms", "time of the small database to its first row", "wake_large_ms", "time of the large database to its first row", "growth_ratio", "time to the first row of the "+
					"large database over the small one's, turn by turn",
				"wake_small_read_bytes", "bytes that the small database read from the bucket until its first row", "wake_large_read_bytes", "bytes that the large database "+
					"read from the bucket until its first row",
				"wake_small_class_b_count", "class B requests of the small database until its first row", "wake_large_class_b_count", "class B requests of the large "+
					"database until its first row",
				"lookup_ms", "time to look up a row of the large database not read before", "lookup_trips_count", "consecutive waits for the "+
					"bucket in a lookup in the large database",
				"first_row_trips_count", "sequential waits for the bucket before the large database's first row", "index_bytes", "index size of the large "+
					"database's newest base backup", "stored_bytes", "bytes that the large database's newest base backup needs in the bucket", "small_stored_bytes", "bytes that the small database's newest base backup needs in the bucket", "small_index_bytes", "index size of the small "+
					"database's newest base backup",
			),
		},
		Run: wakeGrowth,
	}
}

// wokenSize is one of the databases.
type wokenSize struct {
	name   string
	size   int64
	bucket *mem.Store
	rows   int
}

func wakeGrowth(ctx context.Context, r *bench.Run, args scenario.Args) error {
	cache := int64(args.Size("cache"))
	both := []*wokenSize{{name: "small", size: int64(args.Size("small"))}, {name: "large", size: int64(args.Size("large"))}}
	for _, g := range both {
		if err := g.fill(ctx, r); err != nil {
			return fmt.Errorf("fill the %s one: %w", g.name, err)
		}
	}
	turns := args.Int("turns")
	for turn := range turns + 1 {
		r.Progress(r.Cell.Probe+": waking, in turns", int64(turn), int64(turns))
		var took [2]wakeTook
		for i := range both {
			side := (turn + i) % 2
			var err error
			if took[side], err = both[side].wake(ctx, r, cache, turn); err != nil {
				return fmt.Errorf("wake the %s one: %w", both[side].name, err)
			}
		}
		if turn == 0 {
			continue
		}
		for side, g := range both {
			r.Metrics.Duration("wake_"+g.name+"_ms", took[side].wake)
			r.Metrics.Value("wake_"+g.name+"_read_bytes", float64(took[side].ops.BytesDown))
			r.Metrics.Value("wake_"+g.name+"_class_b_count", float64(took[side].ops.ClassB))
		}
		r.Metrics.Value("growth_ratio", float64(took[1].wake)/float64(took[0].wake))
		r.Metrics.Duration("lookup_ms", took[1].lookup)
		r.Metrics.Value("lookup_trips_count", float64(took[1].lookTrips))
		r.Metrics.Value("first_row_trips_count", float64(took[1].firstTrips))
	}
	return errors.Join(both[0].layer(ctx, r, "small_"), both[1].layer(ctx, r, ""))
}

// fill creates the database.
func (g *wokenSize) fill(ctx context.Context, r *bench.Run) error {
	g.bucket = mem.New(mem.Options{})
	e, err := engine.Open(ctx, engine.Options{
		Runtime: r.Runtime, Store: g.bucket, Create: true, Cache: 1 << 30, LeaseTTL: time.Second, AcquireTimeout: time.Minute,
		Settings: map[string]string{"shared_buffers": "128MB", "max_wal_size": "256MB"},
	})
	if err != nil {
		return err
	}
	r.Progress(r.Cell.Probe+": loading the "+g.name+" one", 0, 0)
	g.rows, err = workload.PageRows(ctx, e, g.size)
	return errors.Join(err, e.Close(ctx))
}

// wake opens the database, looks up a row and another one, takes a layer, and ends.
func (g *wokenSize) wake(ctx context.Context, r *bench.Run, cache int64, turn int) (t wakeTook, err error) {
	counted := store.Count(g.bucket)
	st, err := bench.Slowed(counted, r.Seed+uint64(turn))
	if err != nil {
		return t, err
	}
	defer st.Close()
	clk := clock.System()
	at := clk.Monotonic()
	e, err := engine.Open(ctx, engine.Options{Runtime: r.Runtime, Store: st, Cache: cache, RestoreBudget: -1, LeaseTTL: time.Second, AcquireTimeout: time.Minute})
	if err != nil {
		return t, err
	}
	defer e.Abandon()
	trips := tripsOf(e)
	if _, err = e.Query(ctx, fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+g.rows/2+turn)); err != nil {
		return t, err
	}
	t.wake, t.ops, t.firstTrips = clk.Monotonic()-at, counted.Ops(), trips()
	at = clk.Monotonic()
	if _, err = e.Query(ctx, fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+(turn+1)*g.rows/40)); err != nil {
		return t, err
	}
	t.lookup, t.lookTrips = clk.Monotonic()-at, trips()
	if turn == 0 {
		_, err = e.Query(ctx, fmt.Sprintf("UPDATE p SET n = n + 1 WHERE id = %d", 1+g.rows/2))
		err = errors.Join(err, e.Compact(ctx))
	}
	return t, errors.Join(err, e.Close(ctx))
}

// layer measures the newest one.
func (g *wokenSize) layer(ctx context.Context, r *bench.Run, prefix string) error {
	m, _, err := manifest.Load(ctx, g.bucket)
	if err != nil {
		return err
	}
	newest := m.Layers[len(m.Layers)-1]
	r.Metrics.Value(prefix+"stored_bytes", float64(newest.StoredBytes))
	o, err := g.bucket.Get(ctx, base.IndexKey(newest.Key))
	r.Metrics.Value(prefix+"index_bytes", float64(len(o.Body)))
	return err
}
