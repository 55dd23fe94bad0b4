package mutants

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func mutantsVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "mutants",
			Doc: "breaks the protocol's code on purpose, one mutant at a time, and lets the explorer look for a violation: each must be " +
				"caught. Needs the go command and the sources",
			Args: []scenario.Arg{
				{Name: "names", Kind: scenario.KindStrings, Doc: "names in faults/mutant; empty: all"},
				{Name: "schedules", Kind: scenario.KindInt, Default: "4000", Doc: "at most, in the mutant's own plan, and again over all plans"},
			},
			Metrics: Metrics(mutant.Mutants(), "schedules"),
		},
		Run: runMutants,
	}
}

func runMutants(ctx context.Context, r *bench.Run, args scenario.Args) error {
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
		n += Hunted(r, c.Mutant, string(c.Invariant), c.After, detail)
	}
	r.Metrics.Value("mutants_count", float64(len(all)))
	r.Metrics.Value("caught_count", float64(n))
	return nil
}
