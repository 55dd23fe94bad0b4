package pgwire

import (
	"context"
	"errors"
	"net"
	goruntime "runtime"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/engine"
)

// counting counts what a server asks of its clients' connections.
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

// cost is what one statement took: direct says how often it ran on the goroutine that had read it, handed how often it was given to
// another one, which wakes a thread on another processor.
type cost struct{ reads, writes, allocs, direct, handed float64 }

// statements are sent one by one, without an allocation of the client's; each ends with ReadyForQuery.
func (l *counting) statements(t *testing.T, e *engine.Engine, conn net.Conn, request []byte, n int) cost {
	t.Helper()
	buf := make([]byte, 64<<10)
	one := func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		for have := 0; ; {
			n, err := conn.Read(buf[have:])
			if err != nil {
				t.Fatal(err)
			}
			have += n
			if have >= 6 && buf[have-6] == kindReady && buf[have-5] == 0 && buf[have-2] == 5 {
				return
			}
		}
	}
	for range n / 4 {
		one()
	}
	var before, after goruntime.MemStats
	reads, writes, runs := l.reads.Load(), l.writes.Load(), e.Stats().Cluster
	goruntime.ReadMemStats(&before)
	for range n {
		one()
	}
	goruntime.ReadMemStats(&after)
	each := func(v int64) float64 { return float64(v) / float64(n) }
	now := e.Stats().Cluster
	return cost{
		each(l.reads.Load() - reads), each(l.writes.Load() - writes), each(int64(after.Mallocs - before.Mallocs)),
		each(now.Direct - runs.Direct), each(now.HandedOver - runs.HandedOver),
	}
}

// TestWhatAStatementCosts: one read and one write of the connection, few allocations in the whole process, and all on the goroutine that has
// read it.
func TestWhatAStatementCosts(t *testing.T) {
	d := openTestServer(t)
	base, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &counting{Listener: base}
	srv, err := New(Options{Backend: Engines(fixed{d.e})})
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
	counted := &testServer{t: t, srv: srv, e: d.e, addr: base.Addr().String()}
	conn, f := counted.raw()
	f.Send(&pgproto3.Query{String: "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i"})
	f.Send(&pgproto3.Parse{Name: "point", Query: "SELECT v FROM t WHERE id = 7"})
	f.Send(&pgproto3.Sync{})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := m.(*pgproto3.ReadyForQuery); ok {
				break
			}
		}
	}
	encode := func(messages ...pgproto3.FrontendMessage) (b []byte) {
		for _, m := range messages {
			if b, err = m.Encode(b); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	for _, c := range []struct {
		name   string
		send   []byte
		allocs float64
	}{
		{"SELECT 1", encode(&pgproto3.Query{String: "SELECT 1"}), 3},
		{"a prepared point read", encode(&pgproto3.Bind{PreparedStatement: "point"}, &pgproto3.Execute{}, &pgproto3.Sync{}), 3},
		{"an error", encode(&pgproto3.Query{String: "SELECT 1/0"}), 115}, // wazero describes the stack that is left
		{"an update", encode(&pgproto3.Query{String: "UPDATE t SET v = v + 1 WHERE id = 7"}), 32},
	} {
		const (
			handed = 0.5 // a slow or busy machine takes the processor away for longer than a statement may stay
			others = 0.5 // what else the process does meanwhile
			tries  = 5   // on a busy machine it does more, but not each time
		)
		var got cost
		for try := range tries {
			got = l.statements(t, d.e, conn, c.send, 2000)
			t.Logf("%s, %d: %.2f reads, %.2f writes, %.1f allocations, %.2f direct runs, %.3f handed over", c.name, try,
				got.reads, got.writes, got.allocs, got.direct, got.handed)
			if got.reads <= 1.05 && got.writes <= 1.05 && got.allocs <= c.allocs+others && got.direct >= 0.99 && got.handed <= handed {
				break
			}
		}
		if got.reads > 1.05 || got.writes > 1.05 {
			t.Errorf("%s: %.2f reads and %.2f writes of the connection", c.name, got.reads, got.writes)
		}
		if got.direct < 0.99 || got.handed > handed {
			t.Errorf("%s: it ran %.3f times where it was read, and was handed over %.3f times", c.name, got.direct, got.handed)
		}
		if got.allocs > c.allocs+others {
			t.Errorf("%s: %.1f allocations, more than %.0f", c.name, got.allocs, c.allocs)
		}
	}
}
