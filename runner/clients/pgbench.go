package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	npmPGlite = "@electric-sql/pglite@0.5.14" // the one that this socket server, the newest, is made for, and takes no other
)

// toSocket is PGlite's own server.
const toSocket = "socket"

// benchPlaces are what pgbench can run against, with a metric for each.
func benchPlaces() map[string]string {
	return map[string]string{
		bench.InProcess: "tps_memory_per_s", bench.NoLatency: "tps_emulator_per_s", bench.ModelLatency: "tps_model_per_s", toSocket: "tps_socket_per_s",
	}
}

// Scripts for pgbench, in addition to its own. The database has the scale that -i made.
var benchScripts = map[string]string{
	"tpcb":   "",
	"update": "\\set aid random(1, 100000 * :scale)\nUPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n",
}

func pgbenchVerb() bench.Verb {
	v := scenario.Verb{
		Name: "pgbench",
		Doc: "runs pgbench against pgserve, first on the emulator, then on the modeled bucket; then on a bucket in memory and against " +
			"PGlite's own socket server on Node, both running, in turns, so that both get the same share of the machine. The socket " +
			"server is the newest one, with the PGlite it was made for (" + npmPGlite + "); it does not support COPY, so its " +
			"rows are made by INSERT. Vacuous where pgbench is not installed",
		Args: []scenario.Arg{
			{Name: "scale", Kind: scenario.KindInt, Default: "10", Doc: "pgbench -s"},
			{Name: "clients", Kind: scenario.KindInt, Default: "10", Doc: "pgbench -c"},
			{Name: "seconds", Kind: scenario.KindInt, Default: "30", Doc: "pgbench -T; for those that take turns, all turns combined"},
			{Name: "turns", Kind: scenario.KindInt, Default: "5", Doc: "of each that takes turns, after one to warm up"},
			{Name: "script", Default: "tpcb", OneOf: []string{"tpcb", "update"}, Doc: "TPC-B, or one UPDATE by key in autocommit"},
			{Name: "on", Kind: scenario.KindStrings, Doc: "only these: mem, none, model, socket; empty: all"},
		},
		Metrics: bench.MetricDocs(
			"tps_memory_per_s", "transactions in strict, with the bucket in memory", "tps_emulator_per_s", "transactions in strict, on the emulator over HTTP",
			"tps_model_per_s", "transactions in strict, on the modeled bucket", "tps_socket_per_s", "transactions of PGlite's socket "+
				"server, which persists nothing",
			"socket_ratio", "transactions in strict in memory, over those of PGlite's socket server", "initialise_ms", "pgbench -i, rows by COPY",
		),
	}
	return bench.Verb{Verb: v, Run: runPgbench}
}

