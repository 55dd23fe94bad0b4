// Package step holds the verbs of scenarios: what each does, what it measures, what it has to prove.
//
//	registry := step.Registry()                     // for scenario.Load
//	run := step.Run{Cell: cell, Seed: 1, ...}
//	err := run.Do(ctx)                              // all steps of the cell
//	verdict, checks := run.Judge()
//
// A verb records metrics and check results in the Run; it returns an error only where the harness itself failed or a
// limit was passed. An error of the database under test is a failed check.
package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/runner/node"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// Names of checks.
const (
	checkChecksum   = "checksum"
	checkDurability = "durability"

	checkConditions     = "conditions"
	checkOneWinner      = "one-winner"
	checkReadAfterWrite = "read-after-write"
	checkEmulator       = "emulator"
	checkLocked         = "locked"
	checkOneEpoch       = "one-epoch"
	checkRefused        = "refused"
	checkExclusive      = "exclusive"

	checkRestored  = "restored"
	checkCollected = "collected"
	checkVerified  = "verified"
)

// verb is a verb with what it does.
type verb struct {
	scenario.Verb
	// bare verbs need no PostgreSQL: Run.Runtime may be nil.
	bare bool
	// cloud says why the verb cannot be done on Cloud Run, empty if it can. Nil: it has nothing to do with a service.
	cloud func(args scenario.Args) string
	run   func(ctx context.Context, r *Run, args scenario.Args) error
}

func verbs() []verb {
	return []verb{
		roundtripVerb(), freshVerb(), sqlbenchVerb(), nativebenchVerb(), wakesVerb(), largerThanCacheVerb(), wakeSizeVerb(), wakeGrowthVerb(), pageFaultsVerb(),
		logRoundtripVerb(), commitLatencyVerb(), commitThroughputVerb(), casRateVerb(), reopenVerb(), idleVerb(), amplificationVerb(),
		conditionsVerb(), raceVerb(), contestVerb(), readAfterWriteVerb(), primitiveLatencyVerb(), emulatorVerb(),
		lockedVerb(), takeoversVerb(), zombiesVerb(), heartbeatVerb(), goTestVerb(),
		killpointVerb(), zombieVerb(), handoverVerb(), chaosVerb(), episodeVerb(),
		blackoutVerb(), layerSizeVerb(), layerPriceVerb(), storedLiveVerb(), carriedOverVerb(), layerKillVerb(), nothingNewVerb(), engineMutantsVerb(), unitMutantsVerb(), stalledOpenerVerb(),
		exploreVerb(), mutantsVerb(),
		clientVerb(), pgbenchVerb(), doorLatencyVerb(), sessionsVerb(), besideVerb(), regressVerb(), isolationVerb(), interleaveVerb(),
		twinBootVerb(), twinTierVerb(), twinLargeVerb(), twinSleepVerb(), twinCommitsVerb(),
		twinFrozenVerb(), twinFlushVerb(), twinSwitchVerb(), twinRivalVerb(), twinIdleVerb(), twinCostVerb(),
		edgeVerb(),
		replicaConvergesVerb(), replicaLagVerb(), replicaReadsVerb(), replicaStartVerb(), replicaRequestsVerb(), replicaPromotionVerb(),
		soakVerb(), soakBillVerb(), soakIdleVerb(), soakMutantsVerb(), growthVerb(), fleetVerb(),
	}
}

// Registry is what documents may ask for.
func Registry() scenario.Registry {
	var reg scenario.Registry
	for _, v := range verbs() {
		reg.Verbs = append(reg.Verbs, v.Verb)
	}
	reg.Checks = []scenario.Named{
		{Name: checkChecksum, Doc: "every chunk of rows has the digest that the checksum table keeps"},
		{Name: checkDurability, Doc: "every acknowledged row is in the restored database, and nothing that was not committed"},
		{Name: checkConditions, Doc: "a put is stored if its condition holds, and changes nothing if not"},
		{Name: checkOneWinner, Doc: "of many writers at once exactly one is told that it has won, and it has"},
		{Name: checkReadAfterWrite, Doc: "another client reads and lists exactly what was acknowledged"},
		{Name: checkEmulator, Doc: "the emulator is wrong where the table says so, and behind the front it is not"},
		{Name: checkLocked, Doc: "a second writer is told who holds the lease and until when"},
		{Name: checkOneEpoch, Doc: "of simultaneous takeovers one succeeds, and the epoch rises by exactly one"},
		{Name: checkRefused, Doc: "a writer that was taken over is refused, and nothing of it is in the log"},
		{Name: checkExclusive, Doc: "a lease is never both renewed and taken over"},
		{Name: checkRestored, Doc: "a layer that is restored is, byte for byte, what it was taken of"},
		{Name: checkCollected, Doc: "behind a collection the bucket holds nothing that the manifest and the records kept do not lead to"},
		{Name: checkContained, Doc: "who needs none of the pages that cannot be had is served, and who does hears of it"},
		{Name: checkVerified, Doc: "every layer and every record is sound, read from end to end"},
		{Name: checkConverged, Doc: "at rest a replica has, table by table and database by database, what the writer has"},
		{Name: checkPrefix, Doc: "what a replica shows is a state that the log had, no older than what it has shown, and nothing that was not sent"},
		{Name: checkReadOnly, Doc: "a replica asks the bucket for nothing but reads"},
		{Name: checkClient, Doc: "a real client does what it always does, and nothing fails"},
		{Name: checkSuite, Doc: "PostgreSQL's own suite ran to its end, and printed here what it prints at PostgreSQL"},
		{Name: checkSessions, Doc: "sessions leave nothing behind, and keep nobody waiting but who wants what they hold"},
		{Name: checkInterleave, Doc: "two clients are told, in every order of what they do, what PostgreSQL tells them"},
		{Name: checkEdge, Doc: "what was tried at the edge went as it should: nothing acknowledged is lost, nothing stops, errors say why"},
		{Name: checkTests, Doc: "every test passes, and some were run"},
	}
	reg.Checks = append(reg.Checks, []scenario.Named{
		{Name: checkSecond, Doc: "a reader that restores from the bucket, beside whoever writes, has everything that was acknowledged"},
		{Name: checkReconciled, Doc: "the store and the product have counted the same requests, to the request"},
		{Name: checkBounded, Doc: "what a wake asks for, and what is stored besides fences, is no more after a year than in the first days"},
		{Name: checkIdle, Doc: "who has nothing to do asks the bucket for nothing"},
		{Name: checkAlike, Doc: "a dump that is restored into a new database holds the same"},
	}...)
	reg.Checks = append(reg.Checks, faultChecks()...)
	reg.Seams = []scenario.Named{{Name: seamHTTP, Doc: "requests at the bucket: op, key, phase; do is lose, reset, cut, 429, 503, 403 or delay"}}
	return reg
}

