package layers

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"blobpglite/core/store/mem"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func layerSizeVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "layersize",
			Doc:  "writes until PostgreSQL recycles segments of its log, takes a layer, and compares its size with that of the databases",
			Args: []scenario.Arg{{Name: "megabytes", Kind: scenario.KindInt, Default: "40", Doc: "written, then dropped"}},
			Metrics: bench.MetricDocs(
				"layer_bytes", "size of the layer, uncompressed", "data_bytes", "size of all databases", "layer_ratio", "size of the layer over the "+
					"size of all databases",
				"segment_count", "segments of PostgreSQL's log on disk after the layer's checkpoint", "log_bytes", "bytes that PostgreSQL wrote to its log before the layer",
			),
		},
		Run: layerSize,
	}
}

func layerSize(ctx context.Context, r *bench.Run, args scenario.Args) error {
	bucket := mem.New(mem.Options{})
	e, err := r.OpenEngine(ctx, bucket, bench.LongLease, bench.NoLayers)
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