func runPgbench(ctx context.Context, r *bench.Run, args scenario.Args) error {
	if _, err := exec.LookPath("pgbench"); err != nil {
		r.Vacuous("pgbench (Debian: postgresql-contrib) is not installed")
		return nil
	}
	places := []string{bench.NoLatency, bench.ModelLatency, bench.InProcess, toSocket}
	if only := args.Strings("on"); len(only) > 0 {
		places = only
	}
	script, err := ownScript(args.String("script"))
	if err != nil {
		return err
	}
	defer os.Remove(script)
	var turns []string // the places that take turns, with at least one other
	if slices.Contains(places, bench.InProcess) && slices.Contains(places, toSocket) {
		turns = []string{bench.InProcess, toSocket}
	}
	p := pgbenchRun{r: r, script: script, scale: args.Int("scale"), clients: args.Int("clients"), seconds: args.Int("seconds")}
	for _, in := range places {
		if _, ok := benchPlaces()[in]; !ok {
			return fmt.Errorf("there is no place %q to run pgbench against", in)
		}
		if slices.Contains(turns, in) {
			continue
		}
		if err = p.with(ctx, in, func(url string) error {
			if err := p.initialise(ctx, in, url); err != nil {
				return err
			}
			_, err := p.measure(ctx, in, url, p.seconds, true)
			return err
		}); err != nil {
			break
		}
	}
	if err == nil && len(turns) > 0 {
		err = p.turns(ctx, args.Int("turns"))
	}
	if errors.Is(err, ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	return err
}

// turns has the two compared places up at the same time, and takes one, then the other, then the other first, and so on.
func (p *pgbenchRun) turns(ctx context.Context, turns int) error {
	return p.with(ctx, bench.InProcess, func(mine string) error {
		return p.with(ctx, toSocket, func(theirs string) error {
			urls := map[string]string{bench.InProcess: mine, toSocket: theirs}
			for _, in := range []string{bench.InProcess, toSocket} {
				if err := p.initialise(ctx, in, urls[in]); err != nil {
					return err
				}
			}
			each := max(1, p.seconds/turns)
			for turn := range turns + 1 {
				order := []string{bench.InProcess, toSocket}
				if turn%2 == 1 {
					slices.Reverse(order)
				}
				tps := map[string]float64{}
				for _, in := range order {
					var err error
					if tps[in], err = p.measure(ctx, in, urls[in], each, turn > 0); err != nil {
						return err
					}
				}
				if turn > 0 {
					p.r.Metrics.Value("socket_ratio", tps[bench.InProcess]/tps[toSocket])
				}
			}
			return nil
		})
	})
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

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// How pgbench makes its rows. The socket server does not accept pgbench's COPY.
const (
	clientSide = "dtgvp"
	serverSide = "dtGvp"
)

// pgbenchRun is what all runs of pgbench have in common.
type pgbenchRun struct {
	r                       *bench.Run
	script                  string // a file; empty: TPC-B
	scale, clients, seconds int
}

// with runs f while a place serves at url.
func (p *pgbenchRun) with(ctx context.Context, in string, f func(url string) error) error {
	if in == toSocket {
		return socketServer(ctx, p.r, f)
	}
	return p.r.WithService(ctx, in, func(s *bench.Served) error { return f(s.Now().URL()) }, "-max-clients", strconv.Itoa(p.clients+10))
}

// initialise creates pgbench's tables.
func (p *pgbenchRun) initialise(ctx context.Context, in, url string) error {
	p.r.Progress("pgbench -i, for "+benchPlaces()[in], 0, 0)
	steps := clientSide
	if in == toSocket {
		steps = serverSide
	}
	clk := clock.System()
	at := clk.Monotonic()
	if out, err := pgbenchCommand(ctx, "-i", "-q", "-I", steps, "-s", strconv.Itoa(p.scale), url).CombinedOutput(); err != nil {
		return benchFailed(ctx, p.r, "pgbench -i", out, err)
	}
	if steps == clientSide {
		p.r.Metrics.Duration("initialise_ms", clk.Monotonic()-at)
	}
	return nil
}

// measure runs pgbench, records the result if record is set, and returns the transactions per second.
func (p *pgbenchRun) measure(ctx context.Context, in, url string, seconds int, record bool) (float64, error) {
	r, metric := p.r, benchPlaces()[in]
	r.Progress(fmt.Sprintf("pgbench, %d s, for %s", seconds, metric), 0, 0)
	line := []string{"-n", "-c", strconv.Itoa(p.clients), "-T", strconv.Itoa(seconds)}
	if p.script != "" {
		line = append(line, "-f", p.script, "-D", "scale="+strconv.Itoa(p.scale))
	}
	out, err := pgbenchCommand(ctx, append(line, url)...).CombinedOutput()
	if err != nil {
		return 0, benchFailed(ctx, r, "pgbench", out, err)
	}
	m, failed := tpsLine.FindSubmatch(out), failedLine.FindSubmatch(out)
	if m == nil || failed == nil {
		return 0, fmt.Errorf("pgbench's output has no figures: %s", bench.Tail(string(out)))
	}
	tps, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || tps <= 0 {
		return 0, fmt.Errorf("pgbench's output has %q transactions a second: %w", m[1], err)
	}
	wrong := ""
	if string(failed[1]) != "0" {
		wrong = fmt.Sprintf("%s transactions failed: %s", failed[1], bench.Tail(string(out)))
	}
	r.Check(bench.CheckClient, wrong)
	if record {
		r.Metrics.Value(metric, tps)
	}
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
