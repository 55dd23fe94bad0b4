package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/store/mem"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/progress"
	"blobpglite/runner/record"
	"blobpglite/runner/registry"
	"blobpglite/runner/scenario"
)

// fakeBucket is the embedded emulator's bucket.
const fakeBucket = "experiments"

// experiment is one command's run of one scenario.
type experiment struct {
	f       flags
	s       *scenario.Scenario
	plan    *scenario.Plan
	runtime *pglite.Runtime
	store   *bench.Store
	cloud   *bench.Cloud      // of target cloudrun
	ops     func() record.Ops // so far
	source  record.Source
	env     record.Env
	id      string
	show    *progress.Reporter
}

// runScenario runs a scenario, or only the set-up, and returns the exit code.
func runScenario(ctx context.Context, f flags, out io.Writer) (int, error) {
	show := progress.New(os.Stderr)
	defer show.Close()
	x := &experiment{f: f, show: show, id: record.NewRun(time.Now())}
	var err error
	if !f.setup {
		if x.s, x.plan, err = planOf(f, f.scenario); err != nil {
			return exitUsage, err
		}
	}
	wasm := ""
	if f.setup || registry.NeedsPostgres(x.plan.Cells) {
		if x.runtime, err = pglite.NewRuntime(ctx, pglite.Options{Progress: show.Step}); err != nil {
			return exitFail, err
		}
		defer x.runtime.Close()
		if _, err := x.runtime.Template(ctx, memfs.Options{}); err != nil {
			return exitFail, err
		}
		wasm = x.runtime.SHA256()
	}
	if f.setup {
		show.Line("set up: PGlite %s, PostgreSQL %s, in %s", x.runtime.Version(), pglite.PostgresVersion, x.runtime.CacheDir())
		return exitPass, nil
	}
	closeStore, err := x.open(ctx, out)
	if err != nil {
		return exitFail, err
	}
	x.source = record.CollectSource(ctx, ".")
	x.env = record.CollectEnv(record.EnvOptions{Region: f.cloud.region, Store: x.plan.Store, Target: x.plan.Target, PGliteSHA256: wasm})
	code, err := x.cells(ctx, out)
	return code, errors.Join(err, closeStore())
}

// open makes what the plan runs against.
func (x *experiment) open(ctx context.Context, out io.Writer) (func() error, error) {
	if x.plan.Target == scenario.TargetCloudRun {
		return x.openCloud(ctx, out)
	}
	return x.openStore(ctx)
}

// openStore makes the store that the plan asks for.
func (x *experiment) openStore(ctx context.Context) (func() error, error) {
	x.store = &bench.Store{Kind: x.plan.Store, Prefix: "run-" + strings.ToLower(x.id)}
	switch x.plan.Store {
	case "mem":
		counted := store.Count(mem.New(mem.Options{}))
		x.store.Memory = counted
		x.ops = func() record.Ops { return opsOf(counted.Ops()) }
		return func() error { return nil }, nil
	case "fake-gcs":
		front, err := gcsfront.New(gcsfront.Options{Buckets: []string{fakeBucket}, Seed: x.f.seed})
		if err != nil {
			return nil, err
		}
		endpoint, stop, err := front.Serve(ctx)
		if err != nil {
			return nil, err
		}
		x.store.Bucket, x.store.Endpoint = fakeBucket, endpoint
		x.ops = func() record.Ops { return opsOf(front.Counters().Ops) }
		return func() error { stop(); return nil }, nil
	case "gcs":
		return x.openBucket(ctx, "")
	default:
		return nil, usageError{fmt.Errorf("there is no store %q", x.plan.Store)}
	}
}

func opsOf(o store.Ops) record.Ops {
	return record.Ops{ClassA: o.ClassA, ClassB: o.ClassB, Delete: o.Delete, BytesUp: o.BytesUp, BytesDown: o.BytesDown}
}

