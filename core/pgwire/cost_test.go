package pgwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	goruntime "runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
)

// counting counts a server's calls on its clients' connections.
type counting struct {
	net.Listener
	reads, writes atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{conn.(*net.TCPConn), l}, nil
}

type countingConn struct {
	*net.TCPConn
	l *counting
}

func (c *countingConn) Read(b []byte) (int, error) {
	c.l.reads.Add(1)
	return c.TCPConn.Read(b)
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.l.writes.Add(1)
	return c.TCPConn.Write(b)
}

// timers is a clock that counts them.
type timers struct {
	clock.Clock
	made atomic.Int64
}

func (c *timers) NewTimer(d time.Duration) clock.Timer {
	c.made.Add(1)
	return c.Clock.NewTimer(d)
}

// cost is what one statement took in the whole process: direct says how often it ran on the goroutine that had read it, handed how often it
// was handed to another one, which wakes a thread on another processor.
type cost struct{ reads, writes, allocs, bytes, timers, direct, handed float64 }

func (c cost) String() string {
	return fmt.Sprintf("%.2f reads, %.2f writes, %.1f allocations of %.0f bytes, %.3f timers, %.2f direct runs, %.3f handed over",
		c.reads, c.writes, c.allocs, c.bytes, c.timers, c.direct, c.handed)
}

// within says whether no value of c exceeds most's, or, for direct runs, is below it.
func (c cost) within(most cost) bool {
	return c.reads <= most.reads && c.writes <= most.writes && c.allocs <= most.allocs && c.bytes <= most.bytes && c.timers <= most.timers &&
		c.direct >= most.direct && c.handed <= most.handed
}

// priced is a server whose statements are counted.
type priced struct {
	*testServer
	l     *counting
	clock *timers
}

