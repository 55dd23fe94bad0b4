package step

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"blobpglite/core/clock"
	"blobpglite/runner/pgsuite/isolation"
	"blobpglite/runner/scenario"
)

func isolationVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "isolation",
			Doc: "runs PostgreSQL's isolation tests against pgserve, by a tester of our own, and compares what it prints with what PostgreSQL expects. " +
				"Vacuous without the source",
			Args: []scenario.Arg{
				{Name: "source", Doc: "folder of PostgreSQL's source, unpacked; empty: vacuous"},
				{Name: "only", Doc: "names of tests, with blanks between them; empty: all of the schedule"},
				{Name: "limit", Kind: scenario.KindDuration, Default: "3m", Doc: "of one test"},
			},
			Metrics: metricDocs(
				"files_count", "tests that were run", "same_count", "of them, that printed what PostgreSQL expects", "here_ms", "all of them",
			),
		},
		run: runIsolation,
	}
}

func runIsolation(ctx context.Context, r *Run, args scenario.Args) error {
	if args.String("source") == "" {
		r.skip("PostgreSQL's source is needed: unpack it, and say where by -set source=FOLDER")
		return nil
	}
	suite, err := isolation.Open(args.String("source"))
	if err != nil {
		return err
	}
	if only := strings.Fields(args.String("only")); len(only) > 0 {
		for _, name := range only {
			if !slices.Contains(suite.Names, name) {
				return fmt.Errorf("there is no isolation test %q", name)
			}
		}
		suite.Names = only
	}
	return r.withService(ctx, inProcess, func(s *served) error { return r.isolate(ctx, suite, s.now().Port, args.Duration("limit")) })
}

// isolate runs the tests at a service's port.
func (r *Run) isolate(ctx context.Context, suite *isolation.Suite, port int, limit time.Duration) error {
	clk := clock.System()
	server := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := isolation.Prepare(ctx, "postgres://postgres@"+server+"/postgres?sslmode=disable"); err != nil {
		return err
	}
	began, same := clk.Monotonic(), 0
	var wrong []string
	for i, name := range suite.Names {
		r.Progress("isolation tests: "+name, int64(i), int64(len(suite.Names)))
		inner, cancel := context.WithTimeout(ctx, limit)
		o, err := suite.Test(inner, server, name, isolation.Options{Clock: clk})
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			wrong = append(wrong, fmt.Sprintf("%s: %v", name, err))
		case o.Wrong != "":
			wrong = append(wrong, fmt.Sprintf("%s differs, %.200s", name, o.Wrong))
		default:
			same++
		}
	}
	r.Metrics.Duration("here_ms", clk.Monotonic()-began)
	r.Metrics.Value("files_count", float64(len(suite.Names)))
	r.Metrics.Value("same_count", float64(same))
	r.Notes = append(r.Notes, wrong...)
	if same == 0 {
		r.check(checkSuite, "no isolation test printed what PostgreSQL expects: "+wrong[0])
		return nil
	}
	r.check(checkSuite, "")
	return nil
}
