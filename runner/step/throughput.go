package step

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/clock"
	"blobpglite/runner/clients"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

// The npm packages of PGlite's own server, pinned.
const (
	npmSocket = "@electric-sql/pglite-socket@0.2.17"
	npmPGlite = "@electric-sql/pglite@0.5.14" // the one that this socket server is made for
)

func pgbenchVerb() verb {
	v := scenario.Verb{
		Name: "pgbench",
		Doc: "runs pgbench's TPC-B against pgserve, on a bucket in memory, on the emulator and on the modelled one, and against PGlite's " +
			"own socket server in Node, in one run; where pgbench is not installed the verdict is vacuous",
		Args: []scenario.Arg{
			{Name: "scale", Kind: scenario.KindInt, Default: "10", Doc: "pgbench -s"},
			{Name: "clients", Kind: scenario.KindInt, Default: "10", Doc: "pgbench -c"},
			{Name: "seconds", Kind: scenario.KindInt, Default: "30", Doc: "pgbench -T"},
		},
		Metrics: metricDocs(
			"tps_memory_per_s", "transactions, strict, a bucket in memory", "tps_emulator_per_s", "transactions, strict, the emulator over HTTP",
			"tps_model_per_s", "transactions, strict, the modelled bucket", "tps_socket_per_s", "transactions, PGlite's socket server, which keeps nothing",
			"socket_ratio", "strict in memory, over the socket server", "initialise_ms", "pgbench -i, rows by COPY",
		),
	}
	return verb{Verb: v, run: runPgbench}
}

func runPgbench(ctx context.Context, r *Run, args scenario.Args) error {
	if _, err := exec.LookPath("pgbench"); err != nil {
		r.skip("pgbench (Debian: postgresql-contrib) is not installed")
		return nil
	}
	bench := func(url, metric, steps string) (float64, error) {
		return r.pgbench(ctx, benchRun{url, metric, steps, args.Int("scale"), args.Int("clients"), args.Int("seconds")})
	}
	var mine float64
	for _, in := range []string{inProcess, noLatency, modelLatency} {
		metric := map[string]string{inProcess: "tps_memory_per_s", noLatency: "tps_emulator_per_s", modelLatency: "tps_model_per_s"}[in]
		err := r.withService(ctx, in, func(s *served) error {
			tps, err := bench(s.now().URL(), metric, clientSide)
			if in == inProcess {
				mine = tps
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	theirs, err := r.socketServer(ctx, func(url string) (float64, error) { return bench(url, "tps_socket_per_s", serverSide) })
	switch {
	case errors.Is(err, clients.ErrMissing):
		r.skip("%v", err)
		return nil
	case err != nil:
		return err
	}
	r.Metrics.Value("socket_ratio", mine/theirs)
	return nil
}

var (
	tpsLine    = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	failedLine = regexp.MustCompile(`(?m)^number of failed transactions: ([0-9]+)`)
)

// How pgbench makes its rows. The socket server does not take pgbench's COPY.
const (
	clientSide = "dtgvp"
	serverSide = "dtGvp"
)

// benchRun is one run of pgbench.
type benchRun struct {
	url, metric, steps      string
	scale, clients, seconds int
}

// pgbench initialises and runs, and returns the transactions a second.
func (r *Run) pgbench(ctx context.Context, b benchRun) (float64, error) {
	r.Progress("pgbench -i, for "+b.metric, 0, 0)
	clk := clock.System()
	at := clk.Monotonic()
	if out, err := exec.CommandContext(ctx, "pgbench", "-i", "-q", "-I", b.steps, "-s", strconv.Itoa(b.scale), b.url).CombinedOutput(); err != nil {
		return 0, r.benchFailed(ctx, "pgbench -i", out, err)
	}
	if b.steps == clientSide {
		r.Metrics.Duration("initialise_ms", clk.Monotonic()-at)
	}
	r.Progress(fmt.Sprintf("pgbench, %d s, for %s", b.seconds, b.metric), 0, 0)
	out, err := exec.CommandContext(ctx, "pgbench", "-n", "-c", strconv.Itoa(b.clients), "-T", strconv.Itoa(b.seconds), b.url).CombinedOutput()
	if err != nil {
		return 0, r.benchFailed(ctx, "pgbench", out, err)
	}
	m, failed := tpsLine.FindSubmatch(out), failedLine.FindSubmatch(out)
	if m == nil || failed == nil {
		return 0, fmt.Errorf("pgbench's output has no figures: %s", endOf(string(out)))
	}
	tps, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return 0, fmt.Errorf("pgbench's output: %w", err)
	}
	wrong := ""
	if string(failed[1]) != "0" {
		wrong = fmt.Sprintf("%s transactions failed: %s", failed[1], endOf(string(out)))
	}
	r.check(checkClient, wrong)
	r.Metrics.Value(b.metric, tps)
	return tps, nil
}

func (r *Run) benchFailed(ctx context.Context, what string, out []byte, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wrong := fmt.Sprintf("%s: %v: %s", what, err, endOf(string(out)))
	r.check(checkClient, wrong)
	return errors.New(wrong)
}

// socketServer runs f against PGlite's own server on a database in memory.
func (r *Run) socketServer(ctx context.Context, f func(url string) (float64, error)) (float64, error) {
	folder, err := clients.NPM(ctx, r.Runtime.CacheDir(), r.Progress, npmPGlite, npmSocket)
	if err != nil {
		return 0, err
	}
	port, err := service.FreePort()
	if err != nil {
		return 0, err
	}
	server := filepath.Join(folder, "node_modules", "@electric-sql", "pglite-socket", "dist", "scripts", "server.js")
	if _, err := os.Stat(server); err != nil {
		return 0, fmt.Errorf("PGlite's socket server: %w", err)
	}
	r.Progress("starting PGlite's socket server", 0, 0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", server, "--db=memory://", "--host=127.0.0.1", fmt.Sprintf("--port=%d", port), "--max-connections=50")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start PGlite's socket server: %w", err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	ready := make(chan struct{})
	go func() {
		lines, open := bufio.NewScanner(out), false
		for lines.Scan() {
			if !open && strings.Contains(lines.Text(), "listening") {
				open = true
				close(ready)
			}
		}
		if !open {
			close(ready)
		}
	}()
	select {
	case <-ready:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return f(fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port))
}

func endOf(text string) string {
	const most = 600
	return strings.TrimSpace(text[max(0, len(text)-most):])
}

func doorLatencyVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name:    "doorlatency",
			Doc:     "times SELECT 1 by pgx, with its cache of prepared statements, over the loopback to pgserve in a process of its own",
			Args:    []scenario.Arg{{Name: "calls", Kind: scenario.KindInt, Default: "5000", Doc: "that are timed, after a tenth as many that are not"}},
			Metrics: metricDocs("select1_us", "from the call to the row"),
		},
		run: runDoorLatency,
	}
}

func runDoorLatency(ctx context.Context, r *Run, args scenario.Args) error {
	return r.withService(ctx, inProcess, func(s *served) error {
		conn, err := pgx.Connect(ctx, s.now().URL())
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		clk, calls := clock.System(), args.Int("calls")
		for i := range calls + calls/10 {
			at := clk.Monotonic()
			var one int
			if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil || one != 1 {
				return fmt.Errorf("SELECT 1 gave %d: %w", one, err)
			}
			if i >= calls/10 {
				r.Metrics.Duration("select1_us", clk.Monotonic()-at)
			}
		}
		return nil
	})
}
