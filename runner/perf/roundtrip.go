package perf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/engine"
	"blobpglite/runner/bench"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
)

func roundtripVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "roundtrip",
			Doc: "loads rows and a table of their checksums, commits, ends the process, reopens cold in a fresh process (on store mem: in " +
				"the runner's own), and verifies every row",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the dataset, rows and indexes"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "how often, each under its own prefix"},
				{Name: "commit", OneOf: []string{string(engine.ModeSnapshot)}, Default: string(engine.ModeSnapshot), Doc: "the commit mode"},
				{Name: "open_transaction", Kind: scenario.KindBool, Doc: "commits while the session has an open transaction, then kills the process"},
			},
			Metrics: bench.MetricDocs(
				"load_ms", "time of the load, including its commit",
				"database_bytes", "size of the database after the load, by pg_database_size",
				"clone_us", "time to clone the live instance's files, which statements wait for",
				"raw_bytes", "size of the layer, uncompressed",
				"compressed_bytes", "size of the layer, as stored",
				"compress_ms", "time to compress the layer, sum of all goroutines", "upload_ms", "time to upload the layer, sum of all goroutines",
				"layer_ms", "elapsed time to compress and upload the layer",
				"manifest_cas_ms", "time of the manifest swap", "commit_ms", "time of the whole commit",
				"restore_ms", "elapsed time from the layer to files",
				"restore_download_ms", "time to download the layer, sum of all goroutines", "restore_decompress_ms", "time to decompress the layer, "+
					"sum of all goroutines",
				"restore_start_ms", "time for PostgreSQL to start and recover",
				"runtime_ms", "time to load the compiled PostgreSQL in the fresh process",
				"first_row_ms", "time from opening to the first row", "verify_ms", "time to read and digest every row",
				"peak_rss_bytes", "peak resident memory of the process that restored and verified",
			),
		},
		Run: roundtrip,
	}
}

func roundtrip(ctx context.Context, r *bench.Run, args scenario.Args) error {
	rounds := args.Int("rounds")
	for i := range rounds {
		if err := roundtripOnce(ctx, r, args, i, rounds); err != nil {
			var failed *node.Error
			if errors.As(err, &failed) { // the database's fault, not the harness's
				r.Check(bench.CheckDurability, fmt.Sprintf("round %d: %v", i+1, err))
				continue
			}
			return fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	return nil
}

// newNode starts a node: a process of its own, unless the store is in this one.
func newNode(ctx context.Context, r *bench.Run, label string) (node.Node, error) {
	o := node.Options{Progress: func(step string, done, total int64) { r.Progress(label+": "+step, done, total) }, Runtime: r.Runtime}
	if r.Store.Memory != nil {
		return node.Local(o), nil
	}
	return node.Spawn(ctx, o)
}

func roundtripOnce(ctx context.Context, r *bench.Run, args scenario.Args, round, rounds int) error {
	size, open := int64(args.Size("size")), args.Bool("open_transaction")
	seed := r.Seed + uint64(round)
	label := fmt.Sprintf("%s %v, round %d of %d", r.Cell.Probe, args.Size("size"), round+1, rounds)
	spec := r.Store.Fresh(r.Cell.Probe)
	openArgs := node.OpenArgs{Store: spec, Create: true, Mode: engine.Mode(args.String("commit"))}

	writer, err := newNode(ctx, r, label)
	if err != nil {
		return err
	}
	defer writer.Kill()
	if err := writer.Do(ctx, node.Open, openArgs, nil); err != nil {
		return err
	}
	var loaded node.LoadResult
	if err := writer.Do(ctx, node.Load, node.LoadArgs{Bytes: size, Seed: seed, OpenTransaction: open}, &loaded); err != nil {
		return err
	}
	if !open {
		if err := writer.Do(ctx, node.Close, nil, nil); err != nil {
			return err
		}
	}
	writer.Kill()
	commitMetrics(r, loaded)

	r.Progress(label+": reopening cold", 0, 0)
	reader, err := newNode(ctx, r, label)
	if err != nil {
		return err
	}
	defer reader.Kill()
	openArgs.Create = false
	var opened node.OpenResult
	if err := reader.Do(ctx, node.Open, openArgs, &opened); err != nil {
		return err
	}
	var verified node.VerifyResult
	if err := reader.Do(ctx, node.Verify, node.VerifyArgs{Bytes: size, Seed: seed}, &verified); err != nil {
		return err
	}
	var memory node.MemoryResult
	if err := reader.Do(ctx, node.Memory, nil, &memory); err != nil {
		return err
	}
	restoreMetrics(r, opened, verified, memory, reader.Fresh())
	r.Check(bench.CheckChecksum, verified.Wrong)
	r.Check(bench.CheckDurability, verified.Wrong)
	return nil
}

func commitMetrics(r *bench.Run, l node.LoadResult) {
	m := r.Metrics
	m.Duration("load_ms", time.Duration(l.LoadNS))
	m.Value("database_bytes", float64(l.DatabaseBytes))
	m.Duration("clone_us", l.Commit.Clone)
	m.Value("raw_bytes", float64(l.Commit.RawBytes))
	m.Value("compressed_bytes", float64(l.Commit.StoredBytes))
	m.Duration("compress_ms", l.Commit.Compress)
	m.Duration("upload_ms", l.Commit.Upload)
	m.Duration("layer_ms", l.Commit.Layer)
	m.Duration("manifest_cas_ms", l.Commit.ManifestCAS)
	m.Duration("commit_ms", l.Commit.Wall)
}

func restoreMetrics(r *bench.Run, o node.OpenResult, v node.VerifyResult, memory node.MemoryResult, fresh bool) {
	m := r.Metrics
	m.Duration("restore_ms", o.Opened.Restore)
	m.Duration("restore_download_ms", o.Opened.Download)
	m.Duration("restore_decompress_ms", o.Opened.Decompress)
	m.Duration("restore_start_ms", o.Opened.Start)
	m.Duration("first_row_ms", time.Duration(o.FirstRow))
	m.Duration("verify_ms", time.Duration(v.VerifyNS))
	m.Value("peak_rss_bytes", float64(memory.PeakBytes))
	if fresh {
		m.Duration("runtime_ms", time.Duration(o.Runtime))
	} else if len(r.Notes) == 0 {
		r.Notes = append(r.Notes, "store mem: the database is reopened in the runner's process, whose peak memory this is")
	}
}