// Store gives experiments their places in a store.
type Store struct {
	Kind string // mem, fake-gcs or gcs
	// Bucket and Endpoint are a node's; empty for mem.
	Bucket, Endpoint string
	Memory           store.Store // mem
	Prefix           string      // of this run
	places           int
	pgserve          string // the program, once it is built
}

// place is a fresh prefix.
func (s *Store) place(name string) node.StoreSpec {
	s.places++
	return node.StoreSpec{
		Bucket: s.Bucket, Endpoint: s.Endpoint, Memory: s.Memory, Prefix: fmt.Sprintf("%s/%s-%d", s.Prefix, name, s.places),
	}
}

// Run is one cell being run.
type Run struct {
	Cell     scenario.Cell
	Seed     uint64
	Store    *Store
	Runtime  *pglite.Runtime
	Progress func(step string, done, total int64)
	// Cloud is where verbs of the twin run instead; nil: on the twin. Other verbs do not run then.
	Cloud *Cloud

	Metrics *record.Metrics
	// Rounds are counted by verbs that run until the time is up; 0: as many as the document says.
	Rounds int
	Notes  []string
	Faults []record.Fault // rules, and how often each struck
	// Ops are what verbs asked of buckets of their own.
	Ops record.Ops
	// Artifacts are files that the run left, relative to Results.
	Artifacts []string
	Results   string // the folder for them
	kept      string // the folder below it that a failure of this run goes to; empty: one for each probe

	mu sync.Mutex // guards Faults and Ops

	failed  map[string]string // check name to what went wrong
	held    map[string]int    // check name to how often it held
	own     []record.Check    // that verbs judge themselves
	vacuous string            // why nothing was tried
}

// NeedsPostgres says whether any step of the cells does.
func NeedsPostgres(cells []scenario.Cell) bool {
	all := verbs()
	for _, c := range cells {
		for _, s := range c.Steps {
			if i := slices.IndexFunc(all, func(v verb) bool { return v.Name == s.Verb }); i < 0 || !all[i].bare {
				return true
			}
		}
	}
	return false
}

// Do goes through the steps of the cell.
func (r *Run) Do(ctx context.Context) error {
	r.failed, r.held = map[string]string{}, map[string]int{}
	all := verbs()
	for range r.Cell.Repeat {
		for _, s := range r.Cell.Steps {
			i := slices.IndexFunc(all, func(v verb) bool { return v.Name == s.Verb })
			if i < 0 {
				return fmt.Errorf("there is no verb %q", s.Verb)
			}
			if why := leftOut(s); r.Cloud != nil && why != "" {
				return fmt.Errorf("this cannot be run on Cloud Run: %s", why)
			}
			if err := all[i].run(ctx, r, s.Args); err != nil {
				return fmt.Errorf("%s: %w", s.Verb, err)
			}
		}
	}
	return nil
}

// check records how a check went once; wrong is empty if it held.
func (r *Run) check(name, wrong string) {
	if wrong == "" {
		r.held[name]++
	} else if r.failed[name] == "" {
		r.failed[name] = wrong
	}
}

// found records a check that a verb has judged itself, under a name of its own. The worst of several of one name counts.
func (r *Run) found(c record.Check) {
	i := slices.IndexFunc(r.own, func(o record.Check) bool { return o.Name == c.Name })
	if i < 0 {
		r.own = append(r.own, c)
	} else if r.own[i].Verdict.Worse(c.Verdict) != r.own[i].Verdict {
		r.own[i] = c
	}
}

// skip marks the run as having tried nothing.
func (r *Run) skip(format string, args ...any) {
	r.vacuous = fmt.Sprintf(format, args...)
	r.Notes = append(r.Notes, r.vacuous)
}

// Judge gives the verdict, from what Do returned and what was recorded.
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
	verdict := record.Pass
	if len(checks) == 0 {
		verdict = record.Vacuous
	}
	for _, c := range checks {
		verdict = verdict.Worse(c.Verdict)
	}
	return verdict, checks
}
