package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/core/store/mem"
)

// beside sends a request in another goroutine.
func beside(t *testing.T, s *httptest.Server, sql ...string) chan reply {
	t.Helper()
	done := make(chan reply, 1)
	go func() { done <- send(t.Context(), s, "/sql", query(sql...)) }()
	return done
}

// query is the body of a request; with more than one statement, that of a batch.
func query(sql ...string) string {
	var q any = statement{SQL: sql[0], Params: []json.RawMessage{}}
	if len(sql) > 1 {
		batch := make([]statement, len(sql))
		for i := range sql {
			batch[i].SQL = sql[i]
		}
		q = map[string]any{"batch": batch}
	}
	b, err := json.Marshal(q)
	if err != nil {
		panic(err) // texts
	}
	return string(b)
}

// until repeats the query until the answer contains want.
func until(t *testing.T, s *httptest.Server, sql, want string) {
	t.Helper()
	var r reply
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if r = send(t.Context(), s, "/sql", query(sql)); strings.Contains(r.body, want) {
			return
		}
	}
	t.Fatalf("%s: %v, never %s", sql, r, want)
}

// mustPost sends a request that must succeed.
func mustPost(t *testing.T, s *httptest.Server, sql ...string) string {
	t.Helper()
	status, body, _ := post(t, s, query(sql...))
	if status != 200 {
		t.Fatalf("%s: %d %s", sql, status, body)
	}
	return body
}

// untilGo is a statement that runs until another request has committed a row.
const untilGo = `DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.001); END LOOP; END $$`

// TestRequestsRunSideBySide: a long-running request blocks no other, and sees what the others commit while it runs.
func TestRequestsRunSideBySide(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	mustPost(t, s, "CREATE TABLE go (i int)")
	mustPost(t, s, "CREATE TABLE t (i int)")
	long := beside(t, s, untilGo)
	until(t, s, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'", "[[1]]")
	var wg sync.WaitGroup
	const many, each = 8, 10
	for range many {
		wg.Go(func() {
			for range each {
				if status, body, _ := post(t, s, query("INSERT INTO t VALUES (1)", "SELECT pg_backend_pid()")); status != 200 {
					t.Errorf("%d %s", status, body)
				}
			}
		})
	}
	wg.Wait()
	if body := mustPost(t, s, "SELECT count(*) FROM t"); !strings.Contains(body, fmt.Sprintf("[[%d]]", many*each)) {
		t.Error(body)
	}
	select {
	case r := <-long:
		t.Fatal("the long one has ended:", r)
	default:
	}
	mustPost(t, s, "INSERT INTO go VALUES (1)")
	if r := <-long; r.status != 200 {
		t.Error(r)
	}
}

// TestConflicts between requests are PostgreSQL's own: one waits for the other's row, and of two that wait for each other one fails.
func TestConflicts(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	mustPost(t, s, "CREATE TABLE t (i int PRIMARY KEY, v int)")
	mustPost(t, s, "CREATE TABLE go (i int)")
	mustPost(t, s, "INSERT INTO t VALUES (1, 0), (2, 0)")
	batch := func(first, second int) chan reply {
		const update = "UPDATE t SET v = v + 1 WHERE i = %d"
		return beside(t, s, fmt.Sprintf(update, first), untilGo, fmt.Sprintf(update, second))
	}
	a, b := batch(1, 2), batch(2, 1)
	until(t, s, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'", "[[2]]")
	mustPost(t, s, "INSERT INTO go VALUES (1)")
	one, other := <-a, <-b
	if one.status > other.status {
		one, other = other, one
	}
	if one.status != 200 || other.status != 409 || !strings.Contains(other.body, "40P01") {
		t.Errorf("%v\n%v", one, other)
	}
	if body := mustPost(t, s, "SELECT sum(v) FROM t"); !strings.Contains(body, `[["2"]]`) && !strings.Contains(body, "[[2]]") {
		t.Error(body)
	}
}

// TestRequestsLeaveNothing: neither in the session that the next one gets, nor in the database if they fail.
func TestRequestsLeaveNothing(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.MaxSessions = 1 })
	mustPost(t, s, "CREATE TABLE t (id serial, v int UNIQUE)")
	for _, c := range []struct {
		name, leave string
		status      int
		look, want  string
	}{
		{"a setting", query("SET work_mem = '1MB'"), 200, "SHOW work_mem", "64MB"},
		{"a temporary table", query("CREATE TEMP TABLE t AS SELECT 42 AS id"), 200, "SELECT count(*) FROM t", "[[0]]"},
		{"an advisory lock", query("SELECT pg_advisory_lock(7)"), 200, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "[[0]]"},
		{"a prepared statement", query("PREPARE p AS SELECT 1"), 200, "SELECT count(*) FROM pg_prepared_statements", "[[0]]"},
		{"LISTEN", query("LISTEN news"), 200, "SELECT count(*) FROM pg_listening_channels()", "[[0]]"},
		{"currval", query("SELECT nextval('t_id_seq')"), 200, "SELECT lastval()", "55000"},
		{"an open transaction", query("BEGIN"), 200, "SELECT pg_current_xact_id_if_assigned() IS NULL", "true"},
		{"an aborted batch", query("INSERT INTO t (v) VALUES (1)", "SELECT pg_advisory_lock(8)", "SET work_mem = '2MB'", "SELECT 1/0"), 400,
			"SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS n, current_setting('work_mem')", `[[0,"64MB"]]`},
		{"a batch that breaks a rule", query("INSERT INTO t (v) VALUES (1)", "INSERT INTO t (v) VALUES (1)"), 409, "SELECT count(*) FROM t", "[[0]]"},
		{"a batch that commits in between", query("INSERT INTO t (v) VALUES (1)", "/**/COMMIT AND CHAIN", "SELECT 1/0"), 400, "SELECT count(*) FROM t", "[[0]]"},
		{"a batch that rolls back in between", query("INSERT INTO t (v) VALUES (1)", "/**/ROLLBACK -- TO\n AND CHAIN", "INSERT INTO t (v) VALUES (2)"), 400, "SELECT count(*) FROM t", "[[0]]"},
		{"a time limit", query("SET statement_timeout = 1"), 200, "SELECT pg_sleep(0.05)", "SELECT 1"},
		{"a time limit of a batch", query("SET LOCAL statement_timeout = 1", "SELECT pg_sleep(100)"), 504, "SHOW statement_timeout", `"0"`},
	} {
		if status, body, _ := post(t, s, c.leave); status != c.status {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
		if _, body, _ := post(t, s, query(c.look)); !strings.Contains(body, c.want) {
			t.Errorf("%s: %s, want %s", c.name, body, c.want)
		}
	}
}

// TestClientGoesAway: its statement is canceled, and its session is not used again.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	mustPost(t, s, "CREATE TABLE t (i int)")
	const running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%vic' || 'tim%'"
	for _, sql := range []string{"INSERT INTO t SELECT 1 FROM pg_sleep(1000) victim", "DO $$ BEGIN INSERT INTO t VALUES (1); LOOP END LOOP; END /* victim */ $$"} {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan reply, 1)
		go func() { gone <- send(ctx, s, "/sql", query(sql)) }()
		until(t, s, running, "[[1]]")
		cancel()
		if r := <-gone; !errors.Is(r.err, context.Canceled) {
			t.Error(r)
		}
		until(t, s, running, "[[0]]")
	}
	if body := mustPost(t, s, "SELECT count(*) FROM t"); !strings.Contains(body, "[[0]]") {
		t.Error(body)
	}
}

