package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
	"blobpglite/runner/bench"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
)

func regressVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "regress",
			Doc: "runs PostgreSQL's regression suite in a fresh database, with psql 18, against pgserve and against PostgreSQL built from " +
				"the same source, and compares psql's output. pgserve's PostgreSQL must not restart during the run. Vacuous without the " +
				"source",
			Args: []scenario.Arg{
				{Name: "source", Doc: "folder with PostgreSQL's unpacked source; empty: vacuous"},
				{Name: "limit", Kind: scenario.KindDuration, Default: "5m", Doc: "for one file"},
				{Name: "checked", Kind: scenario.KindBool, Doc: "pgserve's code checks bounds, as where memory cannot be guarded " +
					"(BLOBPGLITE_CHECKED=1); otherwise it must not"},
				{Name: "at_once", Kind: scenario.KindInt, Default: "1", Doc: "how many files of a group in parallel_schedule run concurrently"},
			},
			Metrics: bench.MetricDocs(
				"files_count", "test files run", "same_count", "test files with the same output as at PostgreSQL itself",
				"unfinished_count", "test files that did not finish: the server was gone, or psql was still running",
				"here_ms", "time of all test files, here", "reference_ms", "time of all test files, at PostgreSQL itself",
			),
		},
		Run: runRegress,
	}
}

func runRegress(ctx context.Context, r *bench.Run, args scenario.Args) error {
	if args.String("source") == "" {
		r.Vacuous("PostgreSQL's source is needed: unpack it, and pass its folder by -set source=FOLDER")
		return nil
	}
	native, err := pgsuite.Build(ctx, args.String("source"), r.Runtime.CacheDir(), r.Progress)
	if errors.Is(err, pgsuite.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	if native.Version != pglite.PostgresVersion {
		return fmt.Errorf("the source is PostgreSQL %s, this is %s: their outputs cannot be compared", native.Version, pglite.PostgresVersion)
	}
	var env []string
	if args.Bool("checked") {
		env = []string{"BLOBPGLITE_CHECKED=1"}
	}
	return r.WithServiceIn(ctx, env, bench.InProcess, func(s *bench.Served) error {
		if err := codeIs(ctx, s, args.Bool("checked")); err != nil {
			return err
		}
		options := pgsuite.RunOptions{Limit: args.Duration("limit"), AtOnce: args.Int("at_once")}
		t := &regression{r: r, native: native, options: options}
		return t.compare(ctx, s)
	}, "-set", "autovacuum=off") // plans depend on when a table was analyzed: only the tests may do that
}

// codeIs fails unless the server's code checks bounds, or does not, as is wanted.
func codeIs(ctx context.Context, s *bench.Served, checked bool) error {
	conn, err := pgx.Connect(ctx, s.Now().URL()) // the figure is PostgreSQL's: it must have been opened
	if err != nil {
		return err
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", s.Now().HTTPPort), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	want := map[bool]string{true: "blobpglite_code_checked 1\n", false: "blobpglite_code_checked 0\n"}[checked]
	if !strings.Contains(string(body), want) {
		return fmt.Errorf("the server does not say %q: its code is not what is to be tested here", strings.TrimSpace(want))
	}
	return nil
}

// regression is the suite at two servers.
type regression struct {
	r       *bench.Run
	native  *pgsuite.Native
	suite   *pgsuite.Suite
	options pgsuite.RunOptions
}

func (t *regression) compare(ctx context.Context, s *bench.Served) error {
	// The tests' files have the same names everywhere: a server in WebAssembly has its own /tmp and nothing else to write to.
	folder := "/tmp"
	if _, err := os.Stat(folder); err != nil {
		t.r.Vacuous("the tests' files belong in %s: %v", folder, err)
		return nil
	}
	suite, err := t.native.Open(folder)
	if err != nil {
		return err
	}
	defer suite.Clean()
	t.suite = suite
	outputs := filepath.Join(t.r.Runtime.CacheDir(), "suite", fmt.Sprintf("%d-at-once", max(1, t.options.AtOnce)))
	if err := os.RemoveAll(outputs); err != nil {
		return fmt.Errorf("clear the outputs: %w", err)
	}
	here := pgsuite.Server{Host: "127.0.0.1", Port: s.Now().Port, Database: "postgres"}
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
	var got []pgsuite.Outcome
	same, err := steady(ctx, here, func() (err error) {
		got, err = t.at(ctx, here, "here", filepath.Join(outputs, "here"))
		return err
	})
	if err != nil {
		return err
	}
	differences, err := pgsuite.Compare(filepath.Join(outputs, "reference"), filepath.Join(outputs, "here"), got)
	if err != nil {
		return err
	}
	t.report(got, differences)
	if same != "" {
		t.r.Check(checkSuite, same)
	}
	return nil
}

// steady runs f and says what is wrong if the server is not the same afterwards: one of its processes has failed.
func steady(ctx context.Context, at pgsuite.Server, f func() error) (wrong string, err error) {
	before, err := pgsuite.Started(ctx, at)
	if err != nil {
		return "", err
	}
	if err := f(); err != nil {
		return "", err
	}
	after, err := pgsuite.Started(ctx, at)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return fmt.Sprintf("after the suite the server does not answer: %v", err), nil
	case !after.Equal(before):
		return fmt.Sprintf("the server was started at %s, and again at %s: one of its processes has failed", before, after), nil
	}
	return "", nil
}

// at runs the suite at one server.
func (t *regression) at(ctx context.Context, server pgsuite.Server, name, outputs string) ([]pgsuite.Outcome, error) {
	if err := t.suite.Prepare(ctx, server); err != nil {
		return nil, err
	}
	done, total := int64(0), int64(len(slices.Concat(t.suite.Groups...)))
	clk := clock.System()
	began := clk.Monotonic()
	all, err := t.suite.Run(ctx, server, outputs, t.options, func(o pgsuite.Outcome, ended bool) {
		if ended {
			done++
		}
		t.r.Progress("regression suite, "+name+": "+o.Name, done, total)
	})
	t.r.Metrics.Duration(name+"_ms", clk.Monotonic()-began)
	return all, err
}

func (t *regression) report(got []pgsuite.Outcome, differences []pgsuite.Difference) {
	t.r.Metrics.Value("files_count", float64(len(got)))
	t.r.Metrics.Value("same_count", float64(len(got)-len(differences)))
	t.r.Metrics.Value("unfinished_count", float64(len(unfinished(got))))
	if len(differences) == len(got) {
		t.r.Check(checkSuite, "no test printed the same as at the reference: "+differences[0].First)
		return
	}
	t.r.Check(checkSuite, "")
	for _, d := range differences {
		first := strings.ReplaceAll(d.First, t.suite.Prefix(), "FOLDER/regress") // another one in each run
		t.r.Notes = append(t.r.Notes, fmt.Sprintf("%s differs in %d lines, the first: %.200s", d.Name, d.Lines, first))
	}
}

// unfinished returns the tests that did not finish.
func unfinished(all []pgsuite.Outcome) []string {
	var names []string
	for _, o := range all {
		if o.Wrong != "" {
			names = append(names, o.Name)
		}
	}
	return names
}
