// Package bench is the basis of every experiment: a run of one cell, with its store, its pgserve, its measurements, its checks and its verdict.
//
//	run := bench.Run{Cell: cell, Seed: 1, Verbs: registry.Verbs(), ...}
//	err := run.Do(ctx)                              // all steps of the cell
//	verdict, checks := run.Judge(err, metrics)
//
// A verb records metrics and check results in the Run; it returns an error only if the harness itself failed or a limit was exceeded. An
// error of the database under test is a failed check.
//
// Read run.go first, then verb.go (what a verb is), store.go (places in a store), pgserve.go and served.go (the service as a child).
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/node"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// Store gives experiments prefixes of their own in a store.
type Store struct {
	Kind string // mem, fake-gcs or gcs
	// Bucket and Endpoint are a node's; empty for mem.
	Bucket, Endpoint string
	Memory           store.Store // mem
	Prefix           string      // of this run
	places           int
	pgserve          string // the program, once it is built
}

// Fresh returns a prefix that was not used before.
func (s *Store) Fresh(name string) node.StoreSpec {
	s.places++
	return node.StoreSpec{
		Bucket: s.Bucket, Endpoint: s.Endpoint, Memory: s.Memory, Prefix: fmt.Sprintf("%s/%s-%d", s.Prefix, name, s.places),
	}
}

// Run is the run of one cell.
type Run struct {
	Cell     scenario.Cell
	Seed     uint64
	Store    *Store
	Runtime  *pglite.Runtime
	Progress func(step string, done, total int64)
	// Cloud is where verbs of the Cloud Run emulator run instead; nil: on the emulator. If it is set, other verbs cannot run.
	Cloud *Cloud

	Metrics *record.Metrics
	// Rounds are counted by verbs that run until the time is up; 0: as many as the document says.
	Rounds int
	Notes  []string
	Faults []record.Fault // rules, and how often each struck
	// Ops are the operations that verbs made on buckets of their own.
	Ops record.Ops
	// Artifacts are files that the run left, relative to Results.
	Artifacts []string
	Results   string // the folder for them
	kept      string // the folder below it that a failure of this run goes to; empty: one for each probe

	// Verbs are the verbs that the steps may use.
	Verbs Verbs

	mu sync.Mutex // guards Faults, Ops, failed, held and bucket

	bucket  *gcsfront.Front   // the last one of the run's own, or that a check failed on
	listing []string          // of a place that was emptied
	failed  map[string]string // check name to what went wrong
	held    map[string]int    // check name to how often it held
	own     []record.Check    // that verbs judge themselves
	vacuous string            // why nothing was tried
}

// Do does the steps of the cell. An error is one of the harness, or ctx's.
func (r *Run) Do(ctx context.Context) error { return r.Verbs.do(ctx, r) }

// begin makes the maps that hold the state of checks.
func (r *Run) begin() {
	if r.failed == nil {
		r.failed, r.held = map[string]string{}, map[string]int{}
	}
}

// Check records one result of a check; wrong is empty if it held. Several goroutines may.
func (r *Run) Check(name, wrong string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin()
	if wrong == "" {
		r.held[name]++
	} else if r.failed[name] == "" {
		r.failed[name] = wrong
	}
}

// Found records a check that a verb has judged itself, under a name of its own. Of several with the same name the worst counts.
func (r *Run) Found(c record.Check) {
	i := slices.IndexFunc(r.own, func(o record.Check) bool { return o.Name == c.Name })
	if i < 0 {
		r.own = append(r.own, c)
	} else if r.own[i].Verdict.Worse(c.Verdict) != r.own[i].Verdict {
		r.own[i] = c
	}
}

// Vacuous marks the run as having tried nothing.
func (r *Run) Vacuous(format string, args ...any) {
	r.vacuous = fmt.Sprintf(format, args...)
	r.Notes = append(r.Notes, r.vacuous)
}

// Judge returns the verdict, from what Do returned and what was recorded.
func (r *Run) Judge(runErr error, metrics []record.Metric) (record.Verdict, []record.Check) {
	var checks []record.Check
	for _, name := range r.Cell.Checks {
		c := record.Check{Name: name}
		switch {
		case r.failed[name] != "":
			c.Verdict, c.Detail = record.Fail, r.failed[name]
		case r.held[name] > 0:
			c.Verdict, c.Detail = record.Pass, fmt.Sprintf("held %d times", r.held[name])
		default:
			c.Verdict, c.Detail = record.Vacuous, "nothing was checked"
		}
		checks = append(checks, c)
	}
	checks = append(checks, r.own...)
	switch {
	case errors.Is(runErr, context.DeadlineExceeded):
		return record.Timeout, append(checks, record.Check{Name: "run", Verdict: record.Timeout, Detail: runErr.Error()})
	case runErr != nil:
		return record.Broken, append(checks, record.Check{Name: "run", Verdict: record.Broken, Detail: runErr.Error()})
	case r.vacuous != "":
		return record.Vacuous, append(checks, record.Check{Name: "run", Verdict: record.Vacuous, Detail: r.vacuous})
	}
	checks = append(checks, r.Cell.Judge(scenario.Facts{Metrics: metrics, Checks: checks, Fired: r.firedCounts()})...)
	if len(checks) == 0 {
		if !slices.ContainsFunc(metrics, func(m record.Metric) bool { return m.N > 0 }) {
			return record.Vacuous, nil
		}
		return record.Recorded, nil
	}
	verdict := record.Pass
	for _, c := range checks {
		verdict = verdict.Worse(c.Verdict)
	}
	return record.Concluded(verdict, checks), checks
}
