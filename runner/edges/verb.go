package edges

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{edgeVerb()}
}

// checkEdge is the check made by the verb.
const checkEdge = "edge"

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkEdge, Doc: "the edge case went as it should: nothing acknowledged is lost, nothing stops, errors say why"},
	}
}

// builtHere is the value of program that means the one built from this repository.
const builtHere = "built"

func edgeVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "edge",
			Doc: "tries pgserve, in child processes over a separate bucket, at the edges of PostgreSQL and its protocol: settings, " +
				"copies, refused requests, odd input. Package runner/edges describes the cases",
			Args: []scenario.Arg{
				{Name: "case", Required: true, OneOf: Names(), Doc: "what is tried"},
				{Name: "size", Kind: scenario.KindInt, Doc: "how much of it; 0: as little as shows the fault"},
				{Name: "hold", Kind: scenario.KindDuration, Doc: "how long things are left alone, in cases that do so"},
				{Name: "within", Kind: scenario.KindDuration, Default: "3m", Doc: "for the whole case"},
				{Name: "program", Default: builtHere, Doc: "the pgserve to try, such as an older commit's; built: this repository's"},
			},
			Metrics: bench.MetricDocs(Metrics()...),
		},
		Run: runEdge,
	}
}

func runEdge(ctx context.Context, r *bench.Run, args scenario.Args) error {
	folder, err := os.MkdirTemp("", "blobpglite-edge-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(folder)
	program := args.String("program")
	if program == builtHere {
		r.Progress("building pgserve", 0, 0)
		if program, err = r.Store.Program(ctx, folder, r.Runtime.CacheDir()); err != nil {
			return err
		}
	}
	t, err := New(ctx, Options{
		Program: program, Seed: r.Seed, Size: args.Int("size"), Hold: args.Duration("hold"), Metrics: r.Metrics, Progress: r.Progress,
	})
	if err != nil {
		return err
	}
	defer t.Close()
	r.On(t.front)
	within := args.Duration("within")
	inner, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not done within %v", within))
	defer cancel()
	err = Run(inner, t, args.String("case"))
	r.AddOps(bench.OpsOf(t.Ops()))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(inner.Err(), context.DeadlineExceeded):
		r.Check(checkEdge, strings.Join(append(t.Wrong(), fmt.Sprintf("not done within %v: %v", within, err)), "; "))
		return nil
	case err != nil:
		return err
	case t.Skipped() != "":
		r.Vacuous("%s", t.Skipped())
		return nil
	}
	wrong := t.Wrong()
	const most = 12
	if len(wrong) > most {
		wrong = append(wrong[:most:most], fmt.Sprintf("and %d more", len(t.Wrong())-most))
	}
	r.Check(checkEdge, strings.Join(wrong, "; "))
	return nil
}
