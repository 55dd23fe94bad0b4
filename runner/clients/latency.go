package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

func doorLatencyVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "doorlatency",
			Doc: "times SELECT 1 from pgx, with its cache of prepared statements, over the loopback to pgserve in a separate process, and " +
				"in turns to an older commit's pgserve",
			Args: []scenario.Arg{
				{Name: "calls", Kind: scenario.KindInt, Default: "5000", Doc: "timed, after a tenth as many untimed ones"},
				{Name: "older", Doc: "a commit of this repository whose pgserve is also timed; empty: none. Vacuous if the clone lacks it"},
			},
			Metrics: bench.MetricDocs(
				"select1_us", "SELECT 1, from the call to the row", "select1_older_us", "SELECT 1 at the older commit, from the call to the row", "select1_ratio", "SELECT 1 here over the older "+
					"commit, medians of each turn",
			),
		},
		Run: runDoorLatency,
	}
}

func runDoorLatency(ctx context.Context, r *bench.Run, args scenario.Args) error {
	calls, commit := args.Int("calls"), args.String("older")
	return r.WithService(ctx, bench.InProcess, func(s *bench.Served) error {
		if commit == "" {
			_, err := timeSelects(ctx, r, s.Now().URL(), calls, "select1_us")
			return err
		}
		program, err := r.PgserveOf(ctx, commit)
		if errors.Is(err, bench.ErrMissing) {
			r.Vacuous("%v", err)
			return nil
		}
		if err != nil {
			return err
		}
		other, err := service.Start(ctx, program, service.Options{Args: []string{"-store", "mem", "-wake", "-log", "warn"}})
		if err != nil {
			return err
		}
		defer other.Kill()
		const turns = 5
		for turn := range turns {
			r.Progress("SELECT 1, in turns", int64(turn), turns)
			mine, err := timeSelects(ctx, r, s.Now().URL(), calls/turns, "select1_us")
			if err != nil {
				return err
			}
			theirs, err := timeSelects(ctx, r, other.URL(), calls/turns, "select1_older_us")
			if err != nil {
				return fmt.Errorf("at %s: %w", commit, err)
			}
			r.Metrics.Value("select1_ratio", float64(mine)/float64(theirs))
		}
		return nil
	})
}

// timeSelects times calls of SELECT 1, and returns the median.
func timeSelects(ctx context.Context, r *bench.Run, url string, calls int, metric string) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	clk := clock.System()
	var took []time.Duration
	for i := range calls + calls/10 {
		at := clk.Monotonic()
		var one int
		if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil || one != 1 {
			return 0, errors.Join(fmt.Errorf("SELECT 1 gave %d", one), err)
		}
		if i >= calls/10 {
			took = append(took, clk.Monotonic()-at)
			r.Metrics.Duration(metric, took[len(took)-1])
		}
	}
	return median(took), nil
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}
