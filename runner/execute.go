package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/runner/bench"
	"blobpglite/runner/progress"
	"blobpglite/runner/record"
	"blobpglite/runner/registry"
	"blobpglite/runner/scenario"
)

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

// runScenario is the whole flow of an experiment: a document becomes cells; the verbs named in its steps run each cell; what they measured
// and checked is judged; each verdict becomes a line of the results, and a failed one also a folder with what replays it. It returns the
// exit code.
func runScenario(ctx context.Context, f flags, out io.Writer) (code int, err error) {
	x := &experiment{f: f, show: progress.New(os.Stderr), id: record.NewRun(time.Now())}
	defer x.show.Close()
	// A cell is a probe with one choice of its parameters, from the profile and what was set by hand.
	if x.s, x.plan, err = planOf(f, f.scenario); err != nil {
		return exitUsage, err
	}
	// PostgreSQL is loaded and the bucket is made once, for all cells.
	unload, err := x.loadPostgres(ctx)
	if err != nil {
		return exitFail, err
	}
	defer unload()
	closeStore, err := x.open(ctx, out)
	if err != nil {
		return exitFail, err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	x.describe(ctx)

	var done []outcome
	ran := 0
	code = exitPass
	for _, c := range x.plan.Cells {
		if why := x.leftOut(c); why != "" && ctx.Err() == nil {
			done = append(done, outcome{record: record.Record{Probe: c.Probe, Claim: c.Claim}, label: c.Label, why: why})
			x.show.Line("%s %s: left out: %s", c.Probe, c.Label, why)
			continue
		}
		// The run gets what it may use, does the cell's steps, and judges the result.
		began := x.now()
		log := &steps{began: began.at, show: x.show.Step}
		run := x.newRun(c, log.step)
		runErr := ctx.Err()
		if runErr == nil {
			runErr = run.Do(ctx)
		}
		if ctx.Err() != nil { // the cell was cut short, or not begun: no verdict
			x.show.Line("interrupted after %d of %d cells", ran, len(x.plan.Cells))
			code = exitFail
			break
		}
		rec, err := x.judged(run, runErr, began)
		folder := ""
		if err == nil {
			err = x.keep(rec)
		}
		if err == nil {
			folder, err = x.keepFailure(ctx, run, rec, log)
		}
		if err != nil {
			return exitFail, err
		}
		ran++
		if !rec.Verdict.Holds() {
			code = exitFail
		}
		done = append(done, outcome{record: rec, label: c.Label, folder: folder})
		x.show.Line("%s %s: %s", c.Probe, c.Label, rec.Verdict)
	}
	x.show.Close()
	if ran == 0 {
		code = exitFail // nothing was tried
	}
	return code, x.table(out, done)
}

// setUp loads PostgreSQL and makes its template, so that the first experiment need not.
func setUp(ctx context.Context) (int, error) {
	x := &experiment{show: progress.New(os.Stderr)}
	defer x.show.Close()
	if err := x.load(ctx); err != nil {
		return exitFail, err
	}
	defer x.runtime.Close()
	x.show.Line("set up: PGlite %s, PostgreSQL %s, in %s", x.runtime.Version(), pglite.PostgresVersion, x.runtime.CacheDir())
	return exitPass, nil
}

// loadPostgres loads PostgreSQL if a cell needs it.
func (x *experiment) loadPostgres(ctx context.Context) (unload func(), err error) {
	if !registry.NeedsPostgres(x.plan.Cells) {
		return func() {}, nil
	}
	if err := x.load(ctx); err != nil {
		return nil, err
	}
	return func() { _ = x.runtime.Close() }, nil
}

func (x *experiment) load(ctx context.Context) (err error) {
	if x.runtime, err = pglite.NewRuntime(ctx, pglite.Options{Progress: x.show.Step}); err != nil {
		return err
	}
	if _, err := x.runtime.Template(ctx, memfs.Options{}); err != nil {
		return errors.Join(err, x.runtime.Close())
	}
	return nil
}

// describe records what every record of this command says about the sources and the machine.
func (x *experiment) describe(ctx context.Context) {
	wasm := ""
	if x.runtime != nil {
		wasm = x.runtime.SHA256()
	}
	x.source = record.CollectSource(ctx, ".")
	x.env = record.CollectEnv(record.EnvOptions{Region: x.f.cloud.region, Store: x.plan.Store, Target: x.plan.Target, PGliteSHA256: wasm})
}

// newRun returns a run of a cell, with everything verbs may use.
func (x *experiment) newRun(c scenario.Cell, progress func(step string, done, total int64)) *bench.Run {
	return &bench.Run{
		Cell: c, Seed: x.f.seed, Store: x.store, Runtime: x.runtime, Progress: progress, Metrics: record.NewMetrics(),
		Results: x.f.results, Cloud: x.cloud, Verbs: registry.Verbs(),
	}
}

// moment is when a cell began, and how many requests the bucket had received by then.
type moment struct {
	at  time.Time
	ops record.Ops
}

func (x *experiment) now() moment { return moment{time.Now(), x.ops()} }

// keep appends a record to the results, unless it is from a rehearsal.
func (x *experiment) keep(rec record.Record) error {
	if x.f.cloud.dry {
		return nil
	}
	return record.Append(x.f.results, rec)
}
