package step

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
)

//go:embed clients
var clientPrograms embed.FS

// Checks of this file's verbs.
const (
	checkClient = "client"
)

// The npm packages of clients, pinned.
const (
	npmPG     = "pg@8.23.1"
	npmKnex   = "knex@3.3.0"
	npmSocket = "@electric-sql/pglite-socket@0.2.17"
	npmPGlite = "@electric-sql/pglite@0.5.14" // the one that this socket server is made for
)

// What pgserve keeps its database in.
const (
	inProcess    = "mem"   // the reference in memory, in pgserve itself
	noLatency    = "none"  // the emulator
	modelLatency = "model" // the emulator, as slow as the service is modelled to be
)

func clientVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "client",
			Doc: "runs a real client against pgserve in a process of its own: schema, rows, transactions, errors, concurrency; then the " +
				"server is killed (SIGKILL) while the client inserts, started again, and the client looks for every row that was acknowledged. " +
				"Where the client is not installed the verdict is vacuous",
			Args: []scenario.Arg{
				{Name: "client", Required: true, OneOf: clientNames(), Doc: "which"},
				{Name: "latency", Default: noLatency, OneOf: []string{noLatency, modelLatency}, Doc: "of the bucket: none, or as the service is modelled to"},
			},
			Metrics: metricDocs(
				"acked_count", "rows that were acknowledged before the server was killed", "restart_ms", "from the kill to open doors",
			),
		},
		run: runClient,
	}
}

// clientEnv is what a client's trial works with.
type clientEnv struct {
	r      *Run
	folder string // of the trial's own
	url    string
	kill   func() error // kills the server and starts it again at the same address
}

// survivors is what became of rows that were inserted while the server was killed.
type survivors struct {
	Acked    int `json:"acked"`
	Lost     int `json:"lost"`
	Invented int `json:"invented"` // rows that nobody inserted
}

// errMissing: the client, or what it runs on, is not installed.
var errMissing = errors.New("not installed")

// clientTrials are the clients. Each returns errMissing where it cannot run.
func clientTrials() map[string]func(context.Context, clientEnv) (survivors, error) {
	return map[string]func(context.Context, clientEnv) (survivors, error){
		"psql": tryPSQL, "pgx": tryPGX, "database_sql": tryDatabaseSQL, "node_pg": tryNode("node_pg.mjs", npmPG),
		"knex": tryNode("knex.mjs", npmPG, npmKnex), "psycopg2": tryPsycopg2,
	}
}

func clientNames() []string {
	return []string{"psql", "pgx", "database_sql", "node_pg", "knex", "psycopg2"}
}

func runClient(ctx context.Context, r *Run, args scenario.Args) error {
	name := args.String("client")
	return r.withService(ctx, args.String("latency"), func(s *served) error {
		r.Progress("client "+name, 0, 0)
		clk := clock.System()
		got, err := clientTrials()[name](ctx, clientEnv{r: r, folder: s.folder, url: s.now().URL(), kill: func() error {
			at := clk.Monotonic()
			err := s.restart(ctx)
			r.Metrics.Duration("restart_ms", clk.Monotonic()-at)
			return err
		}})
		if errors.Is(err, errMissing) {
			r.skip("%v", err)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.check(checkClient, fmt.Sprintf("%s: %v", name, err))
			return nil
		}
		r.check(checkClient, "")
		r.Metrics.Value("acked_count", float64(got.Acked))
		switch {
		case got.Acked == 0:
			r.skip("%s had nothing acknowledged when the server was killed", name)
		case got.Lost > 0 || got.Invented > 0:
			r.check(checkDurability, fmt.Sprintf("%s: of %d acknowledged rows %d are lost, and %d were found that nobody inserted", name, got.Acked, got.Lost, got.Invented))
		default:
			r.check(checkDurability, "")
		}
		return nil
	})
}

// served is a pgserve on an emulator of the run's own.
type served struct {
	r       *Run
	folder  string
	program string
	args    []string
	mu      sync.Mutex
	current *service.Service
}

