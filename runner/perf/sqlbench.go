package perf

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

//go:embed bench.mjs
var benchScript []byte

func sqlbenchVerb() bench.Verb {
	v := scenario.Verb{
		Name: "sqlbench",
		Doc: "runs the same SQL with the same settings here and in PGlite on Node, alternating, and records the times and their ratio " +
			"(here over Node). Vacuous without Node",
		Args: []scenario.Arg{
			{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "how often every case runs on each side"},
			{Name: "rows", Kind: scenario.KindInt, Default: "1000000", Doc: "in the table that the bulk cases use"},
			{Name: "cases", Kind: scenario.KindStrings, Doc: "only these; others still run where these need them"},
		},
	}
	for _, name := range caseNames() {
		v.Metrics = append(v.Metrics, bench.MetricDocs(
			name+"_wazero_us", caseTitle(name)+", time here", name+"_node_us", caseTitle(name)+", time in Node",
			name+"_ratio", caseTitle(name)+", time here over Node, round by round")...)
	}
	return bench.Verb{Verb: v, Run: sqlbench}
}

// caseTitle is a case's name for people.
func caseTitle(name string) string { return strings.ReplaceAll(name, "_", " ") }

func caseNames() []string {
	names := []string{startCase}
	for _, c := range sqlCases(1) {
		names = append(names, c.name)
	}
	return names
}

// side is one of the two that are compared.
type side interface {
	start(ctx context.Context) (time.Duration, error)
	runner
}

// runner answers messages, and says how long that took and how many bytes the answers had.
type runner interface {
	run(ctx context.Context, messages [][]byte) (time.Duration, int64, error)
}

