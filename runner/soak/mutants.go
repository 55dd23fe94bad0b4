package soak

import (
	"context"
	"fmt"

	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/mutants"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func soakMutantsVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("it breaks the service on purpose, at build time, and runs it on the emulator's time"),
		Verb: scenario.Verb{
			Name: "soakmutants",
			Doc: "breaks the service on purpose, one mutant at a time, and runs it through the experiment that should show it: hours of " +
				"the soak or of the bill, an idle hour, months at the level of the store. A check must fail. Needs the go command and the " +
				"sources",
			Args: []scenario.Arg{{Name: "tries", Kind: scenario.KindInt, Default: "3", Doc: "at most how many seeds are tried until it " +
				"is caught"}},
			Metrics: mutants.Metrics(mutant.SoakMutants(), "runs"),
		},
		Run: runSoakMutants,
	}
}

func runSoakMutants(ctx context.Context, r *bench.Run, args scenario.Args) error {
	list, caught := mutant.SoakMutants(), 0
	for i, m := range list {
		r.Progress(fmt.Sprintf("%s: %s", r.Cell.Probe, m.Name), int64(i), int64(len(list)))
		by, detail, tries := "", "", 0
		for by == "" && tries < args.Int("tries") {
			var err error
			if by, detail, err = shows(ctx, r, m, r.Seed+uint64(tries)); err != nil {
				return fmt.Errorf("mutant %s: %w", m.Name, err)
			}
			tries++
		}
		caught += mutants.Hunted(r, m, by, tries, detail)
	}
	r.Metrics.Value("mutants_count", float64(len(list)))
	r.Metrics.Value("caught_count", float64(caught))
	return nil
}

// shows has the broken service live, and says which check fails.
func shows(ctx context.Context, r *bench.Run, m mutant.Mutant, seed uint64) (by, detail string, err error) {
	inner := r.Trial(record.NewMetrics())
	inner.Seed, inner.Progress = seed, r.Progress
	inner.Results = "" // a caught mutant leaves no failure
	switch m.Plan {
	case "e5.1":
		err = liveThrough(ctx, inner, span{hours: 5, disturb: 1, latency: 100}, &m)
	case "e5.2":
		err = bill(ctx, inner, 2, 0, "strict", 1, &m)
	case "e5.3":
		err = idleHour(ctx, inner, 5, &m)
	case "e5.4": // it needs no service: the protocol's code is in the runner
		return mutants.Hunt(ctx, m, seed)
	default:
		err = fmt.Errorf("its plan is %q, which no run of this verb is", m.Plan)
	}
	if err != nil {
		return "", "", err
	}
	if by, what := inner.FirstFailure(); by != "" {
		return by, fmt.Sprintf("seed %d: %s", seed, what), nil
	}
	return "", fmt.Sprintf("no check of %s failed", m.Plan), nil
}
