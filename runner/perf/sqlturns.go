package perf

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"blobpglite/runner/bench"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

// turnsVerb is a verb that runs the cases of sqlbench against two pgserves in turns, each over a socket, on a store in memory.
func turnsVerb(name, doc string, names, docs [2]string, ratio string, run func(context.Context, *bench.Run, scenario.Args) error, more ...scenario.Arg) bench.Verb {
	v := scenario.Verb{
		Name: name,
		Doc:  "runs the cases of sqlbench over sockets, on a store in memory with everything in the cache, " + doc + ", both running, in turns, and records the times and their ratio",
		Args: append([]scenario.Arg{
			{Name: "repeat", Kind: scenario.KindInt, Default: "3", Doc: "how often every case runs on each side"},
			{Name: "rows", Kind: scenario.KindInt, Default: "1000000", Doc: "in the table that the bulk cases use"},
		}, more...),
	}
	for _, c := range sqlCases(1) {
		v.Metrics = append(v.Metrics, bench.MetricDocs(
			c.name+"_"+names[0]+"_us", caseTitle(c.name)+", time "+docs[0], c.name+"_"+names[1]+"_us", caseTitle(c.name)+", time "+docs[1],
			c.name+"_ratio", caseTitle(c.name)+", time "+ratio+", round by round")...)
	}
	return bench.Verb{Verb: v, Run: run}
}

// sidesOlder and sidesChecked are what the two verbs compare.
var (
	sidesOlder   = [2]string{"here", "older"}
	sidesChecked = [2]string{"checked", "unchecked"}
)

func sqlolderVerb() bench.Verb {
	return turnsVerb("sqlolder", "against this pgserve and an older commit's", sidesOlder, [2]string{"here", "at the older commit"}, "here over the older commit",
		func(ctx context.Context, r *bench.Run, args scenario.Args) error {
			program, err := r.PgserveOf(ctx, args.String("older"))
			if errors.Is(err, bench.ErrMissing) {
				r.Vacuous("%v", err)
				return nil
			}
			if err != nil {
				return err
			}
			return r.WithService(ctx, bench.InProcess, func(s *bench.Served) error {
				other, err := service.Start(ctx, program, service.Options{Args: append([]string{"-store", "mem", "-wake", "-log", "warn"}, quietFlags...)})
				if err != nil {
					return err
				}
				defer other.Kill()
				return sqlTurns(ctx, r, args, sidesOlder, s.Now().URL(), other.URL())
			}, quietFlags...)
		}, scenario.Arg{Name: "older", Kind: scenario.KindString, Doc: "a commit of this repository"})
}

func sqlcheckedVerb() bench.Verb {
	return turnsVerb("sqlchecked", "against pgserve with and without bounds checks in PostgreSQL's code", sidesChecked, [2]string{"with bounds checks", "without bounds checks"}, "with bounds checks over without",
		func(ctx context.Context, r *bench.Run, args scenario.Args) error {
			return r.WithService(ctx, bench.InProcess, func(s *bench.Served) error {
				return r.WithServiceIn(ctx, []string{"BLOBPGLITE_CHECKED=1"}, bench.InProcess, func(checked *bench.Served) error {
					return sqlTurns(ctx, r, args, sidesChecked, checked.Now().URL(), s.Now().URL())
				}, quietFlags...)
			}, quietFlags...)
		})
}

// quietFlags keep autovacuum from one side's turn and not the other's.
var quietFlags = []string{"-set", "autovacuum=off"}

// sqlTurns measures two servers, each by one session.
func sqlTurns(ctx context.Context, r *bench.Run, args scenario.Args, names [2]string, mine, other string) error {
	var sides [2]*nativeBackend
	for i, at := range []string{mine, other} {
		where, err := url.Parse(at)
		if err != nil {
			return err
		}
		port, err := strconv.Atoi(where.Port())
		if err != nil {
			return err
		}
		if sides[i], err = loginAt(ctx, pgsuite.Server{Host: where.Hostname(), Port: port, Database: "postgres"}); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		defer sides[i].conn.Close()
	}
	rounds, cases := args.Int("repeat"), sqlCases(args.Int("rows"))
	for round := range rounds {
		b := comparison{r: r, ctx: ctx, mine: sides[0], other: sides[1], first: round%2 == 0, names: names}
		for i, c := range cases {
			r.Progress(fmt.Sprintf("%s against %s: round %d of %d, %s", names[0], names[1], round+1, rounds, c.name), int64(i), int64(len(cases)))
			if err := b.measure(c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		for _, s := range sides {
			if err := runAll(ctx, s, []string{"DROP TABLE b"}); err != nil {
				return err
			}
		}
	}
	return nil
}
