package perf

import (
	"context"
	"fmt"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func nothingNewVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "nothingnew",
			Doc:  "runs start-up statements that change nothing, reads, and rollbacks: none of them may write to the bucket",
			Args: []scenario.Arg{{Name: "rounds", Kind: scenario.KindInt, Default: "20", Doc: "of all statements"}},
			Metrics: bench.MetricDocs(
				"statements_count", "statements run that change nothing", "writes_count", "write requests caused by all "+
					"statements", "bytes_up_count", "bytes written by the "+
					"statements",
			),
		},
		Run: nothingNew,
	}
}

func nothingNew(ctx context.Context, r *bench.Run, args scenario.Args) error {
	counted := store.Count(mem.New(mem.Options{}))
	e, err := r.OpenEngine(ctx, counted, bench.LongLease)
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE INDEX i ON t (v); CREATE SCHEMA s; INSERT INTO t VALUES (1, 'x')"); err != nil {
		return err
	}
	before, n := counted.Ops(), 0
	for range args.Int("rounds") {
		for _, sql := range []string{
			"CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v text)", "CREATE INDEX IF NOT EXISTS i ON t (v)", "CREATE SCHEMA IF NOT EXISTS s",
			"SELECT count(*) FROM t", "SET work_mem = '8MB'", "UPDATE t SET v = 'y' WHERE id = 2", "BEGIN; SELECT * FROM t; ROLLBACK", "SHOW server_version",
		} {
			if _, err := e.Query(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
			n++
		}
	}
	after := counted.Ops()
	r.Metrics.Value("statements_count", float64(n))
	r.Metrics.Value("writes_count", float64(after.ClassA-before.ClassA+after.Delete-before.Delete))
	r.Metrics.Value("bytes_up_count", float64(after.BytesUp-before.BytesUp))
	return nil
}