// TestPostgreSQLCrashes: all sessions end with it; what was acknowledged is there for the next request.
func TestPostgreSQLCrashes(t *testing.T) {
	t.Parallel()
	var crash atomic.Bool
	broken := errors.New("a process fails")
	st := mem.New(mem.Options{})
	s := service(t, func(ctx context.Context) (*engine.Engine, error) {
		return engine.Open(ctx, engine.Options{Runtime: rt, Store: st, Create: true, Hook: func(_ context.Context, p point.Point) error {
			if p == point.ProcessBeforeStart && crash.CompareAndSwap(true, false) {
				return broken
			}
			return nil
		}})
	})
	mustPost(t, s, "CREATE TABLE go (i int)")
	mustPost(t, s, "CREATE TABLE t (i int)")
	for round := range 3 {
		mustPost(t, s, "INSERT INTO t VALUES (1)")
		long := beside(t, s, untilGo)
		until(t, s, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'", "[[1]]")
		crash.Store(true)
		for _, other := range []chan reply{beside(t, s, untilGo), beside(t, s, untilGo)} { // one of them needs a process more
			if r := <-other; r.status != 503 && r.status != 500 {
				t.Errorf("round %d: %v", round, r)
			}
		}
		if r := <-long; r.status != 500 || !strings.Contains(r.body, `"outcome":"unknown"`) || !strings.Contains(r.body, "57P02") {
			t.Errorf("round %d: what ran: %v", round, r)
		}
		if body := mustPost(t, s, "SELECT count(*) FROM t"); !strings.Contains(body, fmt.Sprintf("[[%d]]", round+1)) {
			t.Errorf("round %d: %s", round, body)
		}
	}
}

// TestOtherDatabases: by name in the URL; idle sessions do not prevent dropping one.
func TestOtherDatabases(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.IdleSession = 50 * time.Millisecond })
	in := func(database, sql string) (int, string) {
		r := send(t.Context(), s, "/sql?database="+database, query(sql))
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.status, r.body
	}
	mustPost(t, s, `CREATE DATABASE "an other"`)
	if status, body := in("an%20other", "CREATE TABLE only_here AS SELECT current_database()"); status != 200 {
		t.Fatal(status, body)
	}
	if status, body := in("an%20other", "SELECT * FROM only_here"); status != 200 || !strings.Contains(body, "an other") {
		t.Error(status, body)
	}
	if status, body, _ := post(t, s, query("SELECT * FROM only_here")); status != 400 || !strings.Contains(body, "42P01") {
		t.Error(status, body)
	}
	for database, want := range map[string]int{"none": 404, "template0": 400, "": 400, "a%00b": 400} {
		if status, body := in(database, "SELECT 1"); status != want || !strings.Contains(body, `"outcome":"failed"`) {
			t.Errorf("%q: %d %s", database, status, body)
		}
	}
	mustPost(t, s, `DROP DATABASE "an other"`)
	if status, body := in("an%20other", "SELECT 1"); status != 404 || !strings.Contains(body, "3D000") {
		t.Error(status, body)
	}
}

// TestTooManySessions: a request that gets no session within its patience is told to try again.
func TestTooManySessions(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})), func(o *Options) { o.MaxSessions, o.SessionTimeout = 2, 50*time.Millisecond })
	mustPost(t, s, "CREATE TABLE go (i int)")
	long := beside(t, s, untilGo)
	until(t, s, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO%'", "[[1]]")
	other := beside(t, s, "SELECT pg_advisory_lock(1), pg_sleep(1000)")
	r := reply{}
	for end := time.Now().Add(time.Minute); r.status != 503 && time.Now().Before(end); {
		r = <-beside(t, s, "SELECT 1")
	}
	if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "53300") || !strings.Contains(r.body, "2 sessions are in use") {
		t.Error(r)
	}
	s.CloseClientConnections() // both go away
	<-long
	<-other
	until(t, s, "SELECT 1", "[[1]]")
}