func sqlbench(ctx context.Context, r *bench.Run, args scenario.Args) error {
	wanted := args.Strings("cases")
	for _, name := range wanted {
		if !slices.Contains(caseNames(), name) {
			return fmt.Errorf("there is no case %q; there are %q", name, caseNames())
		}
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			r.Vacuous("%s is not installed: there is nothing to compare with", tool)
			return nil
		}
	}
	folder, err := os.MkdirTemp("", "blobpglite-sqlbench-")
	if err != nil {
		return fmt.Errorf("make a folder for the Node side: %w", err)
	}
	defer os.RemoveAll(folder)
	r.Progress("sqlbench: starting the Node side", 0, 0)
	other, err := startNodeSide(ctx, r.Runtime, folder)
	if err != nil {
		return err
	}
	defer other.stop()
	mine := &wazeroSide{rt: r.Runtime, clock: clock.System()}
	defer mine.stop()
	rounds, rows := args.Int("rounds"), args.Int("rows")
	for round := range rounds {
		b := comparison{r: r, ctx: ctx, mine: mine, other: other, first: round%2 == 0, wanted: wanted, names: [2]string{"wazero", "node"}}
		if err := b.starts(); err != nil {
			return err
		}
		for i, c := range sqlCases(rows) {
			r.Progress(fmt.Sprintf("sqlbench: round %d of %d, %s", round+1, rounds, c.name), int64(i), int64(len(caseNames())))
			if err := b.measure(c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// comparison is one round.
type comparison struct {
	r           *bench.Run
	ctx         context.Context
	mine, other runner
	first       bool // this side goes first: the order alternates between rounds and turns
	wanted      []string
	names       [2]string // of the sides, in metrics
}

// both runs f for the two sides, in the order of this turn.
func (b *comparison) both(f func(s runner, mine bool) error) error {
	if b.first {
		return errors.Join(f(b.mine, true), f(b.other, false))
	}
	return errors.Join(f(b.other, false), f(b.mine, true))
}

func (b *comparison) record(name string, mine, other time.Duration) {
	if len(b.wanted) > 0 && !slices.Contains(b.wanted, name) {
		return
	}
	b.r.Metrics.Duration(name+"_"+b.names[0]+"_us", mine)
	b.r.Metrics.Duration(name+"_"+b.names[1]+"_us", other)
	b.r.Metrics.Value(name+"_ratio", float64(mine)/float64(other))
}

func (b *comparison) starts() error {
	var took [2]time.Duration
	err := b.both(func(s runner, mine bool) (err error) {
		took[index(mine)], err = s.(side).start(b.ctx)
		return err
	})
	if err == nil {
		b.record(startCase, took[0], took[1])
	}
	return err
}

func index(mine bool) int {
	if mine {
		return 0
	}
	return 1
}

// mostTurns is the largest number of parts in which a case is measured.
const mostTurns = 10

// turns returns the parts of a case: the sides take turns, so that the machine's varying capacity is the same for both.
func turns(messages [][]byte) iter.Seq[[][]byte] {
	return slices.Chunk(messages, (len(messages)+mostTurns-1)/mostTurns)
}

// measure runs one case on both sides, in turns; both must answer with the same number of bytes.
func (b *comparison) measure(c sqlCase) error {
	messages := make([][]byte, c.calls)
	for i := range messages {
		messages[i] = c.call(i)
	}
	if err := b.both(func(s runner, _ bool) error { return runAll(b.ctx, s, c.before) }); err != nil {
		return err
	}
	var took [2]time.Duration
	var answered [2]int64
	for turn := range turns(messages) {
		err := b.both(func(s runner, mine bool) error {
			d, n, err := s.run(b.ctx, turn)
			took[index(mine)] += d
			answered[index(mine)] += n
			return err
		})
		if err != nil {
			return err
		}
		b.first = !b.first
	}
	if err := b.both(func(s runner, _ bool) error { return runAll(b.ctx, s, c.after) }); err != nil {
		return err
	}
	if answered[0] != answered[1] {
		return fmt.Errorf("the answers have %d bytes from %s and %d from %s: not the same work", answered[0], b.names[0], answered[1], b.names[1])
	}
	if c.each {
		took[0], took[1] = took[0]/time.Duration(c.calls), took[1]/time.Duration(c.calls)
	}
	b.record(c.name, took[0], took[1])
	return nil
}

func runAll(ctx context.Context, s runner, sql []string) error {
	for _, q := range sql {
		if _, _, err := s.run(ctx, [][]byte{query(q)}); err != nil {
			return err
		}
	}
	return nil
}

// wazeroSide is the host of this project.
type wazeroSide struct {
	rt    *pglite.Runtime
	clock clock.Clock
	data  *memfs.FS
	c     *pglite.Cluster
	conn  *pglite.Conn
}

func (w *wazeroSide) start(ctx context.Context) (time.Duration, error) {
	if w.data == nil {
		var err error
		if w.data, err = w.rt.Template(ctx, memfs.Options{}); err != nil {
			return 0, err
		}
	}
	data := w.data.Clone()
	at := w.clock.Monotonic()
	// Node has no autovacuum: the work must be the same.
	c, err := w.rt.StartCluster(ctx, pglite.ClusterOptions{Data: data, Settings: map[string]string{"autovacuum": "off"}})
	if err != nil {
		return 0, err
	}
	conn, err := login(ctx, c)
	took := w.clock.Monotonic() - at
	if err != nil {
		c.Kill()
		return 0, err
	}
	w.stop()
	w.c, w.conn = c, conn
	return took, nil
}

// login opens a session on a cluster.
func login(ctx context.Context, c *pglite.Cluster) (*pglite.Conn, error) {
	conn, err := c.Connect(ctx, pglite.ConnectOptions{Trusted: true})
	if err != nil {
		return nil, err
	}
	start, err := (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "postgres"},
	}).Encode(nil)
	if err == nil {
		_, err = ask(ctx, conn, start)
	}
	return conn, err
}

// ask sends messages that are answered by one ReadyForQuery, and counts the bytes of the answer.
func ask(ctx context.Context, conn *pglite.Conn, messages []byte) (n int64, err error) {
	if _, err := conn.Run(ctx, messages); err != nil {
		return 0, err
	}
	var rest []byte // of an incomplete message
	for {
		a, err := conn.Next(ctx)
		if err != nil {
			return n, err
		}
		n += int64(len(a.Bytes))
		for rest = append(rest, a.Bytes...); len(rest) >= 5; {
			size := 1 + int(binary.BigEndian.Uint32(rest[1:]))
			if size > len(rest) {
				break
			}
			if rest[0] == 'Z' {
				return n, nil
			}
			rest = rest[size:]
		}
	}
}

func (w *wazeroSide) run(ctx context.Context, messages [][]byte) (time.Duration, int64, error) {
	n := int64(0)
	at := w.clock.Monotonic()
	for _, m := range messages {
		answered, err := ask(ctx, w.conn, m)
		if err != nil {
			return 0, 0, err
		}
		n += answered
	}
	return w.clock.Monotonic() - at, n, nil
}

func (w *wazeroSide) stop() {
	if w.c != nil {
		w.c.Kill()
		w.c, w.conn = nil, nil
	}
}

// nodeSide is PGlite in a Node process.
type nodeSide struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startNodeSide(ctx context.Context, rt *pglite.Runtime, folder string) (*nodeSide, error) {
	dist, err := nodePackage(ctx, rt)
	if err != nil {
		return nil, err
	}
	script, archive := filepath.Join(folder, "bench.mjs"), filepath.Join(folder, "data.tar")
	if err := os.WriteFile(script, benchScript, 0o600); err != nil {
		return nil, fmt.Errorf("write the Node side's program: %w", err)
	}
	if err := writeArchive(ctx, rt, archive); err != nil {
		return nil, err
	}
	params := []string{"--single", "-j"}
	settings := pglite.HostSettings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		params = append(params, "-c", name+"="+settings[name])
	}
	config, err := json.Marshal(map[string]any{"dist": dist, "dataDirectory": archive, "startParams": params})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "node", script, string(config))
	cmd.Stderr = os.Stderr
	n := &nodeSide{cmd: cmd}
	if n.in, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	n.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	return n, nil
}

