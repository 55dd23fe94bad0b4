// Package explore runs the protocol's real code under a scheduler that decides what happens next, and looks for an order
// of events in which it breaks.
//
//	report, err := explore.Run(ctx, explore.Options{Schedules: 1_000_000, Seed: 1})
//	if v := report.Violation; v != nil { fmt.Println(v.Text); fmt.Println(v.Schedule) }
//	v, steps, err := explore.Replay(o, v.Schedule)
//
// Two or three writers share a bucket in memory. Each opens the database, appends records, publishes layers and collects
// garbage with core/takeover, core/lease, core/wal, core/manifest and core/gc; a layer is a toy: the commits that it
// holds, in order. Every store call of every writer waits until the scheduler lets it happen, so that a schedule is a
// list of choices, and the same list always does the same:
//
//	A:open A*9 B:open B*4 A:append A:lose B*3 arrive:1
//
// A choice lets a call happen, loses its reply, delays it until later, lets its process die, or lets an idle process
// begin something. Every read of the lease finds it run out, as if the reader's clock were an hour ahead: leases are
// about liveness, and whatever is safe must be so without them. Random schedules let some leases hold, too.
//
// After each step the protocol's invariants are judged: over what is in the bucket, what a restore would give, and what
// has been promised to clients. First the schedules of small configurations are walked exhaustively, then larger ones at
// random. A schedule that breaks an invariant is made as short as it gets.
//
// What is not explored: Postgres, real layers, records in parts, a store that breaks its contract.
package explore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Options configures a run. Zero fields take the defaults of the field's comment.
type Options struct {
	Schedules int64  // to run in all; 50,000
	Seed      uint64 // of the random ones
	Workers   int    // schedules at a time; the number of processors

	// The bounds of the random schedules. Exhaustive ones have smaller bounds of their own, at most these.
	Writers     int // processes, 1 to 3; 3
	Opens       int // a process; 3
	Appends     int // a process; 4
	Compactions int // in all; 3
	Collections int // in all; 2
	Lost        int // writes whose reply is lost, or that are delayed, in all; 2
	Crashes     int // in all; 2

	// Mutant names a deliberate fault to put into every process; empty: none. See Mutants.
	Mutant string

	// Progress is called now and then with the schedules run so far, and those to run in all; it may be nil, and is
	// called from several goroutines.
	Progress func(done, total int64)

	fresh  bool // begin with an empty bucket
	polite bool // leases may hold
	mutant *mutant
}

// Report is what a run found.
type Report struct {
	Schedules  int64 // run
	Pruned     int64 // of these, given up where all that could follow had been walked already
	States     int64 // told apart in exhaustive searches
	Steps      int64 // choices made
	MaxDepth   int   // steps of the longest schedule
	Exhaustive bool  // every schedule within the bounds of the exhaustive searches has been walked
	Violation  *Violation
}

// Violation is a schedule that breaks an invariant.
type Violation struct {
	Invariant Invariant
	Text      string   // what was wrong
	Schedule  string   // for Replay
	Steps     []string // the schedule in words, one line a step
}

const defaultSchedules = 50_000

// Run explores until the schedules are used up, an invariant breaks, or ctx is done: that is its error, and the report
// holds what was done so far. Otherwise the error tells of an unusable option.
func Run(ctx context.Context, o Options) (Report, error) {
	o, err := o.complete()
	if err != nil {
		return Report{}, err
	}
	jobs, err := plan(o)
	if err != nil {
		return Report{}, err
	}
	return runJobs(ctx, o, jobs)
}

func (o Options) complete() (Options, error) {
	for _, f := range []struct {
		to        *int
		otherwise int
	}{
		{&o.Workers, runtime.GOMAXPROCS(0)}, {&o.Writers, 3}, {&o.Opens, 3}, {&o.Appends, 4},
		{&o.Compactions, 3}, {&o.Collections, 2}, {&o.Lost, 2}, {&o.Crashes, 2},
	} {
		if *f.to == 0 {
			*f.to = f.otherwise
		}
		if *f.to < 0 {
			*f.to = 0 // none
		}
	}
	if o.Schedules == 0 {
		o.Schedules = defaultSchedules
	}
	if o.Writers > maxWriters || o.Writers < 1 || o.Lost > maxDelayed || o.Workers < 1 || o.Schedules < 1 {
		return o, fmt.Errorf("explore: %d writers, %d lost writes, %d workers, %d schedules: want 1 to %d, at most %d, and a positive number",
			o.Writers, o.Lost, o.Workers, o.Schedules, maxWriters, maxDelayed)
	}
	if o.Mutant != "" {
		m, ok := findMutant(o.Mutant)
		if !ok {
			return o, fmt.Errorf("explore: there is no mutant %q", o.Mutant)
		}
		o.mutant = &m
	}
	return o, nil
}

