package pages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func wakeSizeVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "wake_size",
			Doc: "on the modeled bucket, in one warm process: opens a database that reads pages on demand, alternating with one that " +
				"reads everything first, up to the first row of a lookup; then another lookup, and a scan of everything",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "turns", Kind: scenario.KindInt, Default: "5", Doc: "of each"},
			},
			Metrics: bench.MetricDocs(
				"wake_ms", "time to the first row, pages read on demand", "wake_eager_ms", "time to the first row, everything read first", "wake_ratio", "time to the first row, pages "+
					"on demand over everything first, turn by turn",
				"wake_read_bytes", "bytes read from the bucket until the first row, pages on demand", "wake_class_a_count", "class A requests until the "+
					"first row, pages on demand", "wake_class_a_eager_count", "class A requests until the "+
					"first row, everything read first",
				"lookup_ms", "time to look up a row not read before, pages on demand", "lookup_eager_ms", "time to look up a row, "+
					"everything in memory", "lookup_trips_count", "consecutive waits for the "+
					"bucket in the lookup of a row not read before",
				"first_row_trips_count", "sequential waits for the bucket before the first row",
				"scan_ms", "time from opening to the end of a scan, pages on demand, without what happens in between", "scan_eager_ms", "time from opening to the end "+
					"of a scan, everything read first, without what happens in between", "scan_ratio", "time to the end of a scan, "+
					"pages on demand over everything first, turn by turn",
			),
		},
		Run: wakeSize,
	}
}

// wakeTook is how long one wake took.
type wakeTook struct {
	wake, lookup, scan    time.Duration
	ops                   store.Ops
	firstTrips, lookTrips int64
}

func wakeSize(ctx context.Context, r *bench.Run, args scenario.Args) error {
	bucket := mem.New(mem.Options{})
	options := func(st store.Store, cache int64) engine.Options {
		return engine.Options{
			Runtime: r.Runtime, Store: st, Create: true, Cache: cache, RestoreBudget: -1, LeaseTTL: time.Second, AcquireTimeout: time.Minute,
		}
	}
	e, err := engine.Open(ctx, options(bucket, 0))
	if err != nil {
		return err
	}
	r.Progress(r.Cell.Probe+": loading", 0, 0)
	rows, err := workload.PageRows(ctx, e, int64(args.Size("size")))
	if err = errors.Join(err, e.Close(ctx)); err != nil {
		return err
	}
	turns := args.Int("turns")
	caches := [2]int64{4 << 30, 0}
	for turn := range turns + 1 { // of the first one the boot set is noted
		r.Progress(r.Cell.Probe+": waking, in turns", int64(turn), int64(turns))
		var took [2]wakeTook
		for i := range caches {
			side := (turn + i) % 2
			counted := store.Count(bucket)
			st, err := bench.Slowed(counted, r.Seed+uint64(2*turn+side))
			if err != nil {
				return err
			}
			if took[side], err = wakeOnce(ctx, options(st, caches[side]), counted, turn, rows, side == 0); err != nil {
				return err
			}
			st.Close()
		}
		if turn > 0 {
			wakeMetrics(r, took)
		}
	}
	return nil
}

func wakeMetrics(r *bench.Run, took [2]wakeTook) {
	m, lazy, eager := r.Metrics, took[0], took[1]
	m.Duration("wake_ms", lazy.wake)
	m.Duration("wake_eager_ms", eager.wake)
	m.Value("wake_ratio", float64(lazy.wake)/float64(eager.wake))
	m.Value("wake_read_bytes", float64(lazy.ops.BytesDown))
	m.Value("wake_class_a_count", float64(lazy.ops.ClassA))
	m.Value("wake_class_a_eager_count", float64(eager.ops.ClassA))
	m.Duration("lookup_ms", lazy.lookup)
	m.Duration("lookup_eager_ms", eager.lookup)
	m.Value("lookup_trips_count", float64(lazy.lookTrips))
	m.Value("first_row_trips_count", float64(lazy.firstTrips))
	m.Duration("scan_ms", lazy.wake+lazy.scan)
	m.Duration("scan_eager_ms", eager.wake+eager.scan)
	m.Value("scan_ratio", float64(lazy.wake+lazy.scan)/float64(eager.wake+eager.scan))
}

// tripsOf counts how often the processes of an engine wait for the bucket between two calls. A wait is for all pages that a process knows
// to be missing by then, which are fetched together: where one statement runs, these are its round trips, one after the other.
func tripsOf(e *engine.Engine) func() int64 {
	last := e.Stats().Cluster.Fetches
	return func() int64 {
		now := e.Stats().Cluster.Fetches
		defer func() { last = now }()
		return now - last
	}
}

// wakeOnce opens, looks up, scans, and ends; with notes it takes a layer that knows what was needed first.
func wakeOnce(ctx context.Context, o engine.Options, counted *store.Counted, turn, rows int, notes bool) (t wakeTook, err error) {
	clk := clock.System()
	at := clk.Monotonic()
	lap := func() time.Duration {
		now := clk.Monotonic()
		defer func() { at = now }()
		return now - at
	}
	e, err := engine.Open(ctx, o)
	if err != nil {
		return t, err
	}
	defer e.Abandon()
	query := func(sql string) {
		if err == nil {
			_, err = e.Query(ctx, sql)
		}
	}
	trips := tripsOf(e)
	query(fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+rows/2+turn))
	t.wake, t.ops, t.firstTrips = lap(), counted.Ops(), trips()
	query(fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+(turn+1)*rows/20))
	t.lookup, t.lookTrips = lap(), trips()
	query("SELECT sum(length(pad)) FROM p")
	t.scan = lap()
	if notes && err == nil {
		query(fmt.Sprintf("UPDATE p SET n = n + 1 WHERE id = %d", 1+rows/2+turn))
		err = errors.Join(err, e.Compact(ctx))
	}
	return t, errors.Join(err, e.Close(ctx))
}