func (s *served) now() *service.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// restart kills the server and starts another one at its address.
func (s *served) restart(ctx context.Context) error {
	old := s.now()
	old.Kill()
	fresh, err := service.Start(ctx, s.program, service.Options{Args: s.args, Port: old.Port})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = fresh
	return nil
}

// withService builds and starts pgserve, with more flags, over a fresh place, and ends both after f.
func (r *Run) withService(ctx context.Context, in string, f func(*served) error, flags ...string) (err error) {
	o := gcsfront.Options{Buckets: []string{"doors"}, Seed: r.Seed}
	if in == modelLatency {
		o.Latency, o.Rate = model.DefaultLatency(), model.DefaultRate()
	}
	front, err := gcsfront.New(o)
	if err != nil {
		return err
	}
	base, stop, err := front.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	folder, err := os.MkdirTemp("", "blobpglite-doors-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(folder)
	r.Progress("building pgserve", 0, 0)
	s := &served{r: r, folder: folder, args: []string{"-lease-ttl", "2s", "-acquire-timeout", "1m", "-wake", "-log", "warn"}}
	s.args = append(s.args, flags...)
	if in == inProcess {
		s.args = append(s.args, "-store", "mem")
	} else {
		s.args = append(s.args, "-bucket", "gs://doors/db", "-endpoint", base)
	}
	if s.program, err = service.Build(ctx, folder); err != nil {
		return err
	}
	if s.current, err = service.Start(ctx, s.program, service.Options{Args: s.args}); err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if code, stopErr := s.now().Stop(ending); err == nil && ctx.Err() == nil && (stopErr != nil || code != 0) {
			r.check(checkClient, fmt.Sprintf("the server ended with code %d: %v: %s", code, stopErr, s.now().Log()))
		}
		counted := front.Counters()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Ops.ClassA, r.Ops.ClassB = r.Ops.ClassA+counted.ClassA, r.Ops.ClassB+counted.ClassB
		r.Ops.Delete += counted.Delete
		r.Ops.BytesUp, r.Ops.BytesDown = r.Ops.BytesUp+counted.BytesUp, r.Ops.BytesDown+counted.BytesDown
	}()
	return f(s)
}

// program writes one of the embedded programs into a folder.
func program(folder, name string) (string, error) {
	b, err := clientPrograms.ReadFile("clients/" + name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, name)
	return file, os.WriteFile(file, b, 0o600)
}

// npmFolder is a folder of the cache in which npm packages are installed.
func (r *Run) npmFolder(ctx context.Context, packages ...string) (string, error) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("%s is %w", tool, errMissing)
		}
	}
	name := strings.NewReplacer("/", "_", "@", "_").Replace(strings.Join(packages, "+"))
	folder := filepath.Join(r.Runtime.CacheDir(), "npm-"+name)
	done := filepath.Join(folder, "installed")
	if _, err := os.Stat(done); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("install npm packages: %w", err)
	}
	r.Progress("npm install "+strings.Join(packages, " "), 0, 0)
	args := append([]string{"install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder}, packages...)
	if out, err := exec.CommandContext(ctx, "npm", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %v by npm: %w: %s", packages, err, out)
	}
	return folder, os.WriteFile(done, nil, 0o600)
}

// tryNode runs one of the Node programs.
func tryNode(name string, packages ...string) func(context.Context, clientEnv) (survivors, error) {
	return func(ctx context.Context, e clientEnv) (survivors, error) {
		folder, err := e.r.npmFolder(ctx, packages...)
		if err != nil {
			return survivors{}, err
		}
		file, err := program(e.folder, name)
		if err != nil {
			return survivors{}, err
		}
		return e.converse(ctx, exec.CommandContext(ctx, "node", file, folder, e.url))
	}
}

func tryPsycopg2(ctx context.Context, e clientEnv) (survivors, error) {
	// There may be several Pythons; the package belongs to one of them.
	python := ""
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		candidate := filepath.Join(dir, "python3")
		if python == "" && exec.CommandContext(ctx, candidate, "-c", "import psycopg2").Run() == nil {
			python = candidate
		}
	}
	if python == "" {
		return survivors{}, fmt.Errorf("psycopg2 (Debian: python3-psycopg2) is %w", errMissing)
	}
	file, err := program(e.folder, "py_psycopg2.py")
	if err != nil {
		return survivors{}, err
	}
	return e.converse(ctx, exec.CommandContext(ctx, python, file, e.url))
}