// randomBatch is how many random schedules one job runs.
const randomBatch = 500

// plan shares the schedules out: up to half of them to exhaustive searches, smallest first, the rest to random ones.
func plan(o Options) ([]job, error) {
	var jobs []job
	fresh, used := o, o
	fresh.fresh = true
	fresh.polite, used.polite = true, true
	templates, err := newTemplates()
	if err != nil {
		return nil, err
	}
	left := o.Schedules
	searches := exhaustive(o)
	for _, small := range searches {
		share := max(1, o.Schedules/2/int64(len(searches)))
		jobs = append(jobs, job{o: small, t: templates.of(small), limit: share})
		left -= share
	}
	for n := uint64(0); left > 0; n++ {
		j := job{o: used, t: templates.of(used), random: true, seed: mix(o.Seed, n), limit: min(left, randomBatch)}
		if n%8 == 7 {
			j.o, j.t = fresh, templates.of(fresh)
		}
		jobs = append(jobs, j)
		left -= j.limit
	}
	return jobs, nil
}

// exhaustive are the configurations that are walked through.
func exhaustive(o Options) []Options {
	var list []Options
	for _, b := range []Options{
		{Writers: 2, Opens: 1, fresh: true},
		{Writers: 2, Opens: 1, Appends: 1, Lost: 1},
		{Writers: 2, Opens: 1, Appends: 1, Compactions: 1, Collections: 1},
	} {
		small := o
		small.fresh = b.fresh
		small.Writers, small.Opens, small.Appends = min(o.Writers, b.Writers), min(o.Opens, b.Opens), min(o.Appends, b.Appends)
		small.Compactions, small.Collections = min(o.Compactions, b.Compactions), min(o.Collections, b.Collections)
		small.Lost, small.Crashes = min(o.Lost, b.Lost), min(o.Crashes, b.Crashes)
		list = append(list, small)
	}
	return list
}

// progressEvery is how many schedules pass between two calls of Progress.
const progressEvery = 1000

// runJobs does the jobs on a few workers. What is reported does not depend on which worker was faster: of several
// violations the one of the first job counts, and no job before it is given up.
func runJobs(ctx context.Context, o Options, jobs []job) (Report, error) {
	outcomes := make([]outcome, len(jobs))
	var next, done atomic.Int64
	var broken atomic.Int64 // the first job that found a violation
	broken.Store(int64(len(jobs)))
	tick := func() {
		if n := done.Add(1); o.Progress != nil && (n%progressEvery == 0 || n == o.Schedules) {
			o.Progress(n, o.Schedules)
		}
	}
	var workers sync.WaitGroup
	for range min(o.Workers, len(jobs)) {
		workers.Go(func() {
			w := newWorld()
			defer w.close()
			for ctx.Err() == nil {
				n := next.Add(1) - 1
				if n >= broken.Load() {
					return
				}
				outcomes[n] = jobs[n].run(ctx, w, tick)
				for outcomes[n].broken != nil {
					if b := broken.Load(); n >= b || broken.CompareAndSwap(b, n) {
						break
					}
				}
			}
		})
	}
	workers.Wait()
	var r Report
	r.Exhaustive = true
	for n := range min(int64(len(jobs)), broken.Load()+1) {
		r.add(outcomes[n], !jobs[n].random)
	}
	if n := broken.Load(); n < int64(len(jobs)) {
		v, err := shorten(jobs[n], outcomes[n])
		r.Exhaustive = false
		r.Violation = v
		return r, err
	}
	return r, ctx.Err()
}

func (r *Report) add(out outcome, exhaustive bool) {
	r.Schedules += out.schedules
	r.Pruned += out.pruned
	r.States += out.states
	r.Steps += out.steps
	r.MaxDepth = max(r.MaxDepth, out.depth)
	if exhaustive && !out.exhausted {
		r.Exhaustive = false
	}
}

