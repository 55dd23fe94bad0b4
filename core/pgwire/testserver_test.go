package pgwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

var runtime = sync.OnceValues(func() (*pglite.Runtime, error) {
	return pglite.NewRuntime(context.Background(), pglite.Options{})
})

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if rt, err := runtime(); err == nil {
			if err := rt.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		os.Exit(code)
	}))
}

// fixed is a source of one engine.
type fixed struct{ e *engine.Engine }

func (f fixed) Engine(context.Context) (*engine.Engine, error) { return f.e, nil }

type testServer struct {
	t    testing.TB
	srv  *Server
	e    *engine.Engine
	addr string
}

// openTestServer serves a new database on the loopback.
func openTestServer(t testing.TB, change ...func(*Options)) *testServer {
	t.Helper()
	return openTestServerOn(t, engine.Options{}, change...)
}

func openTestServerOn(t testing.TB, eo engine.Options, change ...func(*Options)) *testServer {
	t.Helper()
	var err error
	if eo.Runtime, err = runtime(); err != nil {
		t.Fatal(err)
	}
	if eo.Store == nil {
		eo.Store = mem.New(mem.Options{})
	}
	eo.Create = true
	e, err := engine.Open(t.Context(), eo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil && e.Err() == nil {
			t.Error("close:", err)
		}
	})
	d := serve(t, Engines(fixed{e}), change...)
	d.e = e
	return d
}

// serve listens before something.
func serve(t testing.TB, b Backend, change ...func(*Options)) *testServer {
	t.Helper()
	o := Options{Backend: b}
	for _, c := range change {
		c(&o)
	}
	srv, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error("shut down:", err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Error("serve:", err)
		}
	})
	return &testServer{t: t, srv: srv, addr: l.Addr().String()}
}

func (d *testServer) url(user, extra string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable%s", user, d.addr, extra)
}

func (d *testServer) connect() *pgx.Conn { return d.connectTo(d.url("postgres", "")) }

func (d *testServer) connectTo(url string) *pgx.Conn {
	d.t.Helper()
	c, err := pgx.Connect(d.t.Context(), url)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// dial opens a connection without logging in.
func (d *testServer) dial() net.Conn {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw logs in and returns the connection, ready for messages.
func (d *testServer) raw() (net.Conn, *pgproto3.Frontend) {
	d.t.Helper()
	conn := d.dial()
	if _, err := conn.Write(startPacket(d.t, "user", "postgres")); err != nil {
		d.t.Fatal(err)
	}
	f := pgproto3.NewFrontend(conn, conn)
	for {
		m, err := f.Receive()
		if err != nil {
			d.t.Fatal(err)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return conn, f
		}
	}
}

// await polls for something that is certain to come soon.
func (d *testServer) await(ready func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	clk := clock.System()
	for !ready() {
		if err := clk.Sleep(ctx, time.Millisecond); err != nil {
			d.t.Fatalf("what has to come does not come: %v, %+v", err, d.srv.Stats())
		}
	}
}

// pending waits until a goroutine waits on a clock.
func (d *testServer) pending(clk *clock.Virtual) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	if err := clk.AwaitPending(ctx, 1); err != nil {
		d.t.Fatalf("nobody waits: %v, %+v", err, d.srv.Stats())
	}
}

func startPacket(t testing.TB, pairs ...string) []byte {
	t.Helper()
	m := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		m.Parameters[pairs[i]] = pairs[i+1]
	}
	if m.Parameters["database"] == "" {
		m.Parameters["database"] = "postgres"
	}
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ended reads up to the end of a connection, and returns the SQLSTATE of the error that came before it.
func ended(t testing.TB, f *pgproto3.Frontend) string {
	t.Helper()
	code := ""
	for {
		m, err := f.Receive()
		if err != nil {
			return code
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			code = e.Code
		}
	}
}

func exec(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func one(t testing.TB, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var v string
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != code {
		t.Fatalf("error %v, want SQLSTATE %s", err, code)
	}
}

type connectOptions = pglite.ConnectOptions

// rules writes pg_hba.conf, as a superuser can.
func (d *testServer) rules(super *pgx.Conn, lines ...string) {
	d.t.Helper()
	var values []string
	for _, l := range lines {
		values = append(values, "('"+l+"')")
	}
	exec(d.t, super, "COPY (VALUES "+strings.Join(values, ", ")+") TO '/pglite/data/pg_hba.conf'")
	exec(d.t, super, "SELECT pg_reload_conf()")
}
