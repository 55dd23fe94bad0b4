package mutants

import (
	"context"
	"fmt"
	"slices"

	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func unitMutantsVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "unitmutants",
			Doc: "breaks the protocol's packages and the PostgreSQL listener on purpose, one mutant at a time, and runs the tests of the " +
				"broken package: one of them must fail. Needs the go command and the sources",
			Args: []scenario.Arg{
				{Name: "names", Kind: scenario.KindStrings, Doc: "UnitMutants in faults/mutant; empty: all"},
			},
			Metrics: Metrics(mutant.UnitMutants(), "runs"),
		},
		Run: runUnitMutants,
	}
}

func runUnitMutants(ctx context.Context, r *bench.Run, args scenario.Args) error {
	list := mutant.UnitMutants()
	if names := args.Strings("names"); len(names) > 0 {
		for _, n := range names {
			if !slices.ContainsFunc(list, func(m mutant.Mutant) bool { return m.Name == n }) {
				return fmt.Errorf("there is no mutant %q of the unit tests", n)
			}
		}
		list = slices.DeleteFunc(list, func(m mutant.Mutant) bool { return !slices.Contains(names, m.Name) })
	}
	root, dir, clean, err := huntFolder()
	if err != nil {
		return err
	}
	defer clean()
	caught := 0
	for i, m := range list { // one after the other: go test itself is parallel
		r.Progress(fmt.Sprintf("%s: %s", r.Cell.Probe, m.Name), int64(i), int64(len(list)))
		by, err := m.RunUnit(ctx, root, dir)
		if err != nil {
			return err
		}
		caught += Hunted(r, m, by, 1, "by the tests of "+m.Plan)
	}
	r.Metrics.Value("mutants_count", float64(len(list)))
	r.Metrics.Value("caught_count", float64(caught))
	return nil
}
