package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

// Two sessions' transactions conflict as in PostgreSQL, and their result is in the bucket.
func TestTransactionsConflict(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, settings("deadlock_timeout", "50ms"))
	must(t, e, "CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 0), (2, 0)")
	a, b := client(t, e), client(t, e)

	do(t, a, "BEGIN; UPDATE t SET b = b + 1 WHERE a = 1")
	waits := later(t, b, "UPDATE t SET b = b + 10 WHERE a = 1")
	becomes(t, e, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "1")
	do(t, a, "COMMIT")
	if err := <-waits; err != nil {
		t.Error(err)
	}

	do(t, a, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t")
	do(t, b, "UPDATE t SET b = b + 100 WHERE a = 1")
	if _, err := try(t.Context(), a, "UPDATE t SET b = 0 WHERE a = 1"); sqlstate(err) != "40001" {
		t.Errorf("a write that has not seen another: %v", err)
	}
	do(t, a, "ROLLBACK")

	do(t, a, "BEGIN; UPDATE t SET b = b + 1000 WHERE a = 1")
	do(t, b, "BEGIN; UPDATE t SET b = b + 1000 WHERE a = 2")
	first := later(t, a, "UPDATE t SET b = b + 1000 WHERE a = 2")
	becomes(t, e, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "1")
	_, second := try(t.Context(), b, "UPDATE t SET b = b + 1000 WHERE a = 1")
	failed := 0
	for _, err := range []error{<-first, second} {
		if sqlstate(err) == "40P01" {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if failed != 1 {
		t.Errorf("%d of two were told of their deadlock", failed)
	}
	for _, c := range []*pgconn.PgConn{a, b} {
		do(t, c, "COMMIT") // of one of them a ROLLBACK
	}
	e.Abandon()
	if got := must(t, open(t, st, inLog), "SELECT string_agg(b::text, ' ' ORDER BY a) FROM t"); got != "1111 1000" {
		t.Errorf("%s", got)
	}
}

// What many sessions commit at the same time, with layers, process crashes and a takeover in between, is there: money is neither made nor
// lost.
func TestManySessions(t *testing.T) {
	t.Parallel()
	const accounts, sessions, rounds, lives = 10, 12, 25, 3
	st := mem.New(mem.Options{})
	for life := range lives {
		e := open(t, st, inLog, settings("deadlock_timeout", "20ms"), func(o *Options) { o.RestoreBudget, o.RecordTime = 20*time.Millisecond, time.Millisecond })
		if life == 0 {
			must(t, e, fmt.Sprintf("CREATE TABLE acc (i int PRIMARY KEY, v int); INSERT INTO acc SELECT g, 100 FROM generate_series(1, %d) g; CREATE TABLE done (s int, n int, PRIMARY KEY (s, n))", accounts))
		}
		var acknowledged [sessions]int
		var wg sync.WaitGroup
		for s := range sessions {
			c := client(t, e)
			wg.Go(func() {
				for n := range rounds {
					x, y := (s+n)%accounts+1, (s*n+3)%accounts+1
					sql := fmt.Sprintf("BEGIN; UPDATE acc SET v = v - 1 WHERE i = %d; UPDATE acc SET v = v + 1 WHERE i = %d; INSERT INTO done VALUES (%d, %d); COMMIT", x, y, life*sessions+s, n)
					if _, err := try(context.WithoutCancel(t.Context()), c, sql); err == nil {
						acknowledged[s]++
					} else if code := sqlstate(err); code != "40P01" {
						t.Error(err)
						return
					} else if _, err := try(context.WithoutCancel(t.Context()), c, "ROLLBACK"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		e.Abandon()
		e = open(t, st, inLog)
		if got := must(t, e, "SELECT sum(v) FROM acc"); got != fmt.Sprint(100*accounts) {
			t.Errorf("life %d: the accounts have %s", life, got)
		}
		for s, n := range acknowledged {
			if got := must(t, e, fmt.Sprintf("SELECT count(*) FROM done WHERE s = %d", life*sessions+s)); got != fmt.Sprint(n) {
				t.Errorf("life %d, session %d: %d were acknowledged, %s are there", life, s, n, got)
			}
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The host has a single session: the state that one call leaves is there for the next, calls take turns, and clients are not affected.
func TestDesk(t *testing.T) {
	t.Parallel()
	e := open(t, mem.New(mem.Options{}), inLog)
	must(t, e, "CREATE TABLE t (a int); SET work_mem = '3MB'; CREATE TEMP TABLE mine (a int)")
	must(t, e, "BEGIN; INSERT INTO t VALUES (1)")
	if got := do(t, client(t, e), "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("a client sees the host's transaction: %s", got)
	}
	must(t, e, "COMMIT")
	if got := must(t, e, "SELECT current_setting('work_mem') || (SELECT count(*) FROM mine)"); got != "3MB0" {
		t.Errorf("the session has lost what it had: %s", got)
	}
	if _, err := e.Query(t.Context(), "SELECT 1/0"); sqlstate(err) != "22012" {
		t.Error(err)
	}

	// A statement is canceled with its context, and the session continues.
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for i := 0; i < 1e6 && ctx.Err() == nil; i++ {
			if got, err := e.server.running(); err != nil || got.Stats().Processes[pglite.KindClient] > 1 {
				cancel()
			}
		}
	}()
	if _, err := e.Query(ctx, "SELECT pg_sleep(100)"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	cancel()
	if got := must(t, e, "SHOW work_mem"); got != "3MB" {
		t.Errorf("a cancel has ended the session: %s", got)
	}

	// Messages as they come, without a Sync at their end, or with one in the middle; a Terminate does not end the session.
	encode := func(messages ...pgproto3.FrontendMessage) (b []byte) {
		for _, m := range messages {
			b, _ = m.Encode(b)
		}
		return b
	}
	var answer bytes.Buffer
	extended := encode(&pgproto3.Parse{Query: "SELECT 7"}, &pgproto3.Bind{}, &pgproto3.Execute{})
	if err := e.Exec(t.Context(), extended, &answer); err != nil || !strings.Contains(answer.String(), "7") {
		t.Errorf("%q, %v", answer.String(), err)
	}
	if err := e.Exec(t.Context(), extended[:len(extended)-1], io.Discard); !errors.Is(err, pglite.ErrMessage) {
		t.Errorf("a message that is cut short: %v", err)
	}
	if err := e.Exec(t.Context(), encode(&pgproto3.Terminate{}), io.Discard); err != nil {
		t.Error(err)
	}
	rows := encode(&pgproto3.Query{String: "COPY t FROM STDIN"}, &pgproto3.CopyData{Data: []byte("5\n6\n")}, &pgproto3.CopyDone{}, &pgproto3.Query{String: "SELECT max(a) FROM t"})
	answer.Reset()
	if err := e.Exec(t.Context(), rows, &answer); err != nil {
		t.Error(err)
	}
	if results, err := pglite.ParseResults(&answer); err != nil || len(results) != 2 || results[1].Rows[0][0] != "6" {
		t.Errorf("%v, %v", results, err)
	}
	if err := e.Exec(t.Context(), rows[:len("COPY t FROM STDIN")+6], io.Discard); !errors.Is(err, pglite.ErrMessage) {
		t.Errorf("COPY without data: %v", err)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != "3" {
		t.Errorf("%s rows", got)
	}
	if err := e.Exec(t.Context(), encode(&pgproto3.Query{String: "SELECT pg_terminate_backend(pg_backend_pid())"}), io.Discard); !errors.Is(err, ErrCrashed) && err != nil {
		t.Error(err)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != "3" {
		t.Errorf("%s rows in a new session", got)
	}
}

// The host finds its superuser and a database whatever their names, whatever their old names, and whatever clients have set for them; also
// after a restore.
func TestDeskFindsItsWayIn(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string][]string{
		"role renamed":   {"CREATE ROLE other SUPERUSER LOGIN", "SET SESSION AUTHORIZATION other; ALTER ROLE postgres RENAME TO boss"},
		"renamed twice":  {"CREATE ROLE other SUPERUSER LOGIN", "SET SESSION AUTHORIZATION other; ALTER ROLE postgres RENAME TO first; ALTER ROLE first RENAME TO boss"},
		"a new postgres": {"CREATE ROLE other SUPERUSER LOGIN", "SET SESSION AUTHORIZATION other; ALTER ROLE postgres RENAME TO boss; CREATE ROLE postgres LOGIN"},
		"no database":    {"CREATE DATABASE a", "ALTER DATABASE template1 IS_TEMPLATE false"},
		"hba, password":  {"ALTER ROLE postgres PASSWORD 'x'", "COPY (SELECT 'host all all all reject') TO '/pglite/data/pg_hba.conf'"},
		"what it would run": {"ALTER ROLE postgres SET session_preload_libraries = 'none_there'; ALTER ROLE postgres SET idle_session_timeout = '1ms'",
			"CREATE FUNCTION never() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nobody comes in'; END $$; CREATE EVENT TRIGGER x ON login EXECUTE FUNCTION never(); ALTER EVENT TRIGGER x ENABLE ALWAYS"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, inLog)
			must(t, e, "CREATE TABLE mark (a int)")
			c := client(t, e)
			for _, s := range sql {
				do(t, c, s)
			}
			if name == "no database" {
				o, err := dial(t.Context(), e, "postgres", "a")
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close(t.Context())
				must(t, e, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()")
				_ = e.host.conn.Close()
				do(t, o, "DROP DATABASE postgres WITH (FORCE)")
				do(t, o, "DROP DATABASE template1 WITH (FORCE)")
				_ = o.Close(t.Context())
			}
			for range 2 {
				if e.host.conn != nil {
					_ = e.host.conn.Close()
					<-e.host.conn.Done()
				}
				if got := must(t, e, "SELECT oid::text || ' ' || rolsuper FROM pg_roles WHERE rolname = session_user"); got != "10 true" {
					t.Errorf("the host is %s", got)
				}
				e.Abandon()
				e = open(t, st, inLog)
			}
		})
	}
}

// Further databases are as durable as the first one.
func TestSeveralDatabases(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog)
	must(t, e, "CREATE DATABASE shop")
	c, err := dial(t.Context(), e, "postgres", "shop")
	if err != nil {
		t.Fatal(err)
	}
	do(t, c, "CREATE TABLE t AS SELECT generate_series(1, 100) a")
	_ = c.Close(t.Context())
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Abandon()
	e = open(t, st, inLog)
	if c, err = dial(t.Context(), e, "postgres", "shop"); err != nil {
		t.Fatal(err)
	}
	if got := do(t, c, "SELECT count(*) FROM t"); got != "100" {
		t.Errorf("%s rows", got)
	}
	_ = c.Close(t.Context())
}

// A connection is a net.Conn: deadlines end reads and writes and take no answer away, and its end is heard of.
func TestConn(t *testing.T) {
	t.Parallel()
	e, g := onGate(t)
	c, err := e.login(t.Context(), "postgres", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	clk := clock.System()
	b := make([]byte, 4096)
	past := clk.Now().Add(-time.Second)
	_ = c.SetReadDeadline(past)
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read behind its time: %v", err)
	}
	_ = c.SetWriteDeadline(past)
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write behind its time: %v", err)
	}
	_ = c.SetDeadline(time.Time{})
	quiesce(t, e)
	g.shut()
	message, _ := (&pgproto3.Query{String: "INSERT INTO t VALUES (100)"}).Encode(nil)
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	<-g.held
	_ = c.SetReadDeadline(clk.Now().Add(time.Millisecond))
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read of what is not durable: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	g.open()
	if n, err := c.Read(b); err != nil || !bytes.Contains(b[:n], []byte("INSERT 0 1")) {
		t.Errorf("the answer is %q, %v", b[:n], err)
	}
	terminate, _ := (&pgproto3.Terminate{}).Encode(nil)
	if _, err := c.Write(terminate); err != nil {
		t.Fatal(err)
	}
	if n, err := c.WriteTo(io.Discard); n != 0 || err != nil {
		t.Errorf("an orderly end: %d bytes, %v", n, err)
	}
	if _, err := c.Read(b); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	other, err := e.login(t.Context(), "postgres", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := other.Read(b)
		read <- err
	}()
	_ = other.Close()
	if err := <-read; err == nil {
		t.Error("a read in a connection that was closed")
	}
	<-other.Done()
	third, err := e.login(t.Context(), "postgres", "postgres")
	if err != nil {
		t.Fatal(err)
	}
	e.Abandon()
	if _, err := third.Read(b); !errors.Is(err, ErrClosed) {
		t.Errorf("a read in an engine that has ended: %v", err)
	}
	if _, err := third.Write(message); !errors.Is(err, ErrClosed) {
		t.Errorf("a write in an engine that has ended: %v", err)
	}
	_ = third.Close()
}
