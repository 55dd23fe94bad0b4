package serverless

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/core/manifest"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func twinLargeVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("what an instance has resident is not told there"),
		Verb: scenario.Verb{
			Name: "twinlarge",
			Doc: "pgserve as a service whose database is many times larger than its memory limit: the database is created; then an " +
				"instance wakes, looks up rows everywhere, changes some, takes a layer of that, and ends; then another instance has what " +
				"was changed",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "memory", Kind: scenario.KindInt, Default: "512", Doc: "the limit, in MiB"},
				{Name: "making", Kind: scenario.KindInt, Default: "0", Doc: "the limit while the database is created, in MiB; 0: the same"},
				{Name: "disk", Kind: scenario.KindBool, Default: "false", Doc: "the service gets a -temp-dir on this machine, so what " +
					"queries sort is not in memory"},
				{Name: "retain", Kind: scenario.KindDuration, Default: "10m", Doc: "how far back earlier states are kept; the bucket is " +
					"in this machine's memory, too"},
				{Name: "lookups", Kind: scenario.KindInt, Default: "1000", Doc: "of random rows"},
				{Name: "updates", Kind: scenario.KindInt, Default: "1000", Doc: "rows, side by side"},
			},
			Metrics: bench.MetricDocs(
				"first_row_ms", "time from the request that starts the process to the first row over HTTP", "lookup_ms", "time to look up one row, in "+
					"statements of twenty",
				"update_ms", "time of the whole update", "peak_bytes", "resident memory of the instance", "database_bytes", "size of the database, by pg_database_size", "load_peak_bytes", "resident memory while the rows were made", "load_ms", "time to make the rows", "stored_bytes", "bytes that the newest layer needs in the bucket",
				"layers_count", "layers taken by the instance", "lookup_trips_count", "sequential waits for the bucket in a single-row lookup",
				"single_ms", "time of a single-row lookup, including its HTTP request",
			),
		},
		Run: twinLarge,
	}
}

func twinLarge(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		mib, updates := args.Int("memory"), args.Int("updates")
		making := cmp.Or(args.Int("making"), mib)
		common := []string{"-retain", args.Duration("retain").String()}
		if args.Bool("disk") {
			folder, err := os.MkdirTemp("", "blobpglite-sorts-")
			if err != nil {
				return fmt.Errorf("make a folder: %w", err)
			}
			defer os.RemoveAll(folder)
			common = append(common, "-temp-dir", folder)
		}
		t.flags = slices.Concat(common, []string{"-container-memory", strconv.Itoa(making << 20)}) // there the control group says so
		rows, err := t.fillPages(ctx, making, int64(args.Size("size")))
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		before, err := t.newest(ctx)
		if err != nil {
			return err
		}
		// A layer of whatever has changed, as soon as something has.
		t.flags = slices.Concat(common, []string{"-container-memory", strconv.Itoa(mib << 20), "-restore-budget", "1ms"})
		why := ""
		err = t.On(ctx, platform.Options{MemoryMiB: mib, CPU: platform.Always}, func() (err error) {
			why, err = t.largeLife(ctx, rows, args.Int("lookups"), updates)
			if err != nil || why != "" {
				return err
			}
			left, err := t.Leave(ctx)
			if _, passed := t.memory(); passed {
				why = "out of memory when it ended"
			} else if left.how != "" && left.how != endedWell {
				why = "when it ended: " + left.how
			}
			t.tellPeak()
			return err
		})
		if err != nil {
			return err
		}
		r.Check(bench.CheckDurability, why)
		after, err := t.newest(ctx)
		if err != nil || why != "" {
			return err
		}
		r.Metrics.Value("stored_bytes", float64(after.StoredBytes))
		r.Metrics.Value("layers_count", float64(min(after.Seq-before.Seq, 1)))
		return t.On(ctx, platform.Options{}, func() error {
			n, err := t.number(ctx, "SELECT count(*) FROM p WHERE n = 1")
			r.Check(bench.CheckDurability, bench.Wrongf(n != int64(updates), "%d rows were changed, but another instance has %d of them", updates, n))
			return err
		})
	})
}

