package step

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/runner/clients"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

func doorLatencyVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "doorlatency",
			Doc: "times SELECT 1 by pgx, with its cache of prepared statements, over the loopback to pgserve in a process of its own, and to an " +
				"older commit's pgserve in the same run, in turns",
			Args: []scenario.Arg{
				{Name: "calls", Kind: scenario.KindInt, Default: "5000", Doc: "that are timed, after a tenth as many that are not"},
				{Name: "older", Doc: "a commit of this repository whose pgserve is timed too; empty: none. Vacuous where the clone does not have it"},
			},
			Metrics: metricDocs(
				"select1_us", "from the call to the row", "select1_older_us", "at the older commit", "select1_ratio", "here over the older one, of the medians of a turn",
			),
		},
		run: runDoorLatency,
	}
}

func runDoorLatency(ctx context.Context, r *Run, args scenario.Args) error {
	calls, commit := args.Int("calls"), args.String("older")
	return r.withService(ctx, inProcess, func(s *served) error {
		if commit == "" {
			_, err := r.timeSelects(ctx, s.now().URL(), calls, "select1_us")
			return err
		}
		program, err := r.older(ctx, commit)
		if errors.Is(err, clients.ErrMissing) {
			r.skip("%v", err)
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
			mine, err := r.timeSelects(ctx, s.now().URL(), calls/turns, "select1_us")
			if err != nil {
				return err
			}
			theirs, err := r.timeSelects(ctx, other.URL(), calls/turns, "select1_older_us")
			if err != nil {
				return fmt.Errorf("at %s: %w", commit, err)
			}
			r.Metrics.Value("select1_ratio", float64(mine)/float64(theirs))
		}
		return nil
	})
}

// timeSelects times calls of SELECT 1, and returns the median.
func (r *Run) timeSelects(ctx context.Context, url string, calls int, metric string) (time.Duration, error) {
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

// older builds pgserve of another commit of this repository, once, in the cache. ErrMissing if the clone does not have it.
func (r *Run) older(ctx context.Context, commit string) (string, error) {
	full, err := exec.CommandContext(ctx, "git", "rev-parse", "--verify", "--quiet", commit+"^{commit}").Output()
	if err != nil {
		return "", fmt.Errorf("commit %s, in this clone, is %w", commit, clients.ErrMissing)
	}
	folder := filepath.Join(r.Runtime.CacheDir(), "commit-"+string(full[:12]))
	program := filepath.Join(folder, "pgserve")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	r.Progress("building pgserve of "+commit, 0, 0)
	source, err := os.MkdirTemp("", "blobpglite-commit-")
	if err != nil {
		return "", fmt.Errorf("build pgserve of %s: %w", commit, err)
	}
	defer os.RemoveAll(source)
	archive := filepath.Join(source, "archive.tar")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("build pgserve of %s: %w", commit, err)
	}
	fresh := program + ".new" // whole, or not there
	for _, line := range [][]string{
		{"git", "archive", "--format=tar", "-o", archive, commit}, {"tar", "-x", "-f", archive, "-C", source},
		{"go", "build", "-C", source, "-o", fresh, "./cloud/pgserve"},
	} {
		cmd := exec.CommandContext(ctx, line[0], line[1:]...)
		service.OwnGroup(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build pgserve of %s: %s: %w: %s", commit, line[0], err, endOf(string(out)))
		}
	}
	return program, os.Rename(fresh, program)
}