func openPriced(t *testing.T) *priced {
	t.Helper()
	clk := &timers{Clock: clock.System()}
	d := openTestServerOn(t, engine.Options{Clock: clk, LeaseTTL: time.Hour, RestoreBudget: -1})
	base, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &counting{Listener: base}
	srv, err := New(Options{Backend: Engines(fixed{d.e}), Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return &priced{&testServer{t: t, srv: srv, e: d.e, addr: base.Addr().String()}, l, clk}
}

// caller sends statements one by one, without an allocation of its own; each ends with ReadyForQuery.
type caller struct {
	t    *testing.T
	conn net.Conn
	buf  []byte
}

func (c *caller) call(request []byte) {
	if _, err := c.conn.Write(request); err != nil {
		c.t.Fatal(err)
	}
	for have := 0; ; {
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			c.t.Fatal(err)
		}
		have += n
		if have >= 6 && c.buf[have-6] == kindReady && c.buf[have-5] == 0 && c.buf[have-2] == 5 {
			return
		}
	}
}

// calls sends all of them, n times.
func (c *caller) calls(requests [][]byte, n int) {
	for range n {
		for _, r := range requests {
			c.call(r)
		}
	}
}

// prepare makes what the cases need, and returns a connection for them.
func prepare(t *testing.T, conn net.Conn) *caller {
	t.Helper()
	c := &caller{t, conn, make([]byte, 64<<10)}
	c.call(encode(t, &pgproto3.Query{String: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i;" +
		"CREATE TABLE account (id int PRIMARY KEY, balance int, filler char(84)); INSERT INTO account SELECT i, 0, '' FROM generate_series(1, 1000) i;" +
		"CREATE TABLE teller (id int PRIMARY KEY, balance int); INSERT INTO teller SELECT i, 0 FROM generate_series(1, 10) i;" +
		"CREATE TABLE branch (id int PRIMARY KEY, balance int); INSERT INTO branch VALUES (1, 0);" +
		"CREATE TABLE history (teller int, branch int, account int, delta int, at timestamp)"}))
	c.call(encode(t, &pgproto3.Parse{Name: "point", Query: "SELECT v FROM t WHERE id = 7"}, &pgproto3.Sync{}))
	return c
}

func encode(t *testing.T, messages ...pgproto3.FrontendMessage) (b []byte) {
	t.Helper()
	var err error
	for _, m := range messages {
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// priceCase is a measured case: calls of one statement, or of several.
type priceCase struct {
	name     string
	requests [][]byte
	most     cost    // of one request
	sleeps   float64 // of threads, see TestSystemCalls
}

func priceCases(t *testing.T) []priceCase {
	t.Helper()
	queries := func(sql ...string) (all [][]byte) {
		for _, q := range sql {
			all = append(all, encode(t, &pgproto3.Query{String: q}))
		}
		return all
	}
	most := func(allocs, bytes, timers float64) cost {
		const (
			once   = 1.05 // plus what else the process does during it
			direct = 0.99
			handed = 0.05
		)
		return cost{reads: once, writes: once, allocs: allocs + 0.5, bytes: bytes, timers: timers, direct: direct, handed: handed}
	}
	return []priceCase{
		{"SELECT 1", queries("SELECT 1"), most(3, 300, 0.01), 2.5},
		{"a prepared point read", [][]byte{encode(t, &pgproto3.Bind{PreparedStatement: "point"}, &pgproto3.Execute{}, &pgproto3.Sync{})}, most(3, 200, 0.01), 2.5},
		{"an error", queries("SELECT 1/0"), most(110, 4000, 0.01), 2.5}, // wazero describes the stack that is left
		{"an update", queries("UPDATE t SET v = v + 1 WHERE id = 7"), most(40, 4500, 0.05), 12},
		{"a statement of TPC-B", queries("BEGIN", "UPDATE account SET balance = balance + 5 WHERE id = 77", "SELECT balance FROM account WHERE id = 77",
			"UPDATE teller SET balance = balance + 5 WHERE id = 7", "UPDATE branch SET balance = balance + 5 WHERE id = 1",
			"INSERT INTO history VALUES (7, 1, 77, 5, CURRENT_TIMESTAMP)", "END"), most(10, 1500, 0.05), 4},
	}
}

// of is the cost of each request, in the whole process, including the test's own client, which allocates nothing.
func (p *priced) of(c *caller, requests [][]byte, n int) cost {
	c.calls(requests, n/4)
	var before, after goruntime.MemStats
	reads, writes, made, runs := p.l.reads.Load(), p.l.writes.Load(), p.clock.made.Load(), p.e.Stats().Cluster
	goruntime.ReadMemStats(&before)
	c.calls(requests, n)
	goruntime.ReadMemStats(&after)
	each := func(v int64) float64 { return float64(v) / float64(n*len(requests)) }
	now := p.e.Stats().Cluster
	return cost{
		reads: each(p.l.reads.Load() - reads), writes: each(p.l.writes.Load() - writes), timers: each(p.clock.made.Load() - made),
		allocs: each(int64(after.Mallocs - before.Mallocs)), bytes: each(int64(after.TotalAlloc - before.TotalAlloc)),
		direct: each(now.Direct - runs.Direct), handed: each(now.HandedOver - runs.HandedOver),
	}
}

// TestWhatAStatementCosts: one read and one write of the connection, few allocations in the whole process, no timer for read-only
// statements, and everything on the goroutine that has read it.
func TestWhatAStatementCosts(t *testing.T) {
	d := openPriced(t)
	conn, _ := d.raw()
	client := prepare(t, conn)
	for _, c := range priceCases(t) {
		const tries = 5 // a busy machine does other work too, but not every time
		var got cost
		for try := range tries {
			got = d.of(client, c.requests, 1000)
			if t.Logf("%s, %d: %s", c.name, try, got); got.within(c.most) {
				break
			}
		}
		if !got.within(c.most) {
			t.Errorf("%s costs %s, at most are %s", c.name, got, c.most)
		}
	}
}
