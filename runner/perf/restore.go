package perf

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func reopenVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "reopen",
			Doc: "makes many small commits, crashes, and reopens with the modeled latency: with a log that has only grown, with layers " +
				"taken by a restore budget equal to the time of a bare opening, with layers taken by the default budget, and with nothing " +
				"after the layer",
			Args: []scenario.Arg{
				{Name: "commits", Kind: scenario.KindInt, Default: "10000", Doc: "one row each, one after the other"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "reopenings of each database"},
			},
			Metrics: bench.MetricDocs(
				"bare_open_ms", "opening with no records after the layer", "grown_open_ms", "opening with all commits after the layer",
				"budget_open_ms", "opening with layers taken by the given budget", "grown_count", "records replayed with all commits after the layer", "budget_count", "records replayed with layers "+
					"taken by the given budget",
				"budget_ratio", "opening with the given budget over opening with no records after the layer", "auto_open_ms", "opening with layers taken by "+
					"the default budget",
				"auto_count", "records replayed with layers taken by the default budget", "auto_ratio", "opening with the default "+
					"budget over opening with no records after the layer",
			),
		},
		Run: reopen,
	}
}

// restoredRecord is how long a record takes in a restore from Cloud Storage: 38 ms, 32 at a time.
const restoredRecord = 38 * time.Millisecond / 32

// reopenCase is one way to leave the log.
type reopenCase struct {
	name   string
	budget time.Duration
	bare   bool
}

func reopen(ctx context.Context, r *bench.Run, args scenario.Args) error {
	took := map[string]time.Duration{}
	for _, c := range []reopenCase{{"bare", -1, true}, {"grown", -1, false}, {"budget", 0, false}, {"auto", 0, false}} {
		if c.name == "budget" {
			c.budget = took["bare"]
		}
		bucket := mem.New(mem.Options{})
		if err := manyCommits(ctx, r, bucket, c, args.Int("commits")); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		for range args.Int("rounds") {
			wall, err := slowOpen(ctx, r, bucket, c, args.Int("commits"))
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if best, ok := took[c.name]; !ok || wall < best {
				took[c.name] = wall
			}
		}
	}
	for _, name := range []string{"budget", "auto"} {
		r.Metrics.Value(name+"_ratio", float64(took[name])/float64(took["bare"]))
	}
	return nil
}

// manyCommits fills a database without the modeled latency, and crashes.
func manyCommits(ctx context.Context, r *bench.Run, bucket store.Store, c reopenCase, commits int) error {
	e, err := r.OpenEngine(ctx, bucket, func(o *engine.Options) {
		// Committed without latency, reopened with it: how long an append takes says nothing here.
		o.RestoreBudget, o.RecordTime = c.budget, restoredRecord
	})
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, "CREATE TABLE t (id int PRIMARY KEY, v text)"); err != nil {
		return err
	}
	for i := range commits {
		if i%500 == 0 {
			r.Progress(fmt.Sprintf("%s: commits (%s)", r.Cell.Probe, c.name), int64(i), int64(commits))
		}
		if _, err := e.Query(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d, 'value %d')", i, i)); err != nil {
			return err
		}
	}
	if c.bare {
		return e.Compact(ctx)
	}
	return nil
}

// slowOpen reopens a database through the modeled latency, and counts its rows.
func slowOpen(ctx context.Context, r *bench.Run, bucket store.Store, c reopenCase, commits int) (time.Duration, error) {
	st, err := bench.Slowed(bucket, r.Seed)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	clk := clock.System()
	if err := clk.Sleep(ctx, 2*bench.ExperimentTTL); err != nil { // the lease of the one that crashed: waiting is not measured
		return 0, err
	}
	at := clk.Monotonic()
	e, err := r.OpenEngine(ctx, st, bench.NoLayers)
	if err != nil {
		return 0, err
	}
	defer e.Abandon()
	results, err := e.Query(ctx, "SELECT count(*) FROM t")
	if err != nil {
		return 0, err
	}
	wall := clk.Monotonic() - at
	wrong := ""
	if got := results[0].Rows[0][0]; got != strconv.Itoa(commits) {
		wrong = fmt.Sprintf("%s rows, %d were acknowledged", got, commits)
	}
	r.Check(bench.CheckDurability, wrong)
	r.Metrics.Duration(c.name+"_open_ms", wall)
	if !c.bare {
		r.Metrics.Value(c.name+"_count", float64(e.Opened().Records))
	}
	return wall, nil
}

func idleVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "idle",
			Doc:  "opens a database on a virtual clock, commits, and lets time pass idle: no request may be made",
			Args: []scenario.Arg{{Name: "hours", Kind: scenario.KindInt, Default: "1", Doc: "of virtual time"}},
			Metrics: bench.MetricDocs(
				"idle_requests_count", "requests made while the database was idle", "idle_hours_count", "hours the database was idle",
			),
		},
		Run: idle,
	}
}

func idle(ctx context.Context, r *bench.Run, args scenario.Args) error {
	virtual := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	counted := store.Count(mem.New(mem.Options{}))
	e, err := r.OpenEngine(ctx, counted, func(o *engine.Options) { o.Clock = virtual })
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"); err != nil {
		return err
	}
	before := counted.Ops()
	for range args.Int("hours") * 3600 {
		virtual.Advance(time.Second)
	}
	after := counted.Ops()
	requests := after.ClassA - before.ClassA + after.ClassB - before.ClassB + after.Delete - before.Delete
	r.Metrics.Value("idle_requests_count", float64(requests))
	r.Metrics.Value("idle_hours_count", float64(args.Int("hours")))
	_, err = e.Query(ctx, "SELECT 1") // it still works: the lease that ran out is renewed
	return err
}

func amplificationVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "amplification",
			Doc:  "how many bytes are shipped for each byte that PostgreSQL writes to its log, and for each row: in small commits and in bulk",
			Args: []scenario.Arg{{Name: "rows", Kind: scenario.KindInt, Default: "1000", Doc: "committed one by one, then ten times as " +
				"many in one commit"}},
			Metrics: bench.MetricDocs(
				"small_row_bytes", "bytes shipped for a one-row commit", "small_log_ratio", "bytes shipped over bytes written by PostgreSQL, one-row commits",
				"bulk_row_bytes", "bytes shipped per row of one large commit", "bulk_log_ratio", "bytes shipped over bytes written by PostgreSQL, one large commit",
			),
		},
		Run: amplification,
	}
}

func amplification(ctx context.Context, r *bench.Run, args scenario.Args) error {
	counted := store.Count(mem.New(mem.Options{}))
	e, err := r.OpenEngine(ctx, counted, bench.LongLease, bench.NoLayers)
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, "CREATE TABLE t (id int PRIMARY KEY, v text)"); err != nil {
		return err
	}
	measure := func(name string, rows int, run func() error) error {
		before, log := counted.Ops(), e.LogBytes()
		if err := run(); err != nil {
			return err
		}
		up := float64(counted.Ops().BytesUp - before.BytesUp)
		r.Metrics.Value(name+"_row_bytes", up/float64(rows))
		r.Metrics.Value(name+"_log_ratio", up/float64(e.LogBytes()-log))
		return nil
	}
	rows := args.Int("rows")
	err = measure("small", rows, func() error {
		for i := range rows {
			if _, err := e.Query(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d, 'value %d')", i, i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return measure("bulk", 10*rows, func() error {
		_, err := e.Query(ctx, fmt.Sprintf("INSERT INTO t SELECT g, 'value ' || g FROM generate_series(%d, %d) g", rows, 11*rows-1))
		return err
	})
}