// openBucket checks a real bucket, or one of an emulator at an endpoint. What the run wrote is removed in the end. The nodes
// talk to the bucket themselves, so their requests are not counted here.
func (x *experiment) openBucket(ctx context.Context, endpoint string) (func() error, error) {
	bucket, prefix, err := gcs.ParseURL(x.f.bucket)
	if err != nil {
		return nil, usageError{err}
	}
	if prefix != "" {
		x.store.Prefix = prefix + "/" + x.store.Prefix
	}
	st, err := gcs.Open(ctx, gcs.Options{Bucket: bucket, Prefix: x.store.Prefix, Endpoint: endpoint})
	if err != nil {
		return nil, err
	}
	if err := st.Probe(ctx); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	x.store.Bucket, x.store.Endpoint = bucket, endpoint
	x.ops = func() record.Ops { return record.Ops{} }
	return func() error { return errors.Join(empty(context.WithoutCancel(ctx), st), st.Close()) }, nil
}

// empty deletes everything in a store, and makes sure that nothing is there.
func empty(ctx context.Context, st store.Store) error {
	const atOnce = 16
	keys := func() (all []string, err error) {
		for a, err := range st.List(ctx, "", "") {
			if err != nil {
				return nil, err
			}
			all = append(all, a.Key)
		}
		return all, nil
	}
	all, err := keys()
	if err != nil {
		return err
	}
	deleting, inner := errgroup.WithContext(ctx)
	deleting.SetLimit(atOnce)
	for _, key := range all {
		deleting.Go(func() error { return st.Delete(inner, key) })
	}
	if err := deleting.Wait(); err != nil {
		return err
	}
	if all, err = keys(); err == nil && len(all) > 0 {
		err = fmt.Errorf("empty the prefix: %d objects have come meanwhile, such as %s: delete them", len(all), all[0])
	}
	return err
}

// outcome is a cell's line in the verdict table.
type outcome struct {
	record record.Record
	label  string
	why    string // it was left out
}

// verdict is what the table says.
func (o outcome) verdict() string {
	if o.why != "" {
		return "left out"
	}
	return o.record.Verdict.String()
}

// cells runs every cell, prints the verdicts, and returns the exit code.
func (x *experiment) cells(ctx context.Context, out io.Writer) (int, error) {
	var done []outcome
	code, ran := exitPass, 0
	for _, c := range x.plan.Cells {
		if ctx.Err() != nil {
			x.show.Line("interrupted: %d of %d cells were run", ran, len(x.plan.Cells))
			code = exitFail
			break
		}
		if why := x.leftOut(c); why != "" {
			done = append(done, outcome{record.Record{Probe: c.Probe, Claim: c.Claim}, c.Label, why})
			x.show.Line("%s %s: left out: %s", c.Probe, c.Label, why)
			continue
		}
		rec, err := x.cell(ctx, c)
		if err != nil {
			return exitFail, err
		}
		if ctx.Err() != nil { // the cell was cut short: no verdict
			x.show.Line("interrupted: %d of %d cells were run", ran, len(x.plan.Cells))
			code = exitFail
			break
		}
		ran++
		if !x.f.cloud.dry {
			if err := record.Append(x.f.results, rec); err != nil {
				return exitFail, err
			}
		}
		if rec.Verdict != record.Pass {
			code = exitFail
		}
		done = append(done, outcome{rec, c.Label, ""})
		x.show.Line("%s %s: %s", c.Probe, c.Label, rec.Verdict)
	}
	x.show.Close()
	if ran == 0 {
		code = exitFail // nothing was tried
	}
	return code, x.table(out, done)
}

