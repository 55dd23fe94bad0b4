package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
	"blobpglite/runner/bench"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
)

func isolationVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "isolation",
			Doc: "runs specifications of several sessions against pgserve as PostgreSQL's isolationtester does, and compares the output " +
				"with the expected one: those in PostgreSQL's source, first against a PostgreSQL built from it; without a source, those " +
				"of this repository",
			Args: []scenario.Arg{
				{Name: "source", Doc: "folder with PostgreSQL's unpacked source; empty: the specifications of this repository"},
				{Name: "files", Kind: scenario.KindStrings, Doc: "names of specifications; empty: all"},
				{Name: "may_differ", Kind: scenario.KindStrings, Doc: "specifications whose output may differ"},
				{Name: "limit", Kind: scenario.KindDuration, Default: "5m", Doc: "for one specification"},
				{Name: "max_wait", Kind: scenario.KindDuration, Default: "1m", Doc: "for one step, before it is canceled"},
			},
			Metrics: bench.MetricDocs(
				"files_count", "specifications run", "same_count", "specifications with the expected output",
				"unexpected_count", "specifications with unexpected output", "unfinished_count", "specifications that did not "+
					"finish",
				"reference_same_count", "specifications with the expected output at PostgreSQL itself",
				"here_ms", "time of all specifications, here", "reference_ms", "time of all specifications, at PostgreSQL itself",
			),
		},
		Run: runIsolation,
	}
}

// isolated is the isolation tests at one or two servers.
type isolated struct {
	r       *bench.Run
	args    scenario.Args
	specs   *pgsuite.Specs
	outputs string
}

func runIsolation(ctx context.Context, r *bench.Run, args scenario.Args) error {
	t := &isolated{r: r, args: args, outputs: filepath.Join(r.Runtime.CacheDir(), "isolation")}
	err := t.open()
	if err == nil && args.String("source") != "" {
		err = t.reference(ctx)
	}
	if errors.Is(err, pgsuite.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	// With the settings that PostgreSQL has: without autovacuum CREATE INDEX counts no rows, and some plans are others.
	return r.WithService(ctx, bench.InProcess, func(s *bench.Served) error { return t.here(ctx, s) })
}

// open finds the specifications.
func (t *isolated) open() (err error) {
	version := pglite.PostgresVersion
	if source := t.args.String("source"); source != "" {
		t.specs, version, err = pgsuite.OpenSpecs(source)
	} else {
		t.specs, err = pgsuite.OwnSpecs()
	}
	if err != nil {
		return err
	}
	if version != pglite.PostgresVersion {
		return fmt.Errorf("the source is PostgreSQL %s, this is %s: their outputs cannot be compared", version, pglite.PostgresVersion)
	}
	if only := t.args.Strings("files"); len(only) > 0 {
		for _, name := range only {
			if !slices.Contains(t.specs.Names, name) {
				return fmt.Errorf("there is no specification %s; there are %s", name, strings.Join(t.specs.Names, ", "))
			}
		}
		t.specs.Names = only
	}
	t.specs.MaxWait = t.args.Duration("max_wait")
	if err := os.RemoveAll(t.outputs); err != nil {
		return fmt.Errorf("clear the outputs: %w", err)
	}
	return nil
}

// reference runs them at PostgreSQL itself: what differs there is not pgserve's fault.
func (t *isolated) reference(ctx context.Context) (err error) {
	native, err := pgsuite.Build(ctx, t.args.String("source"), t.r.Runtime.CacheDir(), t.r.Progress)
	if err != nil {
		return err
	}
	reference, err := native.Start(ctx, pgsuite.Conditions{Settings: []string{"autovacuum = on"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reference.Stop()) }()
	got, differences, err := t.at(ctx, reference.Server(), "reference")
	if err != nil {
		return err
	}
	t.r.Metrics.Value("reference_same_count", float64(len(got)-len(differences)))
	for _, d := range differences {
		t.r.Notes = append(t.r.Notes, fmt.Sprintf("at PostgreSQL itself %s differs from what its source expects: %.200s", d.Name, d.First))
	}
	return nil
}

func (t *isolated) here(ctx context.Context, s *bench.Served) error {
	server := pgsuite.Server{Host: "127.0.0.1", Port: s.Now().Port, Database: "postgres"}
	var got []pgsuite.Outcome
	var differences []pgsuite.Difference
	wrong, err := steady(ctx, server, func() (err error) {
		got, differences, err = t.at(ctx, server, "here")
		return err
	})
	if err != nil {
		return err
	}
	t.report(got, differences)
	if wrong != "" {
		t.r.Check(checkSuite, wrong)
	}
	return nil
}

// at runs all of them at one server.
func (t *isolated) at(ctx context.Context, server pgsuite.Server, name string) ([]pgsuite.Outcome, []pgsuite.Difference, error) {
	server, err := t.specs.Prepare(ctx, server)
	if err != nil {
		return nil, nil, err
	}
	done, total := int64(0), int64(len(t.specs.Names))
	outputs := filepath.Join(t.outputs, name)
	clk := clock.System()
	began := clk.Monotonic()
	all, err := t.specs.Run(ctx, server, outputs, t.args.Duration("limit"), func(o pgsuite.Outcome, ended bool) {
		if ended {
			done++
		}
		t.r.Progress("isolation tests, "+name+": "+o.Name, done, total)
	})
	if err != nil {
		return nil, nil, err
	}
	t.r.Metrics.Duration(name+"_ms", clk.Monotonic()-began)
	differences, err := t.specs.Compare(outputs, all)
	return all, differences, err
}

// report gives the verdict on each of them.
func (t *isolated) report(got []pgsuite.Outcome, differences []pgsuite.Difference) {
	may := t.args.Strings("may_differ")
	differs := map[string]bool{}
	unexpected := 0
	for _, d := range differences {
		differs[d.Name] = true
		how := "may differ, and does"
		if !slices.Contains(may, d.Name) {
			unexpected++
			how = "differs"
		}
		t.r.Notes = append(t.r.Notes, fmt.Sprintf("%s %s in %d lines, the first: %.200s; the last: %.300s", d.Name, how, d.Lines, d.First, d.Last))
	}
	var same []string
	for _, o := range got {
		if !differs[o.Name] {
			same = append(same, o.Name)
		}
	}
	t.r.Notes = append(t.r.Notes, "as expected: "+strings.Join(same, ", "))
	t.r.Metrics.Value("files_count", float64(len(got)))
	t.r.Metrics.Value("same_count", float64(len(same)))
	t.r.Metrics.Value("unexpected_count", float64(unexpected))
	t.r.Metrics.Value("unfinished_count", float64(len(unfinished(got))))
	if len(same) == 0 {
		t.r.Check(checkSuite, "no specification printed what is expected: "+differences[0].First)
		return
	}
	t.r.Check(checkSuite, "")
}
