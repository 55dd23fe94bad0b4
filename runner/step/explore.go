package step

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"blobpglite/faults/mutant"
	"blobpglite/runner/explore"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func exploreVerb() verb {
	return verb{
		bare: true,
		Verb: scenario.Verb{
			Name: "explore",
			Doc: "runs schedules of two or three processes on the real lease, log, manifest, takeover and collection over a bucket in memory: " +
				"every call of the store is a choice, lost replies, late writes and crashes too; the protocol's invariants are judged after each " +
				"step. First depth first, as far as the share goes, then by seed. A violation is printed as its shortest schedule, which replays",
			Args: []scenario.Arg{
				{Name: "schedules", Kind: scenario.KindInt, Default: "50000", Doc: "over all plans"},
				{Name: "plans", Kind: scenario.KindStrings, Doc: "by name; none: all of runner/explore"},
				{Name: "workers", Kind: scenario.KindInt, Default: "0", Doc: "0: as many as processors"},
				{Name: "exhaustive", Kind: scenario.KindFloat, Default: "0.5", Doc: "share of the depth-first walk"},
			},
			Metrics: append(metricDocs(
				"schedules_count", "run from beginning to end", "distinct_count", "different ones", "skipped_count", "prefixes given up: an equivalent schedule was run",
				"deepest_count", "choices of the longest", "cut_count", "that did not end within the bound on steps", "schedules_per_s", "all workers together",
				"exhaustive_count", "of the schedules, by the depth-first walk", "plans_count", "explored", "exhausted_count", "of the plans, every schedule without faults was run",
				"violations_count", "plans in which an invariant was violated",
			), planMetrics()...),
		},
		run: runExplore,
	}
}

// planMetrics are one for each plan: its schedules.
func planMetrics() []scenario.MetricDoc {
	var docs []scenario.MetricDoc
	for _, p := range explore.Plans() {
		docs = append(docs, scenario.MetricDoc{Name: planMetric(p.Name), Doc: "schedules: " + p.Doc})
	}
	return docs
}

func planMetric(name string) string { return "plan_" + strings.ReplaceAll(name, "-", "_") + "_count" }

func runExplore(ctx context.Context, r *Run, args scenario.Args) error {
	share := args.Float("exhaustive")
	if share <= 0 {
		share = -1
	}
	report, err := explore.Explore(ctx, explore.Options{
		Schedules: args.Int("schedules"), Plans: args.Strings("plans"), Seed: r.Seed, Workers: args.Int("workers"), Exhaustive: share, KeepGoing: true,
		Progress: func(done, total int) { r.Progress(r.Cell.Probe+": schedules", int64(done), int64(total)) },
	})
	if err != nil {
		return err
	}
	exhaustive, exhausted := 0, 0
	for _, p := range report.Plans {
		r.Metrics.Value(planMetric(p.Name), float64(p.Schedules))
		exhaustive += p.Exhaustive
		if p.Exhausted >= 0 {
			exhausted++
		}
	}
	for name, n := range map[string]int{
		"schedules_count": report.Schedules, "distinct_count": report.Distinct, "skipped_count": report.Skipped, "deepest_count": report.Deepest,
		"cut_count": report.Cut, "exhaustive_count": exhaustive, "plans_count": len(report.Plans), "exhausted_count": exhausted,
		"violations_count": len(report.Violations),
	} {
		r.Metrics.Value(name, float64(n))
	}
	r.Metrics.Value("schedules_per_s", float64(report.Schedules)/report.Elapsed.Seconds())
	for _, i := range explore.Invariants() {
		c := record.Check{Name: "invariant " + string(i), Verdict: record.Pass, Detail: fmt.Sprintf("held in %d schedules", report.Schedules)}
		for _, v := range report.Violations {
			if v.Invariant == i {
				c.Verdict, c.Detail = record.Fail, v.String()
				break
			}
		}
		r.found(c)
	}
	return nil
}

func mutantsVerb() verb {
	return verb{
		bare: true,
		Verb: scenario.Verb{
			Name: "mutants",
			Doc: "breaks the protocol's code on purpose, one way at a time, and lets the explorer look for a violation: each has to be " +
				"caught. Needs the go command and the sources",
			Args: []scenario.Arg{
				{Name: "names", Kind: scenario.KindStrings, Doc: "of faults/mutant; none: all"},
				{Name: "schedules", Kind: scenario.KindInt, Default: "4000", Doc: "at most, in the mutant's own plan, and again over all plans"},
			},
			Metrics: mutantMetrics(mutant.Mutants(), "schedules"),
		},
		run: runMutants,
	}
}

// mutantMetrics are what a hunt for mutants records, counted in a unit.
func mutantMetrics(all []mutant.Mutant, unit string) []scenario.MetricDoc {
	docs := metricDocs("mutants_count", "tried", "caught_count", "of them", "until_caught_count", unit+", of each that was caught")
	for _, m := range all {
		docs = append(docs, scenario.MetricDoc{Name: mutantMetric(m.Name), Doc: unit + " until it was caught: " + m.Doc})
	}
	return docs
}

// hunted records what became of a mutant: caught by a check (empty: it was not) after so many schedules or rounds. It
// returns 1 if it was caught.
func (r *Run) hunted(m mutant.Mutant, by string, after int, detail string) int {
	c := record.Check{Name: fmt.Sprintf("mutant %s is caught", m.Name), Verdict: record.Fail, Detail: m.Doc + ": " + detail}
	if by == "" {
		r.found(c)
		return 0
	}
	c.Name, c.Verdict = fmt.Sprintf("mutant %s caught by %s", m.Name, by), record.Pass
	r.found(c)
	r.Metrics.Value(mutantMetric(m.Name), float64(after))
	r.Metrics.Value("until_caught_count", float64(after))
	return 1
}

// huntFolder is a folder for mutants, and the root of the sources that they break. Call done.
func huntFolder() (root, dir string, done func(), err error) {
	if root, err = mutant.Root("."); err != nil {
		return "", "", nil, err
	}
	dir, err = os.MkdirTemp("", "mutants-")
	return root, dir, func() { _ = os.RemoveAll(dir) }, err
}

func mutantMetric(name string) string {
	return "mutant_" + strings.ReplaceAll(name, "-", "_") + "_count"
}

func runMutants(ctx context.Context, r *Run, args scenario.Args) error {
	all, err := mutant.Named(args.Strings("names")...)
	if err != nil {
		return err
	}
	root, dir, clean, err := huntFolder()
	if err != nil {
		return err
	}
	defer clean()
	caught := make([]mutant.Caught, len(all))
	var mu sync.Mutex
	done := 0
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range all {
		g.Go(func() (err error) {
			caught[i], err = mutant.Hunt(ctx, root, dir, m, mutant.Budget{Schedules: args.Int("schedules"), Seed: r.Seed})
			mu.Lock()
			defer mu.Unlock()
			done++
			r.Progress(r.Cell.Probe+": mutants", int64(done), int64(len(all)))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	n := 0
	for _, c := range caught {
		detail := fmt.Sprintf("not caught in %d schedules", c.After)
		if c.Invariant != "" {
			detail = fmt.Sprintf("after %d schedules of plan %s, %d steps; %s", c.After, c.Plan, len(c.Schedule), c.Detail)
		}
		n += r.hunted(c.Mutant, string(c.Invariant), c.After, detail)
	}
	r.Metrics.Value("mutants_count", float64(len(all)))
	r.Metrics.Value("caught_count", float64(n))
	return nil
}
