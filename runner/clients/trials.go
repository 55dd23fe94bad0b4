package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
	"blobpglite/runner/bench"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
)

// superuserPassword is for trials that need one.
const superuserPassword = "a-password"

func clientVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "client",
			Doc: "runs a real client against pgserve, in separate processes. For some, the server is killed (SIGKILL) while they insert, " +
				"and restarted; then they look for every acknowledged row. With PostgreSQL's source the same is first done against " +
				"PostgreSQL itself: what fails there is the trial's fault. Vacuous where the client is missing",
			Args: []scenario.Arg{
				{Name: "client", Required: true, OneOf: Names(), Doc: "which. " + Doc()},
				{Name: "latency", Default: bench.NoLatency, OneOf: []string{bench.NoLatency, bench.ModelLatency}, Doc: "of the bucket: none, or that " +
					"of the modeled service"},
				{Name: "source", Doc: "folder with PostgreSQL's unpacked source, from which the reference and PostgreSQL's programs are " +
					"built; empty: no reference, and programs from the PATH"},
				{Name: "clones", Doc: "folder with clones of node-postgres and postgres.js, whose packages lack their tests; empty: those " +
					"are vacuous"},
				{Name: "missed", Kind: scenario.KindInt, Default: "0", Doc: "how many tests of a client's own suite may fail here but " +
					"pass at PostgreSQL itself"},
			},
			Metrics: bench.MetricDocs(
				"acked_count", "rows acknowledged before the server was killed", "restart_ms", "time from the kill until the server listens again",
				"passed_count", "tests of the client's own suite that passed", "tests_count", "tests of the client's own suite",
				"reference_count", "tests of the client's own suite that passed at PostgreSQL itself", "missed_count", "tests of the client's own suite that passed only at PostgreSQL itself",
			),
		},
		Run: runClient,
	}
}

func runClient(ctx context.Context, r *bench.Run, args scenario.Args) error {
	trial, _ := Find(args.String("client"))
	c := &clientRun{r: r, args: args, trial: trial}
	reference, err := c.reference(ctx)
	if err == nil {
		err = c.here(ctx, reference)
	}
	if errors.Is(err, ErrMissing) || errors.Is(err, pgsuite.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	return err
}

// clientRun is a client at one or two servers.
type clientRun struct {
	r      *bench.Run
	args   scenario.Args
	trial  Trial
	native *pgsuite.Native // nil: no source was given
}

// env is what the trial works with at a server.
func (c *clientRun) env(port int, folder string, crash func(context.Context) error) *Env {
	e := &Env{
		URL: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port), Port: port, Folder: folder,
		Cache: c.r.Runtime.CacheDir(), Clones: c.args.String("clones"), Crash: crash, Progress: c.r.Progress,
	}
	if c.trial.Password {
		e.Password = superuserPassword
	}
	if c.native != nil {
		e.Programs = filepath.Dir(c.native.Program("psql"))
	}
	return e
}

// reference tries the client at PostgreSQL itself, if there is a source. What fails there is not pgserve's fault.
func (c *clientRun) reference(ctx context.Context) (_ Outcome, err error) {
	var none Outcome
	if c.args.String("source") == "" {
		return none, nil
	}
	if c.native, err = pgsuite.Build(ctx, c.args.String("source"), c.r.Runtime.CacheDir(), c.r.Progress); err != nil {
		return none, err
	}
	if c.native.Version != pglite.PostgresVersion {
		return none, fmt.Errorf("the source is PostgreSQL %s, this is %s: they cannot be compared", c.native.Version, pglite.PostgresVersion)
	}
	conditions := pgsuite.Conditions{}
	if c.trial.Password {
		conditions.Password = superuserPassword
	}
	ref, err := c.native.Start(ctx, conditions)
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, ref.Stop()) }()
	folder, err := os.MkdirTemp("", "blobpglite-clients-")
	if err != nil {
		return none, fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(folder)
	got, err := c.trial.Run(ctx, c.env(ref.Server().Port, folder, ref.Crash))
	if err != nil {
		return none, fmt.Errorf("at PostgreSQL itself, so this is the trial's fault: %s: %w", c.trial.Name, err)
	}
	return got, nil
}

// here tries the client at pgserve.
func (c *clientRun) here(ctx context.Context, reference Outcome) error {
	r, name := c.r, c.trial.Name
	flags, remove, err := c.flags()
	if err != nil {
		return err
	}
	defer remove()
	return r.WithService(ctx, c.args.String("latency"), func(s *bench.Served) error {
		clk := clock.System()
		got, err := c.trial.Run(ctx, c.env(s.Now().Port, s.Folder, func(ctx context.Context) error {
			at := clk.Monotonic()
			err := s.Restart(ctx)
			r.Metrics.Duration("restart_ms", clk.Monotonic()-at)
			return err
		}))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrMissing):
			return err
		case err != nil:
			r.Check(bench.CheckClient, fmt.Sprintf("%s: %v", name, err))
			return nil
		}
		r.Check(bench.CheckClient, "")
		if c.trial.Suite {
			c.judgeSuite(got, reference)
		}
		if c.trial.Crash {
			c.judgeCrash(got)
		}
		return nil
	}, flags...)
}

// flags are those of pgserve's that the trial needs.
func (c *clientRun) flags() (flags []string, remove func(), err error) {
	if c.trial.Password {
		flags = append(flags, "-password", superuserPassword)
	}
	if !c.trial.TLS {
		return flags, func() {}, nil
	}
	folder, err := os.MkdirTemp("", "blobpglite-clients-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a folder: %w", err)
	}
	cert, key, err := Certificate(folder)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(folder))
	}
	return append(flags, "-tls-cert", cert, "-tls-key", key), func() { _ = os.RemoveAll(folder) }, nil
}

func (c *clientRun) judgeCrash(got Outcome) {
	r := c.r
	r.Metrics.Value("acked_count", float64(got.Acked))
	switch {
	case got.Acked == 0:
		r.Vacuous("%s had nothing acknowledged when the server was killed", c.trial.Name)
	case got.Lost > 0 || got.Invented > 0:
		r.Check(bench.CheckDurability, fmt.Sprintf("%s: %d of %d acknowledged rows are lost, and %d were found that were never inserted", c.trial.Name, got.Lost, got.Acked, got.Invented))
	default:
		r.Check(bench.CheckDurability, "")
	}
}

// judgeSuite compares which of a client's own tests passed with which passed at PostgreSQL.
func (c *clientRun) judgeSuite(got, reference Outcome) {
	r := c.r
	r.Metrics.Value("passed_count", float64(len(got.Passed)))
	r.Metrics.Value("tests_count", float64(len(got.Passed)+len(got.Failed)))
	for _, name := range slices.Sorted(maps.Keys(got.Failed)) {
		at := ""
		if _, too := reference.Failed[name]; too {
			at = " (at PostgreSQL itself too)"
		}
		r.Notes = append(r.Notes, fmt.Sprintf("%s fails%s: %.300s", name, at, got.Failed[name]))
	}
	if len(reference.Passed) == 0 {
		return
	}
	missed := slices.DeleteFunc(slices.Clone(reference.Passed), func(name string) bool { return slices.Contains(got.Passed, name) })
	r.Metrics.Value("reference_count", float64(len(reference.Passed)))
	r.Metrics.Value("missed_count", float64(len(missed)))
	if len(missed) > c.args.Int("missed") {
		r.Check(bench.CheckClient, fmt.Sprintf("%d tests that pass at PostgreSQL itself fail here: %q", len(missed), missed))
	}
}
