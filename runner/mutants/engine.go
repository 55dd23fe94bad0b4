package mutants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"blobpglite/faults/mutant"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func engineMutantsVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "enginemutants",
			Doc: "breaks the engine on purpose, one mutant at a time, builds the runner with it, and runs the probe that must fail. Needs " +
				"the go command and the sources",
			Args: []scenario.Arg{
				{Name: "names", Kind: scenario.KindStrings, Doc: "EngineMutants in faults/mutant; empty: all"},
				{Name: "tries", Kind: scenario.KindInt, Default: "4", Doc: "at most how many seeds are tried until it is caught"},
			},
			Metrics: Metrics(mutant.EngineMutants(), "rounds"),
		},
		Run: runEngineMutants,
	}
}

func runEngineMutants(ctx context.Context, r *bench.Run, args scenario.Args) error {
	list, err := chosenMutants(args.Strings("names"))
	if err != nil {
		return err
	}
	root, dir, clean, err := huntFolder()
	if err != nil {
		return err
	}
	defer clean()
	caught := 0
	for i, m := range list {
		r.Progress(fmt.Sprintf("%s: %s", r.Cell.Probe, m.Name), int64(i), int64(len(list)))
		h := hunt{m: m, root: root, dir: filepath.Join(dir, m.Name), seed: r.Seed}
		if err := h.run(ctx, args.Int("tries")); err != nil {
			return fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		detail := fmt.Sprintf("not caught by %s in %d rounds; %s", m.Plan, h.rounds, h.last)
		if h.by != "" {
			detail = fmt.Sprintf("after %d rounds of %s (seed %d); %s", h.rounds, m.Plan, h.seed, h.detail)
		}
		caught += Hunted(r, m, h.by, h.rounds, detail)
	}
	r.Metrics.Value("mutants_count", float64(len(list)))
	r.Metrics.Value("caught_count", float64(caught))
	return nil
}

func chosenMutants(names []string) ([]mutant.Mutant, error) {
	all := mutant.EngineMutants()
	if len(names) == 0 {
		return all, nil
	}
	var list []mutant.Mutant
	for _, n := range names {
		i := slices.IndexFunc(all, func(m mutant.Mutant) bool { return m.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("there is no mutant %q of the engine", n)
		}
		list = append(list, all[i])
	}
	return list, nil
}

// hunt is the search with one mutant.
type hunt struct {
	m         mutant.Mutant
	root, dir string
	seed      uint64 // of the run that caught it

	rounds     int    // until then
	by, detail string // the check that caught it, and what it said
	last       string // what the last run said if it was not caught
}

// huntLimit bounds one run of a broken runner.
const huntLimit = 5 * time.Minute

// run builds the broken runner and lets it run the mutant's probe with one seed after the other.
func (h *hunt) run(ctx context.Context, tries int) error {
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		return err
	}
	program, err := h.m.BuildRunner(ctx, h.root, h.dir)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(program) }()
	for range tries {
		if err := h.try(ctx, program); err != nil || h.by != "" {
			return err
		}
		h.seed++
	}
	return nil
}

// Hunt builds the runner with a mutant in it, and has it run the mutant's probe once, with a seed. It returns the check that caught it
// (empty: none) and what that said, or the last verdict.
func Hunt(ctx context.Context, m mutant.Mutant, seed uint64) (by, detail string, err error) {
	root, dir, clean, err := huntFolder()
	if err != nil {
		return "", "", err
	}
	defer clean()
	h := hunt{m: m, root: root, dir: filepath.Join(dir, m.Name), seed: seed}
	if err := h.run(ctx, 1); err != nil {
		return "", "", err
	}
	if h.by == "" {
		return "", h.last, nil
	}
	return h.by, fmt.Sprintf("seed %d: %s", seed, h.detail), nil
}

func (h *hunt) try(ctx context.Context, program string) error {
	id, _, _ := strings.Cut(h.m.Plan, ".")
	results := filepath.Join(h.dir, fmt.Sprint(h.seed))
	inner, cancel := context.WithTimeout(ctx, huntLimit)
	defer cancel()
	cmd := exec.CommandContext(inner, program, "-scenario", id, "-probe", h.m.Plan, "-profile", "ci", "-seed", fmt.Sprint(h.seed), "-results", results)
	cmd.Dir = h.root
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || inner.Err() != nil {
		return errors.Join(err, inner.Err())
	}
	log, err := record.ReadDir(results)
	if err != nil {
		return fmt.Errorf("%w: the runner said: %s", err, theEnd(out.String()))
	}
	if len(log.Records) == 0 {
		return fmt.Errorf("the broken runner left no result: %s", theEnd(out.String()))
	}
	for _, rec := range log.Records {
		h.rounds += roundsOf(rec)
		h.last = fmt.Sprintf("its last verdict was %s", rec.Verdict)
		for _, c := range rec.Checks {
			if c.Verdict == record.Fail && h.by == "" {
				h.by, h.detail = c.Name, c.Detail
			}
			if c.Verdict != record.Pass {
				h.last += fmt.Sprintf("; %s: %s: %s", c.Name, c.Verdict, c.Detail)
			}
		}
		if h.by != "" {
			return nil
		}
	}
	return nil
}

func theEnd(text string) string {
	const most = 600
	return text[max(len(text)-most, 0):]
}

// roundsOf is how many rounds a run did: of its deaths, its zombies, its hand-overs, or one.
func roundsOf(rec record.Record) int {
	n := int64(1)
	for _, m := range rec.Metrics {
		if slices.Contains([]string{"deaths_count", "refused_count", "handover_ms", "muted_count"}, m.Name) {
			n = max(n, m.N)
		}
	}
	return int(n)
}
