package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"blobpglite/core/clock"
	"blobpglite/runner/bench"
	"blobpglite/runner/npm"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

// The npm packages of PGlite's own server, pinned.
const (
	npmSocket = "@electric-sql/pglite-socket@0.2.17"
	npmPGlite = "@electric-sql/pglite@0.5.14" // the one that this socket server is made for
)

// toSocket is PGlite's own server.
const toSocket = "socket"

// benchPlaces are what pgbench can run against, and the metric of each.
func benchPlaces() map[string]string {
	return map[string]string{
		bench.InProcess: "tps_memory_per_s", bench.NoLatency: "tps_emulator_per_s", bench.ModelLatency: "tps_model_per_s", toSocket: "tps_socket_per_s",
	}
}

// Scripts of pgbench's, besides its own. The database is of the scale that -i made.
var benchScripts = map[string]string{
	"tpcb":   "",
	"update": "\\set aid random(1, 100000 * :scale)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n",
}

func pgbenchVerb() bench.Verb {
	v := scenario.Verb{
		Name: "pgbench",
		Doc: "runs pgbench against pgserve, on a bucket in memory, on the emulator and on the modelled one, and against PGlite's own socket " +
			"server in Node, in one run; where pgbench is not installed the verdict is vacuous",
		Args: []scenario.Arg{
			{Name: "scale", Kind: scenario.KindInt, Default: "10", Doc: "pgbench -s"},
			{Name: "clients", Kind: scenario.KindInt, Default: "10", Doc: "pgbench -c"},
			{Name: "seconds", Kind: scenario.KindInt, Default: "30", Doc: "pgbench -T"},
			{Name: "script", Default: "tpcb", OneOf: []string{"tpcb", "update"}, Doc: "TPC-B, or one UPDATE by key in autocommit"},
			{Name: "on", Kind: scenario.KindStrings, Doc: "only these: mem, none, model, socket; empty: all, one after the other"},
		},
		Metrics: bench.MetricDocs(
			"tps_memory_per_s", "transactions, strict, a bucket in memory", "tps_emulator_per_s", "transactions, strict, the emulator over HTTP",
			"tps_model_per_s", "transactions, strict, the modelled bucket", "tps_socket_per_s", "transactions, PGlite's socket server, which keeps nothing",
			"socket_ratio", "strict in memory, over the socket server", "initialise_ms", "pgbench -i, rows by COPY",
		),
	}
	return bench.Verb{Verb: v, Run: runPgbench}
}

