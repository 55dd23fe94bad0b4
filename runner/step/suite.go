package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"blobpglite/core/pglite"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
)

const checkSuite = "suite"

func regressVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "regress",
			Doc: "runs PostgreSQL's regression suite, one file after the other in a fresh database, by psql 18 against pgserve and against " +
				"PostgreSQL built from the same source, and compares what psql printed. Vacuous without the source",
			Args: []scenario.Arg{
				{Name: "source", Doc: "folder of PostgreSQL's source, unpacked; empty: vacuous"},
				{Name: "limit", Kind: scenario.KindDuration, Default: "5m", Doc: "of one file"},
			},
			Metrics: metricDocs(
				"files_count", "tests that were run", "same_count", "of them, that printed what they print at the reference",
				"unfinished_count", "of them, that did not come to their end: the server was gone, or psql still at it",
				"here_ms", "all of them, here", "reference_ms", "all of them, at the reference",
			),
		},
		run: runRegress,
	}
}

func runRegress(ctx context.Context, r *Run, args scenario.Args) error {
	if args.String("source") == "" {
		r.skip("PostgreSQL's source is needed: unpack it, and say where by -set source=FOLDER")
		return nil
	}
	native, err := pgsuite.Build(ctx, args.String("source"), r.Runtime.CacheDir(), r.Progress)
	if errors.Is(err, pgsuite.ErrMissing) {
		r.skip("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	if native.Version != pglite.PostgresVersion {
		return fmt.Errorf("the source is PostgreSQL %s, this is %s: their outputs cannot be compared", native.Version, pglite.PostgresVersion)
	}
	return r.withService(ctx, inProcess, func(s *served) error {
		t := &regression{r: r, native: native, limit: args.Duration("limit")}
		return t.compare(ctx, s)
	}, "-set", "autovacuum=off") // plans depend on when a table was analyzed: nobody but the tests is to do that
}

// regression is the suite at two servers.
type regression struct {
	r      *Run
	native *pgsuite.Native
	suite  *pgsuite.Suite
	limit  time.Duration
}

func (t *regression) compare(ctx context.Context, s *served) error {
	// The tests' files have the same names for all: a server in WebAssembly has its own /tmp and nothing else to write to.
	folder := "/tmp"
	if _, err := os.Stat(folder); err != nil {
		t.r.skip("the tests' files belong into %s: %v", folder, err)
		return nil
	}
	suite, err := t.native.Open(folder)
	if err != nil {
		return err
	}
	defer suite.Clean()
	t.suite = suite
	outputs := filepath.Join(t.r.Runtime.CacheDir(), "suite")
	if err := os.RemoveAll(outputs); err != nil {
		return fmt.Errorf("clear the outputs: %w", err)
	}
	here := pgsuite.Server{Host: "127.0.0.1", Port: s.now().Port, Database: "postgres"}
	conditions, err := pgsuite.ConditionsOf(ctx, here)
	if err != nil {
		return err
	}
	reference, err := t.native.Start(ctx, conditions)
	if err != nil {
		return err
	}
	want, err := t.at(ctx, reference.Server(), "reference", filepath.Join(outputs, "reference"))
	if err := errors.Join(err, reference.Stop()); err != nil {
		return err
	}
	if i := unfinished(want); len(i) > 0 {
		return fmt.Errorf("at the reference itself did not come to their end: %s", strings.Join(i, ", "))
	}
	got, err := t.at(ctx, here, "here", filepath.Join(outputs, "here"))
	if err != nil {
		return err
	}
	differences, err := pgsuite.Compare(filepath.Join(outputs, "reference"), filepath.Join(outputs, "here"), got)
	if err != nil {
		return err
	}
	t.report(got, differences)
	return nil
}

// at runs the suite at one server.
func (t *regression) at(ctx context.Context, server pgsuite.Server, name, outputs string) ([]pgsuite.Outcome, error) {
	if err := t.suite.Prepare(ctx, server); err != nil {
		return nil, err
	}
	done, total := int64(0), int64(len(t.suite.Names))
	all, err := t.suite.Run(ctx, server, outputs, t.limit, func(o pgsuite.Outcome, ended bool) {
		if ended {
			done++
		}
		t.r.Progress("regression suite, "+name+": "+o.Name, done, total)
	})
	took := time.Duration(0)
	for _, o := range all {
		took += o.Took
	}
	t.r.Metrics.Duration(name+"_ms", took)
	return all, err
}

func (t *regression) report(got []pgsuite.Outcome, differences []pgsuite.Difference) {
	t.r.Metrics.Value("files_count", float64(len(got)))
	t.r.Metrics.Value("same_count", float64(len(got)-len(differences)))
	t.r.Metrics.Value("unfinished_count", float64(len(unfinished(got))))
	if len(differences) == len(got) {
		t.r.check(checkSuite, "every test printed something else than at the reference: "+differences[0].First)
		return
	}
	t.r.check(checkSuite, "")
	for _, d := range differences {
		t.r.Notes = append(t.r.Notes, fmt.Sprintf("%s differs in %d lines, the first: %.200s", d.Name, d.Lines, d.First))
	}
}

// unfinished are the tests that did not come to their end.
func unfinished(all []pgsuite.Outcome) []string {
	var names []string
	for _, o := range all {
		if o.Wrong != "" {
			names = append(names, o.Name)
		}
	}
	return names
}
