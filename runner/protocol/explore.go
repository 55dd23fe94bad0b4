package protocol

import (
	"context"
	"fmt"
	"strings"

	"blobpglite/runner/bench"
	"blobpglite/runner/explore"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func exploreVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "explore",
			Doc: "runs schedules of two or three processes through the real lease, log, manifest, takeover and collection, over a bucket " +
				"in memory: every store call is a choice, as are lost replies, late writes and crashes; the protocol's invariants are " +
				"checked after each step. First depth first, up to its share of the schedules, then at random by seed. A violation is " +
				"printed as its shortest schedule, which can be replayed",
			Args: []scenario.Arg{
				{Name: "schedules", Kind: scenario.KindInt, Default: "50000", Doc: "over all plans"},
				{Name: "plans", Kind: scenario.KindStrings, Doc: "by name; empty: all of runner/explore"},
				{Name: "workers", Kind: scenario.KindInt, Default: "0", Doc: "0: one for each processor"},
				{Name: "exhaustive", Kind: scenario.KindFloat, Default: "0.5", Doc: "share of the depth-first walk"},
			},
			Metrics: append(bench.MetricDocs(
				"schedules_count", "schedules run from beginning to end", "distinct_count", "schedules that differ from each other", "skipped_count", "schedules abandoned early "+
					"because an equivalent one had run",
				"deepest_count", "choices in the longest schedule", "cut_count", "schedules that exceeded the limit on steps", "schedules_per_s", "schedules of all workers "+
					"combined",
				"exhaustive_count", "schedules from the depth-first walk", "plans_count", "plans explored", "exhausted_count", "plans for which every "+
					"schedule without faults was run",
				"violations_count", "plans in which an invariant was violated",
			), planMetrics()...),
		},
		Run: runExplore,
	}
}

// planMetrics are one for each plan: its schedules.
func planMetrics() []scenario.MetricDoc {
	var docs []scenario.MetricDoc
	for _, p := range explore.Plans() {
		docs = append(docs, scenario.MetricDoc{Name: planMetric(p.Name), Doc: "schedules of the plan: " + p.Doc})
	}
	return docs
}

func planMetric(name string) string { return "plan_" + strings.ReplaceAll(name, "-", "_") + "_count" }

func runExplore(ctx context.Context, r *bench.Run, args scenario.Args) error {
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
		r.Found(c)
	}
	return nil
}