// cell runs one cell and makes its record.
func (x *experiment) cell(ctx context.Context, c scenario.Cell) (record.Record, error) {
	run := &bench.Run{
		Cell: c, Seed: x.f.seed, Store: x.store, Runtime: x.runtime, Progress: x.show.Step, Metrics: record.NewMetrics(),
		Results: x.f.results, Cloud: x.cloud, Verbs: registry.Verbs(),
	}
	started, before := time.Now(), x.ops()
	runErr := run.Do(ctx)
	metrics, err := run.Metrics.List()
	if err != nil {
		return record.Record{}, err
	}
	verdict, checks := run.Judge(runErr, metrics)
	hash, err := c.Hash(x.plan.Store, x.plan.Target, x.env.MachineClass())
	if err != nil {
		return record.Record{}, err
	}
	after := x.ops()
	ops := record.Ops{
		ClassA: after.ClassA - before.ClassA, ClassB: after.ClassB - before.ClassB, Delete: after.Delete - before.Delete,
		BytesUp: after.BytesUp - before.BytesUp, BytesDown: after.BytesDown - before.BytesDown,
	}.Add(run.Ops)
	artifacts := run.Artifacts
	if artifacts == nil {
		artifacts = []string{} // rather than null
	}
	var replay []string
	if x.f.store != "" {
		replay = append(replay, "-store", x.f.store)
	}
	if x.f.bucket != "" {
		replay = append(replay, "-bucket", x.f.bucket)
	}
	replay = append(replay, x.f.cloud.args()...)
	notes, faults := run.Notes, run.Faults
	if x.f.cloud.dry {
		var more []string
		verdict, checks, more = rehearsed(c, verdict, checks)
		notes = append(notes, more...)
	}
	if faults == nil {
		faults = []record.Fault{} // rather than null
	}
	if x.plan.Target == scenario.TargetCloudRun && !x.f.cloud.dry {
		notes = append(notes, "requests came from the machine of this record, over the network, to Cloud Run in "+x.env.Region)
	}
	if x.plan.Store == "gcs" && !x.f.cloud.dry {
		notes = append(notes, "store operations are not counted on a real bucket")
	}
	if x.source.Dirty {
		notes = append(notes, "unclean tree: "+x.source.Why)
	}
	return record.Record{
		Schema: record.Schema, Run: x.id, Scenario: x.s.ID, Probe: c.Probe, Claim: c.Claim, Verdict: verdict,
		Profile: x.plan.Profile, Cell: hash, Seed: x.f.seed, Rounds: max(c.Rounds, run.Rounds), Replay: x.plan.Replay(c, x.f.seed, replay...),
		Commit: x.source.Commit, Dirty: x.source.Dirty, ScenarioSHA256: x.s.SHA256(), Params: c.Written(), Env: x.env,
		Checks: checks, Faults: faults, Points: map[string]int64{}, Ops: ops, CostUSD: ops.CostUSD(),
		Metrics: metrics, Started: started.UTC(), WallMS: time.Since(started).Milliseconds(), Artifacts: artifacts, Notes: notes,
	}, nil
}

// table prints the verdicts, what was measured, and how to run each again.
func (x *experiment) table(out io.Writer, done []outcome) error {
	fmt.Fprintf(out, "\n%s: %s\n\n", x.s.ID, x.s.Title)
	if x.f.cloud.dry {
		fmt.Fprintln(out, "A rehearsal: nothing has left this machine, the figures are a stand-in's, and nothing was appended to the results.")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROBE\tCELL\tVERDICT\tROUNDS\tTIME\tCLAIM")
	for _, o := range done {
		took := time.Duration(o.record.WallMS) * time.Millisecond
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\t%s\n", o.record.Probe, o.label, o.verdict(), o.record.Rounds,
			took.Round(100*time.Millisecond), o.record.Claim)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, o := range done {
		fmt.Fprintf(out, "\n%s %s\n", o.record.Probe, o.label)
		if o.why != "" {
			fmt.Fprintf(out, "  left out: %s\n", o.why)
			continue
		}
		m := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(m, "\tn\tmin\tp50\tp99\tmax\t")
		for _, v := range o.record.Metrics {
			fmt.Fprintf(m, "%s\t%d\t%s\t%s\t%s\t%s\t\n", v.Name, v.N, figure(v.Min), figure(v.P50), figure(v.P99), figure(v.Max))
		}
		if err := m.Flush(); err != nil {
			return err
		}
		for _, c := range o.record.Checks {
			if c.Verdict != record.Pass {
				fmt.Fprintf(out, "  %s: %s: %s\n", c.Verdict, c.Name, c.Detail)
			}
		}
		for _, n := range o.record.Notes {
			fmt.Fprintf(out, "  note: %s\n", n)
		}
		fmt.Fprintf(out, "  again: %s\n", o.record.Replay)
	}
	return nil
}

// figure prints a number with three digits that matter.
func figure(v float64) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}
