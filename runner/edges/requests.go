package edges

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

func requestCases() []Case {
	return []Case{
		{"http-sessions", "HTTP requests run concurrently, each in its own session: when all are in use, requests wait; none leaves anything to the next, and none delays the end", httpSessions},
	}
}

// leftovers are what a request leaves in its session, and how the next one would see it.
var leftovers = []struct{ leave, look, want string }{
	{"SET work_mem = '1MB'", "SHOW work_mem", "64MB"},
	{"SET search_path = pg_catalog", "SHOW search_path", "public"},
	{"SELECT set_config('app.tenant', '7', false)", "SELECT coalesce(current_setting('app.tenant', true), '') = '' AS empty", "true"},
	{"CREATE TEMP TABLE kept AS SELECT 1", "SELECT count(*) > 0 FROM pg_class WHERE relname = 'kept' AND relpersistence = 't'", "false"},
	{"PREPARE p AS SELECT 1", "SELECT count(*) = 0 FROM pg_prepared_statements", "true"},
	{"SELECT pg_advisory_lock(7)", "SELECT pg_try_advisory_xact_lock(7)", "true"},
	{"LISTEN news", "SELECT count(*) = 0 FROM pg_listening_channels()", "true"},
	{"SELECT nextval('ids')", "SELECT lastval()", "55000"},
	{"BEGIN", "SELECT pg_current_xact_id_if_assigned() IS NULL", "true"},
	{"SET SESSION AUTHORIZATION app", "SELECT session_user", `"postgres"`},
	{"SET statement_timeout = 1", "SELECT pg_sleep(0.05)", "SELECT 1"},
}

func httpSessions(ctx context.Context, t *Trial) error {
	const sessions = 4
	s, err := t.start(ctx, t.fresh(), "-http-sessions", fmt.Sprint(sessions), "-grace", "2s")
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept (id int)", "CREATE TABLE go (id int)", "CREATE SEQUENCE ids", "CREATE ROLE app"); err != nil {
		return err
	}
	long := make(chan reply, 1)
	go func() {
		got, err := s.sql(ctx, "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.001); END LOOP; END $$")
		if err != nil {
			got.body = err.Error()
		}
		long <- got
	}()
	for _, l := range leftovers {
		for range sessions { // any session
			got, err := s.sql(ctx, l.leave)
			t.expect(err == nil && got.status == http.StatusOK, "%s: %d %.200s, %v", l.leave, got.status, got.body, err)
			got, err = s.sql(ctx, l.look)
			t.expect(err == nil && strings.Contains(got.body, l.want), "after %s, %s: %.200s, %v", l.leave, l.look, got.body, err)
		}
	}
	rows := t.beside(ctx, s, 3*sessions)
	n := s.count(ctx, "kept")
	t.expect(n == rows, "%d rows of %d are there", n, rows)
	_, err = s.sql(ctx, "INSERT INTO go VALUES (1)")
	if got := <-long; err != nil || got.status != http.StatusOK {
		t.expect(false, "the long request: %d %.200s, %v", got.status, got.body, err)
	}
	if err := t.otherDatabase(ctx, s); err != nil {
		return err
	}
	return t.endBesideRequests(ctx, s)
}

// beside lets many requests insert rows concurrently, and counts the rows.
func (t *Trial) beside(ctx context.Context, s *server, many int) (rows int) {
	each := t.size(20)
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			for range each {
				got, err := s.sql(ctx, "INSERT INTO kept VALUES (1)")
				t.expect(err == nil && got.status == http.StatusOK, "of %d at once: %d %.200s, %v", many, got.status, got.body, err)
			}
		})
	}
	wg.Wait()
	return many * each
}

// otherDatabase checks that another database is reachable by name, and that idle sessions do not keep it from being dropped.
func (t *Trial) otherDatabase(ctx context.Context, s *server) error {
	const json = "application/json"
	for _, step := range []struct {
		path, sql string
		status    int
		want      string
	}{
		{"/sql", "CREATE DATABASE other", 200, ""},
		{"/sql?database=other", "SELECT current_database()", 200, "other"},
		{"/sql?database=other", "SELECT * FROM kept", 400, "42P01"},
		{"/sql?database=none", "SELECT 1", 404, "3D000"},
		{"/sql", "DROP DATABASE other", 200, ""},
		{"/sql?database=other", "SELECT 1", 404, "3D000"},
	} {
		got, err := s.post(ctx, step.path, fmt.Sprintf(`{"sql": %q}`, step.sql), "Content-Type", json)
		if err != nil {
			return err
		}
		t.expect(got.status == step.status && strings.Contains(got.body, step.want), "%s, %s: %d %.200s", step.path, step.sql, got.status, got.body)
	}
	return nil
}

// endBesideRequests: one that does not let itself be canceled keeps the end up for the grace, and no longer.
func (t *Trial) endBesideRequests(ctx context.Context, s *server) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.sql(ctx, "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$")
	}()
	for running := 0; running == 0; {
		var err error
		if running, err = s.number(ctx, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"); err != nil {
			return err
		}
	}
	at := t.clk.Monotonic()
	err := s.end(ctx)
	took := t.clk.Monotonic() - at
	t.o.Metrics.Duration("end_ms", took)
	const most = 10 * time.Second
	t.expect(err == nil && took < most, "SIGTERM during a request that traps cancellation: %v after %v", err, took)
	<-ended
	return nil
}
