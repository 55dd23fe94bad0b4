package step

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/runner/scenario"
)

func layerSizeVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "layersize",
			Doc:  "writes until PostgreSQL recycles segments of its log, takes a layer, and compares it with what the databases hold",
			Args: []scenario.Arg{{Name: "megabytes", Kind: scenario.KindInt, Default: "40", Doc: "written, and thrown away again"}},
			Metrics: metricDocs(
				"layer_bytes", "of the layer, uncompressed", "data_bytes", "of all databases", "layer_ratio", "the one over the other",
				"segment_count", "of the log on disk behind the layer's checkpoint", "log_bytes", "that PostgreSQL wrote to its log before",
			),
		},
		run: layerSize,
	}
}

func layerSize(ctx context.Context, r *Run, args scenario.Args) error {
	bucket := mem.New(mem.Options{})
	e, err := r.openLogEngine(ctx, bucket, durableLease, func(o *engine.Options) { o.RestoreBudget = -1 })
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, "CREATE TABLE t (v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL"); err != nil {
		return err
	}
	for i := range args.Int("megabytes") {
		r.Progress(r.Cell.Probe+": writing", int64(i), int64(args.Int("megabytes")))
		sql := "INSERT INTO t SELECT repeat(md5(g::text), 1000) FROM generate_series(1, 30) g"
		if i%5 == 4 {
			sql += "; TRUNCATE t; CHECKPOINT"
		}
		if _, err := e.Query(ctx, sql); err != nil {
			return err
		}
	}
	if err := e.Compact(ctx); err != nil {
		return err
	}
	results, err := e.Query(ctx, "SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database), (SELECT count(*) FROM pg_ls_waldir())")
	if err != nil {
		return err
	}
	data, err := strconv.ParseFloat(results[0].Rows[0][0], 64)
	if err != nil {
		return err
	}
	segments, err := strconv.ParseFloat(results[0].Rows[0][1], 64)
	if err != nil {
		return err
	}
	o, err := bucket.Get(ctx, "manifest")
	if err != nil {
		return err
	}
	var m struct {
		Layers []struct {
			RawBytes int64 `json:"raw_bytes"`
		} `json:"layers"`
	}
	if err := json.Unmarshal(o.Body, &m); err != nil {
		return err
	}
	if len(m.Layers) != 1 {
		return fmt.Errorf("the manifest names %d layers", len(m.Layers))
	}
	raw := float64(m.Layers[0].RawBytes)
	r.Metrics.Value("layer_bytes", raw)
	r.Metrics.Value("data_bytes", data)
	r.Metrics.Value("layer_ratio", raw/data)
	r.Metrics.Value("segment_count", segments)
	r.Metrics.Value("log_bytes", float64(e.LogBytes()))
	return nil
}

func nothingNewVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "nothingnew",
			Doc:  "runs start-up statements that change nothing, reads, and rolls back: none of it may write to the bucket",
			Args: []scenario.Arg{{Name: "rounds", Kind: scenario.KindInt, Default: "20", Doc: "of all of them"}},
			Metrics: metricDocs(
				"statements_count", "that were run", "writes_count", "requests that wrote, by all of them", "bytes_up_count", "that they wrote",
			),
		},
		run: nothingNew,
	}
}

func nothingNew(ctx context.Context, r *Run, args scenario.Args) error {
	counted := store.Count(mem.New(mem.Options{}))
	e, err := r.openLogEngine(ctx, counted, durableLease)
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
