package perf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
	"blobpglite/runner/bench"
	"blobpglite/runner/pgsuite"
	"blobpglite/runner/scenario"
)

func nativebenchVerb() bench.Verb {
	v := scenario.Verb{
		Name: "nativebench",
		Doc: "runs the cases of sqlbench with the same settings here and in a native PostgreSQL built from source, alternating, and " +
			"records processor time (here of the whole process, there of the client's backend) and its ratio",
		Args: []scenario.Arg{
			{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "how often every case runs on each side"},
			{Name: "rows", Kind: scenario.KindInt, Default: "1000000", Doc: "in the table that the bulk cases use"},
			{Name: "source", Kind: scenario.KindString, Doc: "a folder with PostgreSQL's source, which is built; empty: vacuous"},
		},
	}
	for _, c := range sqlCases(1) {
		title := caseTitle(c.name)
		v.Metrics = append(v.Metrics, bench.MetricDocs(
			c.name+"_cpu_us", title+", processor time here", c.name+"_native_cpu_us", title+", processor time in a native build",
			c.name+"_cpu_ratio", title+", processor time here over native, round by round")...)
	}
	return bench.Verb{Verb: v, Run: nativebench}
}

func nativebench(ctx context.Context, r *bench.Run, args scenario.Args) (err error) {
	native, err := pgsuite.Build(ctx, args.String("source"), r.Runtime.CacheDir(), r.Progress)
	if errors.Is(err, pgsuite.ErrMissing) {
		r.Vacuous("%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	settings := pglite.HostSettings()
	settings["max_parallel_workers_per_gather"] = "0" // there is none here
	settings["autovacuum"] = "off"                    // likewise: see wazeroSide
	conditions := pgsuite.Conditions{SegmentMB: 1}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		conditions.Settings = append(conditions.Settings, fmt.Sprintf("%s = '%s'", name, strings.ReplaceAll(settings[name], "'", "''")))
	}
	reference, err := native.Start(ctx, conditions)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reference.Stop()) }()
	other, err := loginAt(ctx, reference.Server())
	if err != nil {
		return err
	}
	defer other.conn.Close()
	mine := &wazeroSide{rt: r.Runtime, clock: clock.System()}
	defer mine.stop()
	if _, err := mine.start(ctx); err != nil {
		return err
	}
	rounds := args.Int("rounds")
	for round := range rounds {
		for i, c := range sqlCases(args.Int("rows")) {
			r.Progress(fmt.Sprintf("nativebench: round %d of %d, %s", round+1, rounds, c.name), int64(i), int64(len(sqlCases(1))))
			if err := compareCPU(ctx, r, c, mine, other, round%2 == 0); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		for _, s := range []runner{mine, other} {
			if err := runAll(ctx, s, []string{"DROP TABLE b"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// compareCPU runs one case on both sides.
func compareCPU(ctx context.Context, r *bench.Run, c sqlCase, mine *wazeroSide, other *nativeBackend, mineFirst bool) error {
	messages := make([][]byte, c.calls)
	for i := range messages {
		messages[i] = c.call(i)
	}
	var took [2]time.Duration
	measure := func(s runner, cpu func() (time.Duration, error)) (time.Duration, error) {
		if err := runAll(ctx, s, c.before); err != nil {
			return 0, err
		}
		before, err := cpu()
		if err != nil {
			return 0, err
		}
		if _, _, err := s.run(ctx, messages); err != nil {
			return 0, err
		}
		after, err := cpu()
		if err != nil {
			return 0, err
		}
		return after - before, runAll(ctx, s, c.after)
	}
	for i := range 2 {
		var err error
		if (i == 0) == mineFirst {
			took[0], err = measure(mine, bench.OwnCPU)
		} else {
			took[1], err = measure(other, other.cpu)
		}
		if err != nil {
			return err
		}
	}
	if c.each {
		took[0], took[1] = took[0]/time.Duration(c.calls), took[1]/time.Duration(c.calls)
	}
	r.Metrics.Duration(c.name+"_cpu_us", took[0])
	r.Metrics.Duration(c.name+"_native_cpu_us", took[1])
	r.Metrics.Value(c.name+"_cpu_ratio", float64(took[0])/float64(max(took[1], 1)))
	return nil
}

// nativeBackend is a session of a native server, or of another one that is reached over a socket.
type nativeBackend struct {
	conn net.Conn
	pid  uint32
	buf  []byte
}

// loginAt opens a session of a server.
func loginAt(ctx context.Context, at pgsuite.Server) (_ *nativeBackend, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", at.Host, at.Port))
	if err != nil {
		return nil, fmt.Errorf("connect to a server: %w", err)
	}
	b := &nativeBackend{conn: conn, buf: make([]byte, 256<<10)}
	hello, err := (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": at.Database},
	}).Encode(nil)
	if err == nil {
		_, err = b.ask(hello)
	}
	if err == nil && b.pid == 0 {
		err = errors.New("the server has not said the number of its process")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return b, nil
}

// ask sends messages that are answered by one ReadyForQuery, and counts the bytes of the answer.
func (b *nativeBackend) ask(messages []byte) (n int64, err error) {
	if _, err := b.conn.Write(messages); err != nil {
		return 0, err
	}
	for have := 0; ; {
		for have < 5 || have < 1+int(binary.BigEndian.Uint32(b.buf[1:])) {
			if have == len(b.buf) {
				b.buf = append(b.buf, make([]byte, len(b.buf))...)
			}
			got, err := b.conn.Read(b.buf[have:])
			if err != nil {
				return n, fmt.Errorf("read a server's answer: %w", errors.Join(err, io.ErrUnexpectedEOF))
			}
			have += got
			n += int64(got)
		}
		size := 1 + int(binary.BigEndian.Uint32(b.buf[1:]))
		switch b.buf[0] {
		case 'Z':
			return n, nil
		case 'K':
			b.pid = binary.BigEndian.Uint32(b.buf[5:])
		}
		have = copy(b.buf, b.buf[size:have])
	}
}

func (b *nativeBackend) run(_ context.Context, messages [][]byte) (time.Duration, int64, error) {
	clk := clock.System()
	n, at := int64(0), clk.Monotonic()
	for _, m := range messages {
		answered, err := b.ask(m)
		if err != nil {
			return 0, 0, err
		}
		n += answered
	}
	return clk.Monotonic() - at, n, nil
}

// cpu is the backend's processor time, as Linux counts it in nanoseconds.
func (b *nativeBackend) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", b.pid))
	if err != nil {
		return 0, fmt.Errorf("read the native backend's times: %w", err)
	}
	var ran int64
	if _, err := fmt.Sscan(string(text), &ran); err != nil {
		return 0, fmt.Errorf("read the native backend's times: %w", err)
	}
	return time.Duration(ran), nil
}
