package perf

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

// freshOpenBytes is the size of the database that fresh opens.
const freshOpenBytes = 10_000_000

func freshVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "fresh",
			Doc:  "in one warm process, on a store in memory: creates new databases, and opens a 10 MB one",
			Args: []scenario.Arg{{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "how often each"}},
			Metrics: bench.MetricDocs(
				"new_database_ms", "time from opening an empty prefix to the first row",
				"open_ms", "time from opening a 10 MB database to the first row",
			),
		},
		Run: fresh,
	}
}

func fresh(ctx context.Context, r *bench.Run, args scenario.Args) error {
	rounds := args.Int("rounds")
	clk := clock.System()
	bucket := mem.New(mem.Options{})
	open := func(prefix, metric string, create bool) error {
		at := clk.Monotonic()
		e, err := engine.Open(ctx, engine.Options{
			Runtime: r.Runtime, Store: store.Prefixed(bucket, prefix), Create: create, Clock: clk,
		})
		if err != nil {
			return err
		}
		_, err = e.Query(ctx, "SELECT 1")
		took := clk.Monotonic() - at
		if closeErr := e.Close(ctx); err != nil || closeErr != nil { // this releases the lease
			return errors.Join(err, closeErr)
		}
		r.Metrics.Duration(metric, took)
		return nil
	}
	if _, err := r.Runtime.Template(ctx, memfs.Options{}); err != nil { // what a warm process has
		return err
	}
	for i := range rounds {
		r.Progress(r.Cell.Probe+": making new databases", int64(i), int64(rounds))
		if err := open(fmt.Sprintf("new-%d", i), "new_database_ms", true); err != nil {
			return err
		}
	}
	e, err := engine.Open(ctx, engine.Options{Runtime: r.Runtime, Store: store.Prefixed(bucket, "old"), Create: true})
	if err != nil {
		return err
	}
	_, err = e.Query(ctx, workload.Dataset{Bytes: freshOpenBytes, Seed: r.Seed}.Load())
	if err == nil {
		err = e.Close(ctx)
	}
	if err != nil {
		e.Abandon()
		return err
	}
	for i := range rounds {
		r.Progress(r.Cell.Probe+": opening a 10 MB database", int64(i), int64(rounds))
		if err := open("old", "open_ms", false); err != nil {
			return err
		}
	}
	return nil
}