func runPgbench(ctx context.Context, r *bench.Run, args scenario.Args) error {
	if _, err := exec.LookPath("pgbench"); err != nil {
		r.Vacuous("pgbench (Debian: postgresql-contrib) is not installed")
		return nil
	}
	places := []string{bench.InProcess, bench.NoLatency, bench.ModelLatency, toSocket}
	if only := args.Strings("on"); len(only) > 0 {
		places = only
	}
	script, err := ownScript(args.String("script"))
	if err != nil {
		return err
	}
	defer os.Remove(script)
	tps := map[string]float64{}
	for _, in := range places {
		metric, ok := benchPlaces()[in]
		if !ok {
			return fmt.Errorf("there is no place %q to run pgbench against", in)
		}
		b := benchRun{
			metric: metric, script: script, steps: clientSide, scale: args.Int("scale"), clients: args.Int("clients"), seconds: args.Int("seconds"),
		}
		run := func(url string) (err error) {
			b.url = url
			tps[in], err = pgbench(ctx, r, b)
			return err
		}
		if in == toSocket {
			b.steps = serverSide
			err = socketServer(ctx, r, run)
		} else {
			err = r.WithService(ctx, in, func(s *bench.Served) error { return run(s.Now().URL()) }, "-max-clients", strconv.Itoa(b.clients+10))
		}
		if errors.Is(err, ErrMissing) {
			r.Vacuous("%v", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	if mine, theirs := tps[bench.InProcess], tps[toSocket]; mine > 0 && theirs > 0 {
		r.Metrics.Value("socket_ratio", mine/theirs)
	}
	return nil
}

// ownScript writes a script of ours into a file; empty: pgbench's own.
func ownScript(name string) (string, error) {
	text := benchScripts[name]
	if text == "" {
		return "", nil
	}
	f, err := os.CreateTemp("", "blobpglite-pgbench-*.sql")
	if err != nil {
		return "", fmt.Errorf("write pgbench's script: %w", err)
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}

var (
	tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
)

// How pgbench makes its rows. The socket server does not take pgbench's COPY.
const (
	clientSide = "dtgvp"
	serverSide = "dtGvp"
)

// benchRun is one run of pgbench.
type benchRun struct {
	url, metric, steps      string
	script                  string // a file; empty: TPC-B
	scale, clients, seconds int
}

// pgbench initialises and runs, and returns the transactions a second.
func pgbench(ctx context.Context, r *bench.Run, b benchRun) (float64, error) {
	r.Progress("pgbench -i, for "+b.metric, 0, 0)
	clk := clock.System()
	at := clk.Monotonic()
	if out, err := pgbenchCommand(ctx, "-i", "-q", "-I", b.steps, "-s", strconv.Itoa(b.scale), b.url).CombinedOutput(); err != nil {
		return 0, benchFailed(ctx, r, "pgbench -i", out, err)
	}
	if b.steps == clientSide {
		r.Metrics.Duration("initialise_ms", clk.Monotonic()-at)
	}
	r.Progress(fmt.Sprintf("pgbench, %d s, for %s", b.seconds, b.metric), 0, 0)
	line := []string{"-n", "-c", strconv.Itoa(b.clients), "-T", strconv.Itoa(b.seconds)}
	if b.script != "" {
		line = append(line, "-f", b.script, "-D", "scale="+strconv.Itoa(b.scale))
	}
	out, err := pgbenchCommand(ctx, append(line, b.url)...).CombinedOutput()
	if err != nil {
		return 0, benchFailed(ctx, r, "pgbench", out, err)
	}
	m, failed := tpsLine.FindSubmatch(out), failedLine.FindSubmatch(out)
	if m == nil || failed == nil {
		return 0, fmt.Errorf("pgbench's output has no figures: %s", bench.Tail(string(out)))
	}
	tps, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return 0, fmt.Errorf("pgbench's output: %w", err)
	}
	wrong := ""
	if string(failed[1]) != "0" {
		wrong = fmt.Sprintf("%s transactions failed: %s", failed[1], bench.Tail(string(out)))
	}
	r.Check(bench.CheckClient, wrong)
	r.Metrics.Value(b.metric, tps)
	return tps, nil
}

func pgbenchCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "pgbench", args...)
	service.OwnGroup(cmd)
	return cmd
}

func benchFailed(ctx context.Context, r *bench.Run, what string, out []byte, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	wrong := fmt.Sprintf("%s: %v: %s", what, err, bench.Tail(string(out)))
	r.Check(bench.CheckClient, wrong)
	return errors.New(wrong)
}

// socketServer runs f against PGlite's own server on a database in memory.
func socketServer(ctx context.Context, r *bench.Run, f func(url string) error) error {
	folder, err := npm.Install(ctx, r.Runtime.CacheDir(), r.Progress, npmPGlite, npmSocket)
	if err != nil {
		return err
	}
	port, err := service.FreePort()
	if err != nil {
		return err
	}
	server := filepath.Join(folder, "node_modules", "@electric-sql", "pglite-socket", "dist", "scripts", "server.js")
	if _, err := os.Stat(server); err != nil {
		return fmt.Errorf("PGlite's socket server: %w", err)
	}
	r.Progress("starting PGlite's socket server", 0, 0)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", server, "--db=memory://", "--host=127.0.0.1", fmt.Sprintf("--port=%d", port), "--max-connections=100")
	service.OwnGroup(cmd)
	child, err := service.Serve(ctx, cmd, "listening")
	if err != nil {
		return fmt.Errorf("start PGlite's socket server: %w", err)
	}
	defer func() { cancel(); child.Wait() }()
	return f(fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port))
}
