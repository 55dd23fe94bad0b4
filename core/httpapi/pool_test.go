package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// end is a client's end of a process as a pool needs it: without an engine, so that nothing waits for a bucket.
type end struct {
	*pglite.Conn
	rest []byte

	mu   sync.Mutex
	ctx  context.Context // until the deadline
	stop context.CancelFunc
}

func newEnd(c *pglite.Conn) *end {
	e := &end{Conn: c}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

func (e *end) Read(b []byte) (int, error) {
	e.mu.Lock()
	ctx := e.ctx
	e.mu.Unlock()
	for len(e.rest) == 0 {
		a, err := e.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = os.ErrDeadlineExceeded
			}
			return 0, err
		}
		e.rest = a.Bytes
	}
	n := copy(b, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *end) Close() error {
	e.stop()
	return e.Conn.Close()
}

func (*end) HoldAnswers(bool) {}

func (e *end) LocalAddr() net.Addr            { return &net.UnixAddr{} }
func (e *end) RemoteAddr() net.Addr           { return &net.UnixAddr{} }
func (e *end) SetDeadline(at time.Time) error { return e.SetReadDeadline(at) }
func (*end) SetWriteDeadline(time.Time) error { return nil }
func (e *end) SetReadDeadline(at time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	stop := e.stop
	if !at.IsZero() {
		time.AfterFunc(time.Until(at), stop)
	}
	return nil
}

// ofCluster is a pool over a PostgreSQL in memory.
func ofCluster(t *testing.T, clk clock.Clock, change func(*Options)) (*pool, *pglite.Cluster) {
	t.Helper()
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.StartCluster(t.Context(), pglite.ClusterOptions{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Clock: clk}
	if err := o.bounds(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	how, err := newConnector(clk, "", func(ctx context.Context) (backend, error) {
		conn, err := c.Connect(ctx, pglite.ConnectOptions{Trusted: true})
		if err != nil {
			return nil, err
		}
		return newEnd(conn), nil
	}, func(context.Context) (string, error) { return "", errors.New("the superuser has another name") })
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(how, o)
	t.Cleanup(func() {
		if err := p.close(context.Background()); err != nil {
			t.Error(err)
		}
		c.Kill()
	})
	return p, c
}

// get is an acquire that must succeed.
func (p *pool) get(t *testing.T, database string) *session {
	t.Helper()
	s, err := p.acquire(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask is the first value that a statement returns.
func ask(t *testing.T, s *session, sql string) string {
	t.Helper()
	results, err := s.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Errorf("%s: %v", sql, err)
		return ""
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return last.CommandTag.String()
	}
	return string(last.Rows[0][0])
}

// TestNothingIsLeft: whatever a request leaves in its session, the next one finds none of it, and gets the same process.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	p, _ := ofCluster(t, clock.System(), nil)
	s := p.get(t, "postgres")
	pid := ask(t, s, "SELECT pg_backend_pid()")
	ask(t, s, "CREATE TABLE t (id serial); CREATE TABLE hidden (i int); CREATE ROLE app; CREATE SCHEMA other; GRANT ALL ON SCHEMA other TO app")
	p.release(s, true)
	for _, c := range []struct{ name, leave, look, want string }{
		{"a setting", "SET work_mem = '1MB'", "SHOW work_mem", "64MB"},
		{"a setting of its own", "SET app.tenant = '7'", "SELECT coalesce(current_setting('app.tenant', true), '')", ""},
		{"search_path", "SET search_path = other", "SELECT current_schema()", "public"},
		{"time limits", "SET statement_timeout = 1; SET lock_timeout = 1; SET idle_session_timeout = 1", "SELECT current_setting('statement_timeout') || current_setting('lock_timeout') || current_setting('idle_session_timeout')", "000"},
		{"client_encoding", "SET client_encoding = SQL_ASCII", "SHOW client_encoding", "UTF8"},
		{"a role", "SET ROLE app", "SELECT current_user || ' ' || session_user", "postgres postgres"},
		{"a session's user", "SET SESSION AUTHORIZATION app", "SELECT current_user || ' ' || session_user", "postgres postgres"},
		{"what transactions are", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE", "SELECT current_setting('transaction_read_only') || ' ' || current_setting('transaction_isolation')", "off read committed"},
		{"a temporary table", "CREATE TEMP TABLE t AS SELECT 42 AS id; CREATE TEMP TABLE lone AS SELECT 1", "SELECT count(*) || ' ' || (to_regclass('lone') IS NULL) FROM t", "0 true"},
		{"a prepared statement", "PREPARE p AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", "0"},
		{"a cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE name = 'c'", "0"},
		{"an advisory lock", "SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"},
		{"LISTEN", "LISTEN news", "SELECT count(*) FROM pg_listening_channels()", "0"},
		{"currval", "SELECT nextval('t_id_seq')", "SELECT CASE WHEN pg_catalog.pg_sequence_last_value('t_id_seq') > 0 THEN 'kept' END", "kept"},
		{"a transaction", "BEGIN; INSERT INTO hidden VALUES (1)", "SELECT count(*) FROM hidden", "0"},
		{"a failed transaction", "BEGIN; SAVEPOINT a", "SELECT pg_current_xact_id_if_assigned() IS NULL", "t"},
		{"a snapshot", "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot()", "SELECT current_setting('transaction_isolation')", "read committed"},
		{"a plan", "SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT 1; EXECUTE p", "SHOW plan_cache_mode", "auto"},
	} {
		s := p.get(t, "postgres")
		ask(t, s, c.leave)
		p.release(s, true)
		s = p.get(t, "postgres")
		if got := ask(t, s, c.look); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if c.name == "currval" {
			if _, err := s.Exec(t.Context(), "SELECT lastval()").ReadAll(); sqlstate(err) != "55000" {
				t.Errorf("lastval: %v", err)
			}
		}
		if got := ask(t, s, "SELECT pg_backend_pid()"); got != pid {
			t.Errorf("%s: process %s, not %s", c.name, got, pid)
		}
		p.release(s, true)
	}
	var random []string
	for range 3 {
		s := p.get(t, "postgres")
		random = append(random, ask(t, s, "SELECT random()"))
		ask(t, s, "SELECT setseed(0.5)")
		p.release(s, true)
	}
	if slices.Sort(random); len(slices.Compact(random)) != 3 {
		t.Errorf("after a seed, random() is foreseen: %v", random)
	}
	if n := p.opened.Load(); n != 1 {
		t.Errorf("%d sessions were opened", n)
	}
}

func sqlstate(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// TestGivenUp: a request that is given up interrupts its statement, and its session is not used again.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	p, c := ofCluster(t, clock.System(), func(o *Options) { o.MaxSessions = 2 })
	look := p.get(t, "postgres")
	defer p.release(look, true)
	for _, sql := range []string{
		"SELECT pg_sleep(1000)", "DO $$ BEGIN LOOP END LOOP; END $$",
		"DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN END; END LOOP; END $$", // ended by force
	} {
		s := p.get(t, "postgres")
		pid := s.PID()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := s.Exec(ctx, sql).ReadAll()
			done <- err
		}()
		for ask(t, look, fmt.Sprint("SELECT state FROM pg_stat_activity WHERE pid = ", pid)) != "active" {
		}
		cancel()
		if err := <-done; err == nil {
			t.Errorf("%s: no error", sql)
		}
		p.release(s, false)
		<-s.backend.Done()
		if n := c.Stats().Processes[pglite.KindClient]; n != 1 {
			t.Errorf("%s: %d processes", sql, n)
		}
	}
}