// nodePackage returns the dist folder of the npm package that the runtime's files come from, installed into the cache.
func nodePackage(ctx context.Context, rt *pglite.Runtime) (string, error) {
	folder := filepath.Join(rt.CacheDir(), "node-"+rt.Version())
	dist := filepath.Join(folder, "node_modules", "@electric-sql", "pglite", "dist")
	wasm := filepath.Join(dist, "pglite.wasm")
	if _, err := os.Stat(wasm); err != nil {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", fmt.Errorf("install the Node side: %w", err)
		}
		cmd := exec.CommandContext(ctx, "npm", "install", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit",
			"--no-fund", "--prefix", folder, "@electric-sql/pglite@"+rt.Version())
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("install the Node side by npm: %w: %s", err, out)
		}
	}
	b, err := os.ReadFile(wasm)
	if err != nil {
		return "", fmt.Errorf("install the Node side: %w", err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(b)); sum != rt.SHA256() {
		return "", fmt.Errorf("the Node side's pglite.wasm has SHA-256 %.12s…, this side's %.12s…; delete %s and run again", sum, rt.SHA256(), folder)
	}
	return dist, nil
}

// writeArchive writes the template's data directory in the form that PGlite loads: names from the root.
func writeArchive(ctx context.Context, rt *pglite.Runtime, file string) error {
	data, err := rt.Template(ctx, memfs.Options{})
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write the Node side's data directory: %w", err)
	}
	return errors.Join(pglite.WriteTar(f, data, "/"), f.Close())
}

// ask sends a request and reads its answer.
func (n *nodeSide) ask(request any) (time.Duration, int64, error) {
	line, err := json.Marshal(request)
	if err != nil {
		return 0, 0, err
	}
	if _, err := n.in.Write(append(line, '\n')); err != nil {
		return 0, 0, fmt.Errorf("ask node: %w", err)
	}
	line, err = n.out.ReadBytes('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("read node's answer: %w", err)
	}
	var answer struct {
		NS    int64  `json:"ns"`
		Bytes int64  `json:"bytes"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return 0, 0, fmt.Errorf("read node's answer %.100q: %w", line, err)
	}
	if answer.Error != "" {
		return 0, 0, fmt.Errorf("node: %s", answer.Error)
	}
	return time.Duration(answer.NS), answer.Bytes, nil
}

func (n *nodeSide) start(context.Context) (time.Duration, error) {
	took, _, err := n.ask(map[string]any{"op": "start"})
	return took, err
}

func (n *nodeSide) run(_ context.Context, messages [][]byte) (time.Duration, int64, error) {
	var blob []byte
	sizes := make([]int, len(messages))
	for i, m := range messages {
		blob = append(blob, m...)
		sizes[i] = len(m)
	}
	return n.ask(map[string]any{"op": "run", "blob": blob, "sizes": sizes})
}

// stop ends the process.
func (n *nodeSide) stop() {
	_ = n.in.Close()
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}
