package pages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

func wakesVerb() bench.Verb {
	pairs := []string{"setup_ratio", "processor time of a first set-up, here over the older commit"}
	for _, m := range []struct{ name, doc string }{
		{"cpu_ms", "processor time from the start of the process to the first row, user and system"}, {"wall_ms", "time from the start of the process to the first row"},
		{"rss_bytes", "resident memory after the first row"}, {"setup_ms", "processor time of a first set-up"},
	} {
		base, unit, _ := strings.Cut(m.name, "_")
		pairs = append(pairs, m.name, m.doc, base+"_older_"+unit, m.doc+", at the older commit")
		if base != "setup" {
			pairs = append(pairs, base+"_ratio", m.doc+", here over the older commit, turn by turn")
		}
	}
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "wakes",
			Doc: "starts pgserve on one processor, alternating with an older commit's, each with an existing empty database and a cache " +
				"that is set up, up to a client's first row; before that, sets each up from nothing. The bucket answers without delay",
			Args: []scenario.Arg{
				{Name: "older", Required: true, Doc: "a commit of this repository. Vacuous if the clone lacks it"},
				{Name: "turns", Kind: scenario.KindInt, Default: "10", Doc: "starts of each"},
				{Name: "setups", Kind: scenario.KindInt, Default: "1", Doc: "set-ups of each"},
			},
			Metrics: bench.MetricDocs(pairs...),
		},
		Run: runWakes,
	}
}

// waker is a pgserve with a cache and a database of its own.
type waker struct {
	r       *bench.Run
	program string
	cache   string
	args    []string
	suffix  string // of its metrics
}

func runWakes(ctx context.Context, r *bench.Run, args scenario.Args) error {
	program, err := r.PgserveOf(ctx, args.String("older"))
	if errors.Is(err, bench.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	if err := service.OnOneCPU(func() error { return nil }); err != nil {
		r.Vacuous("%v", err)
		return nil
	}
	return withPgserve(ctx, r, gcsfront.Options{Buckets: []string{"wakes"}}, func(b built) error {
		var both [2]*waker
		for i, program := range []string{b.program, program} {
			name := []string{"here", "older"}[i]
			both[i] = &waker{
				r: r, program: program, cache: filepath.Join(b.folder, "cache-"+name), suffix: []string{"_", "_older_"}[i],
				args: []string{"-bucket", "gs://wakes/" + name, "-endpoint", b.base, "-log", "warn"},
			}
		}
		return wakeInTurns(ctx, r, both, args.Int("setups"), args.Int("turns"))
	})
}

func wakeInTurns(ctx context.Context, r *bench.Run, both [2]*waker, setups, turns int) error {
	for i := range setups {
		var took [2]time.Duration
		for side, w := range both {
			r.Progress("setting up, in turns", int64(2*i+side), int64(2*setups))
			var err error
			if took[side], err = w.setUp(ctx); err != nil {
				return err
			}
			r.Metrics.Duration("setup"+w.suffix+"ms", took[side])
		}
		r.Metrics.Value("setup_ratio", float64(took[0])/float64(took[1]))
	}
	for turn := range turns + 1 { // the first one creates the databases
		r.Progress("waking, in turns", int64(turn), int64(turns))
		var wall [2]time.Duration
		var used [2]service.Used
		for i := range both {
			side := (turn + i) % 2
			var err error
			if wall[side], used[side], err = both[side].wake(ctx); err != nil {
				return err
			}
		}
		if turn == 0 {
			continue
		}
		for side, w := range both {
			r.Metrics.Duration("cpu"+w.suffix+"ms", used[side].CPU)
			r.Metrics.Duration("wall"+w.suffix+"ms", wall[side])
			r.Metrics.Value("rss"+w.suffix+"bytes", float64(used[side].ResidentBytes))
		}
		r.Metrics.Value("cpu_ratio", float64(used[0].CPU)/float64(used[1].CPU))
		r.Metrics.Value("wall_ratio", float64(wall[0])/float64(wall[1]))
		r.Metrics.Value("rss_ratio", float64(used[0].ResidentBytes)/float64(used[1].ResidentBytes))
	}
	return nil
}

// setUp makes the cache from the PGlite files alone, and returns the processor time.
func (w *waker) setUp(ctx context.Context) (time.Duration, error) {
	if err := os.RemoveAll(w.cache); err != nil {
		return 0, err
	}
	folders, err := filepath.Glob(filepath.Join(w.r.Runtime.CacheDir(), "pglite-"+w.r.Runtime.Version()+"-*"))
	if err != nil {
		return 0, err
	}
	for _, from := range folders {
		if info, err := os.Stat(from); err != nil || !info.IsDir() || strings.Contains(filepath.Base(from), ".derived") || strings.HasSuffix(from, ".tmp") {
			continue
		}
		if err := os.CopyFS(filepath.Join(w.cache, filepath.Base(from)), os.DirFS(from)); err != nil {
			return 0, fmt.Errorf("copy the PGlite files: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, w.program, "set-up")
	cmd.Env = append(os.Environ(), "BLOBPGLITE_CACHE="+w.cache)
	service.OwnGroup(cmd)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := service.OnOneCPU(cmd.Start); err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("set up %s: %w: %s", w.program, err, bench.Tail(said.String()))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// wake starts the process, up to the first row, and ends it.
func (w *waker) wake(ctx context.Context) (wall time.Duration, used service.Used, err error) {
	clk := clock.System()
	at := clk.Monotonic()
	s, err := service.Start(ctx, w.program, service.Options{Args: w.args, Env: []string{"BLOBPGLITE_CACHE=" + w.cache}, OneCPU: true})
	if err != nil {
		return 0, used, err
	}
	defer s.Kill()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return 0, used, fmt.Errorf("%w: %s", err, s.Log())
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var one int
	if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil {
		return 0, used, err
	}
	wall = clk.Monotonic() - at
	if used, err = s.Used(); err != nil {
		return 0, used, err
	}
	if err := conn.Close(ctx); err != nil {
		return 0, used, err
	}
	if code, err := s.Stop(ctx); err != nil || code != 0 {
		return 0, used, fmt.Errorf("pgserve ended with code %d: %w: %s", code, err, s.Log())
	}
	return wall, used, nil
}
