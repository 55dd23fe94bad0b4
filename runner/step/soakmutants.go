package step

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"blobpglite/faults/mutant"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func soakMutantsVerb() verb {
	return verb{
		cloud: notThere("it breaks the service on purpose, at build time, and runs it on the twin's time"),
		Verb: scenario.Verb{
			Name: "soakmutants",
			Doc: "breaks the service on purpose, one way at a time, and has it live through what has to show it: hours of the soak, of the bill, an idle " +
				"hour. A check has to fail. Needs the go command and the sources",
			Args:    []scenario.Arg{{Name: "tries", Kind: scenario.KindInt, Default: "3", Doc: "seeds that are tried, at most, until it is caught"}},
			Metrics: mutantMetrics(mutant.SoakMutants(), "runs"),
		},
		run: runSoakMutants,
	}
}

func runSoakMutants(ctx context.Context, r *Run, args scenario.Args) error {
	list, caught := mutant.SoakMutants(), 0
	for i, m := range list {
		r.Progress(fmt.Sprintf("%s: %s", r.Cell.Probe, m.Name), int64(i), int64(len(list)))
		by, detail, tries := "", "", 0
		for by == "" && tries < args.Int("tries") {
			var err error
			if by, detail, err = r.shows(ctx, m, r.Seed+uint64(tries)); err != nil {
				return fmt.Errorf("mutant %s: %w", m.Name, err)
			}
			tries++
		}
		caught += r.hunted(m, by, tries, detail)
	}
	r.Metrics.Value("mutants_count", float64(len(list)))
	r.Metrics.Value("caught_count", float64(caught))
	return nil
}

// shows has the broken service live, and says which check fails.
func (r *Run) shows(ctx context.Context, m mutant.Mutant, seed uint64) (by, detail string, err error) {
	inner := &Run{
		Cell: r.Cell, Seed: seed, Store: r.Store, Runtime: r.Runtime, Progress: r.Progress, Metrics: record.NewMetrics(),
		failed: map[string]string{}, held: map[string]int{},
	}
	switch m.Plan {
	case "e5.1":
		err = inner.soak(ctx, 5, 1, 0, &m)
	case "e5.2":
		err = inner.bill(ctx, 2, 0, "strict", 1, &m)
	case "e5.3":
		err = inner.idleHour(ctx, 5, &m)
	default:
		err = fmt.Errorf("its plan is %q, which no run of this verb is", m.Plan)
	}
	if err != nil {
		return "", "", err
	}
	for _, name := range slices.Sorted(maps.Keys(inner.failed)) {
		return name, fmt.Sprintf("seed %d: %s", seed, inner.failed[name]), nil
	}
	return "", fmt.Sprintf("no check of %s failed", m.Plan), nil
}
