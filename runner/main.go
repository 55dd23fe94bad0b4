// Command runner runs experiments: it reads a scenario, runs its steps against the engine, judges, prints a verdict for each probe, and
// appends a line for each to results/.
//
//	go run ./runner -scenario e2                     the built-in document, numbers as written
//	go run ./runner -scenario ./mine.yaml -profile ci -set rounds=1
//	go run ./runner -scenario e4 -target cloudrun -dry -project p ...   what it would do on Cloud Run; without -dry it does it
//	go run ./runner -list                            what there is
//	go run ./runner -verify gs://name/prefix         is the database there sound, and up to which record?
//
// Exit code 0: every probe passed; the database is sound. 1: a probe failed, timed out, broke, or tried nothing; the database
// is damaged, or could not be read. 2: the command line or the document is wrong; there is no database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"blobpglite/core/store/gcs"
	"blobpglite/runner/node"
	"blobpglite/runner/registry"
	"blobpglite/runner/scenario"
	"blobpglite/scenarios"
)

// Exit codes.
const (
	exitPass  = 0
	exitFail  = 1
	exitUsage = 2
)

func main() {
	if node.IsChild() {
		os.Exit(node.Child())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// flags holds the command line's flags.
type flags struct {
	scenario, profile, store, bucket, results, check, verify string
	set, probes                                              stringList
	seed                                                     uint64
	list, verbs, setup                                       bool
	cloud                                                    cloudFlags
}

type stringList []string

func (s *stringList) String() string     { return strings.Join(*s, ",") }
func (s *stringList) Set(v string) error { *s = append(*s, v); return nil }

// usageError is an error in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func parse(args []string, out io.Writer) (flags, error) {
	var f flags
	fs := flag.NewFlagSet("runner", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&f.scenario, "scenario", "", "the experiment: the `id` of a built-in document (see -list), or a YAML file")
	fs.StringVar(&f.profile, "profile", "default", "which of the document's parameters to use: ci (seconds), default (minutes), full (what the plan asks for)")
	fs.Var(&f.set, "set", "`name=value` for a parameter that the document declares; may be repeated")
	fs.Var(&f.probes, "probe", "run only the probe of this `id`; may be repeated")
	fs.Uint64Var(&f.seed, "seed", 1, "seed for everything random")
	fs.StringVar(&f.store, "store", "", "the object store: mem, fake-gcs (embedded) or gcs; empty: as the document says")
	fs.StringVar(&f.bucket, "bucket", "", "gs://name/prefix for -store gcs and -target cloudrun; every run uses a new prefix below it, and removes it")
	fs.StringVar(&f.results, "results", "results", "folder to append result lines to")
	fs.StringVar(&f.check, "check", "", "only check a scenario `file`, and print what it would run")
	fs.StringVar(&f.verify, "verify", "", "only check the database at a `URL`, gs://bucket/prefix or file:///folder, from end to end, without changing anything")
	f.cloud.register(fs)
	fs.BoolVar(&f.list, "list", false, "list the built-in documents")
	fs.BoolVar(&f.verbs, "verbs", false, "list the verbs, parameters and metrics that a document may use")
	fs.BoolVar(&f.setup, "setup", false, "only fetch the PGlite files, compile them and create the template database")
	fs.Usage = func() {
		fmt.Fprint(out, "Usage: go run ./runner -scenario ID|FILE [flags]\n\nRuns an experiment and appends a line for each probe to results/.\n\n")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return f, usageError{err}
	}
	if fs.NArg() > 0 {
		return f, usageError{fmt.Errorf("unexpected argument %q; flags come before their values, see -help", fs.Arg(0))}
	}
	return f, f.valid()
}

func (f *flags) valid() error {
	modes := 0
	for _, on := range []bool{f.scenario != "", f.list, f.verbs, f.check != "", f.setup, f.verify != ""} {
		if on {
			modes++
		}
	}
	switch {
	case modes == 0:
		return usageError{errors.New("nothing to do: give -scenario ID (see -list), -list, -verbs, -check FILE, -setup, or -verify gs://bucket/prefix or file:///folder")}
	case modes > 1:
		return usageError{errors.New("give only one of -scenario, -list, -verbs, -check, -setup, -verify")}
	case f.store == "gcs" && f.bucket == "":
		return usageError{errors.New("-store gcs needs -bucket gs://name/prefix")}
	case f.bucket != "" && f.store == "":
		f.store = "gcs"
	case f.bucket != "" && f.store != "gcs":
		return usageError{fmt.Errorf("-bucket needs -store gcs, and the store is %s", f.store)}
	}
	if err := f.cloud.valid(f.scenario, f.bucket); err != nil {
		return usageError{err}
	}
	if f.bucket != "" {
		if _, _, err := gcs.ParseURL(f.bucket); err != nil {
			return usageError{fmt.Errorf("-bucket: %w", err)}
		}
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitPass
	}
	if err == nil {
		switch {
		case f.list:
			err = list(stdout)
		case f.verbs:
			_, err = fmt.Fprint(stdout, registry.Language().Describe())
		case f.check != "":
			err = check(f, stdout)
		case f.verify != "":
			var code int
			if code, err = verifyPrefix(ctx, f.verify, stdout); err == nil {
				return code
			}
		case f.setup:
			var code int
			if code, err = setUp(ctx); err == nil {
				return code
			}
		default:
			var code int
			if code, err = runScenario(ctx, f, stdout); err == nil {
				return code
			}
		}
	}
	if err == nil {
		return exitPass
	}
	fmt.Fprintln(stderr, "runner:", err)
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFail
}

// list prints the built-in documents.
func list(out io.Writer) error {
	ids, err := scenarios.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		s, err := scenario.Load(id, registry.Language())
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-12s %s\n", s.ID, s.Title)
		for _, p := range s.Probes {
			fmt.Fprintf(out, "    %-10s %s\n", p.ID, p.Claim)
		}
	}
	return nil
}

// check reads a document and says what it would run.
func check(f flags, out io.Writer) error {
	s, plan, err := planOf(f, f.check)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", s.ID, s.Title)
	for _, c := range plan.Cells {
		fmt.Fprintf(out, "    %s %s: %d rounds\n", c.Probe, c.Label, c.Rounds)
	}
	return nil
}

// planOf reads a document; errors in it are usage errors.
func planOf(f flags, name string) (*scenario.Scenario, *scenario.Plan, error) {
	s, err := scenario.Load(name, registry.Language())
	if err != nil {
		return nil, nil, usageError{err}
	}
	plan, err := s.Plan(scenario.Options{Profile: f.profile, Set: f.set, Store: f.store, Target: f.cloud.target, Probes: f.probes})
	if err != nil {
		return nil, nil, usageError{err}
	}
	return s, plan, nil
}