// converse runs a client's program: it says KILL when the server is to be killed, waits for a line, and ends with what it
// found as JSON.
func (e clientEnv) converse(ctx context.Context, cmd *exec.Cmd) (got survivors, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return got, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return got, err
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		return got, err
	}
	found := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() != "KILL" {
			if err = json.Unmarshal(lines.Bytes(), &got); err != nil {
				err = fmt.Errorf("its output %.100q: %w", lines.Text(), err)
			}
			found = true
			continue
		}
		if err = e.kill(); err == nil {
			_, err = io.WriteString(in, "KILLED\n")
		}
		if err != nil {
			_ = cmd.Process.Kill()
		}
	}
	_ = in.Close()
	if waitErr := cmd.Wait(); waitErr != nil || !found {
		return got, errors.Join(err, fmt.Errorf("it ended: %w: %s", errors.Join(waitErr, ctx.Err()), endOf(errs.String())))
	}
	return got, err
}

func endOf(text string) string {
	const most = 600
	return strings.TrimSpace(text[max(0, len(text)-most):])
}

// tryPSQL runs a script by psql, and inserts one row after the other until the server is gone.
func tryPSQL(ctx context.Context, e clientEnv) (survivors, error) {
	if _, err := exec.LookPath("psql"); err != nil {
		return survivors{}, fmt.Errorf("psql (Debian: postgresql-client) is %w", errMissing)
	}
	psql := func(sql string) (string, error) {
		cmd := exec.CommandContext(ctx, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", e.url)
		cmd.Stdin = strings.NewReader(sql)
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, endOf(string(out)))
		}
		return strings.TrimSpace(string(out)), err
	}
	got, err := psql(`CREATE TABLE ps (id int PRIMARY KEY, v text);
COPY ps FROM STDIN;
1	one
2	two
\.
BEGIN; INSERT INTO ps VALUES (3, 'three'); ROLLBACK;
\set ON_ERROR_STOP 0
INSERT INTO ps VALUES (1, 'again');
\echo :SQLSTATE
\set ON_ERROR_STOP 1
\d ps
PREPARE q(int) AS SELECT v FROM ps WHERE id = $1; EXECUTE q(2);
SELECT string_agg(id || v, ',' ORDER BY id) FROM ps;
CREATE TABLE acked_psql (id int PRIMARY KEY);`)
	if err != nil {
		return survivors{}, err
	}
	for _, want := range []string{"23505", "ps_pkey", "\ntwo", "1one,2two"} {
		if !strings.Contains(got, want) {
			return survivors{}, fmt.Errorf("no %q in its output: %s", want, got)
		}
	}
	var acked []int
	const rows = 20
	for i := range rows {
		if _, err := psql(fmt.Sprintf("INSERT INTO acked_psql VALUES (%d)", i)); err != nil {
			return survivors{}, err
		}
		acked = append(acked, i)
	}
	if err := e.kill(); err != nil {
		return survivors{}, err
	}
	text, err := psql("SELECT id FROM acked_psql")
	if err != nil {
		return survivors{}, err
	}
	return compareAcked(acked, strings.Fields(text), rows)
}

// compareAcked compares what was acknowledged with what was found; numbers from sent on were never sent.
func compareAcked(acked []int, found []string, sent int) (survivors, error) {
	there := map[int]bool{}
	s := survivors{Acked: len(acked)}
	for _, text := range found {
		id, err := strconv.Atoi(text)
		if err != nil {
			return s, fmt.Errorf("a row %q", text)
		}
		there[id] = true
		if id >= sent {
			s.Invented++
		}
	}
	for _, id := range acked {
		if !there[id] {
			s.Lost++
		}
	}
	return s, nil
}

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
	case errors.Is(err, errMissing):
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
	folder, err := r.npmFolder(ctx, npmPGlite, npmSocket)
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