// fillPages fills the table of workload.PageRows.
func (t *Service) fillPages(ctx context.Context, mib int, size int64) (rows int, err error) {
	t.Run.Progress(fmt.Sprintf("%s: loading %d MB", t.Run.Cell.Probe, size/1e6), 0, 0)
	rows = int(size / workload.PageRowBytes)
	began := t.Clock.Monotonic()
	defer func() { t.Run.Metrics.Duration("load_ms", t.Clock.Monotonic()-began) }()
	return rows, t.On(ctx, platform.Options{MemoryMiB: mib, CPU: platform.Always}, func() error {
		for i, sql := range workload.PageStatements(rows) {
			if i%10 == 0 {
				t.Run.Progress(t.Run.Cell.Probe+": loading", int64(i), int64(rows/workload.PageBatch+4))
			}
			if _, err := t.must(ctx, sql); err != nil {
				return err
			}
		}
		_, err := t.Leave(ctx)
		if peak, passed := t.memory(); passed {
			err = fmt.Errorf("out of memory: %d bytes", peak)
		} else {
			t.Run.Metrics.Value("load_peak_bytes", float64(peak))
		}
		return err
	})
}

// newest is the newest layer that the manifest names.
func (t *Service) newest(ctx context.Context) (manifest.Layer, error) {
	st, done, err := t.Store(ctx)
	if err != nil {
		return manifest.Layer{}, err
	}
	defer done()
	m, _, err := manifest.Load(ctx, st)
	if err != nil {
		return manifest.Layer{}, err
	}
	if len(m.Layers) == 0 {
		return manifest.Layer{}, fmt.Errorf("the manifest names no layer")
	}
	return m.Layers[len(m.Layers)-1], nil
}

// largeLife is what is done with the one instance. Why: what was not possible.
func (t *Service) largeLife(ctx context.Context, rows, lookups, updates int) (why string, err error) {
	const each = 20 // rows in a statement
	ask := func(sql string, want int) bool {
		if err != nil || why != "" {
			return false
		}
		var a Reply
		if a, err = t.SQL(ctx, sql); err != nil {
			return false
		}
		switch _, passed := t.memory(); {
		case passed:
			why = "out of memory: " + sql
		case a.Status != http.StatusOK:
			why = fmt.Sprintf("%.80s: status %d: %.200s", sql, a.Status, a.Text)
		case want >= 0 && (len(a.Rows) != 1 || string(a.Rows[0][0]) != strconv.Itoa(want)):
			why = fmt.Sprintf("%.80s: %.100s, not %d", sql, a.Text, want)
		}
		return why == ""
	}
	at := t.Clock.Monotonic()
	if !ask(fmt.Sprintf("SELECT n FROM p WHERE id = %d", rows/2), 0) {
		return why, err
	}
	t.Run.Metrics.Duration("first_row_ms", t.Clock.Monotonic()-at)
	size, err := t.number(ctx, "SELECT pg_database_size('postgres')")
	if err != nil {
		return "", err
	}
	t.Run.Metrics.Value("database_bytes", float64(size))
	rng := rand.New(rand.NewPCG(t.Run.Seed, 6))
	for n := 0; n < lookups; n += each {
		t.Run.Progress(t.Run.Cell.Probe+": looking rows up", int64(n), int64(lookups))
		ids := map[int]bool{}
		for len(ids) < each {
			ids[1+rng.IntN(rows)] = true
		}
		list := make([]string, 0, each)
		for id := range ids {
			list = append(list, strconv.Itoa(id))
		}
		slices.Sort(list)
		at := t.Clock.Monotonic()
		// One after the other: a bitmap scan would read ahead.
		if !ask("SELECT count(pad) FROM unnest(ARRAY["+strings.Join(list, ",")+"]) i, LATERAL (SELECT length(pad) AS pad FROM p WHERE id = i OFFSET 0) r", each) {
			return why, err
		}
		t.Run.Metrics.Duration("lookup_ms", (t.Clock.Monotonic()-at)/each)
	}
	for n := 0; n < lookups/10; n++ {
		before, err := t.metric(ctx, "page_waits_total")
		if err != nil {
			return "", err
		}
		at := t.Clock.Monotonic()
		if !ask(fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+rng.IntN(rows)), 0) {
			break
		}
		t.Run.Metrics.Duration("single_ms", t.Clock.Monotonic()-at)
		after, err := t.metric(ctx, "page_waits_total")
		if err != nil {
			return "", err
		}
		t.Run.Metrics.Value("lookup_trips_count", after-before)
	}
	if err != nil || why != "" {
		return why, err
	}
	at = t.Clock.Monotonic()
	if !ask(fmt.Sprintf("UPDATE p SET n = n + 1 WHERE id BETWEEN %d AND %d", rows/3, rows/3+updates-1), -1) {
		return why, err
	}
	t.Run.Metrics.Duration("update_ms", t.Clock.Monotonic()-at)
	ask("SELECT 1", 1)
	return why, err
}
