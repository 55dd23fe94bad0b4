package pglite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/memfs"
)

// startCluster starts a cluster on a new database, removed at the end of the test.
func startCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	rt := testRuntime(t)
	if o.Data == nil {
		var err error
		if o.Data, err = rt.Template(t.Context(), memfs.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := rt.StartCluster(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// netConn makes the client's end of a connection a net.Conn, for drivers.
type netConn struct {
	*Conn
	rest []byte
}

// Write runs the process on this goroutine, as the listeners do.
func (c *netConn) Write(b []byte) (int, error) {
	n, err := c.Run(context.Background(), b)
	c.Announce()
	return n, err
}

func (c *netConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		a, err := c.Next(context.Background())
		if err != nil {
			return 0, err
		}
		c.rest = a.Bytes
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

type memAddr struct{}

func (memAddr) Network() string { return "mem" }
func (memAddr) String() string  { return "mem" }

func (c *netConn) LocalAddr() net.Addr              { return memAddr{} }
func (c *netConn) RemoteAddr() net.Addr             { return memAddr{} }
func (c *netConn) SetDeadline(time.Time) error      { return nil }
func (c *netConn) SetReadDeadline(time.Time) error  { return nil }
func (c *netConn) SetWriteDeadline(time.Time) error { return nil }

var _ io.Reader = (*netConn)(nil)

func config(t testing.TB, c *Cluster, user, database string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@127.0.0.1:5432/%s?sslmode=disable", user, database))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := c.Connect(ctx, ConnectOptions{Remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}})
		if err != nil {
			return nil, err
		}
		return &netConn{Conn: conn}, nil
	}
	return cfg
}

func dial(t testing.TB, c *Cluster) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config(t, c, "postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// value returns the last result's rows: columns joined by |, rows by newlines.
func value(t testing.TB, conn *pgx.Conn, sql string) string {
	t.Helper()
	out, err := try(conn, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func try(conn *pgx.Conn, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	var lines []string
	for _, row := range results[len(results)-1].Rows {
		var cells []string
		for _, v := range row {
			cells = append(cells, string(v))
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	return strings.Join(lines, "\n"), nil
}

func sqlstate(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestClusterServes(t *testing.T) {
	c := startCluster(t, ClusterOptions{Log: func(l string) { t.Log(l) }})
	a, b := dial(t, c), dial(t, c)
	value(t, a, "CREATE TABLE t (i int PRIMARY KEY, v text); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g")
	if got := value(t, b, "SELECT count(*), sum(i) FROM t"); got != "100|5050" {
		t.Error(got)
	}
	t.Log(value(t, a, "SELECT pid, backend_type, client_addr, state FROM pg_stat_activity ORDER BY 1"))
	value(t, a, "BEGIN; UPDATE t SET v = 'x' WHERE i = 1")
	if got := value(t, b, "SELECT v FROM t WHERE i = 1"); got != "1" {
		t.Error(got)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := try(b, "UPDATE t SET v = v || 'y' WHERE i = 1"); err != nil {
			t.Error(err)
		}
	})
	value(t, a, "COMMIT")
	wg.Wait()
	if got := value(t, b, "SELECT v FROM t WHERE i = 1"); got != "xy" {
		t.Error(got)
	}
	value(t, a, "CHECKPOINT")
	t.Logf("%+v", c.Stats())
	if err := c.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}
