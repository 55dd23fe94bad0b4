package pglite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// later runs SQL in another goroutine.
func later(conn *pgx.Conn, sql string) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := try(conn, sql)
		done <- err
	}()
	return done
}

// untilWaits returns when n sessions wait for a lock.
func untilWaits(t testing.TB, conn *pgx.Conn, n int) {
	t.Helper()
	for range 10000 {
		if value(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == fmt.Sprint(n) {
			return
		}
	}
	t.Fatal("nobody waits for a lock")
}

func TestSessionsAreIsolated(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a, b := dial(t, c), dial(t, c)
	value(t, a, "CREATE TABLE t (i int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)")
	value(t, a, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t")
	value(t, b, "UPDATE t SET v = 7 WHERE i = 1")
	if got := value(t, a, "SELECT v FROM t WHERE i = 1"); got != "0" {
		t.Errorf("a repeatable read sees %s", got)
	}
	if _, err := try(a, "UPDATE t SET v = 8 WHERE i = 1"); sqlstate(err) != "40001" {
		t.Error(err)
	}
	value(t, a, "ROLLBACK")
	for _, conn := range []*pgx.Conn{a, b} {
		value(t, conn, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(v) FROM t")
	}
	value(t, a, "UPDATE t SET v = v + 1 WHERE i = 1")
	value(t, b, "UPDATE t SET v = v + 1 WHERE i = 2")
	value(t, a, "COMMIT")
	if _, err := try(b, "COMMIT"); sqlstate(err) != "40001" {
		t.Errorf("write skew: %v", err)
	}
}

func TestDeadlock(t *testing.T) {
	c := startCluster(t, ClusterOptions{Settings: map[string]string{"deadlock_timeout": "100ms"}})
	a, b, look := dial(t, c), dial(t, c), dial(t, c)
	value(t, a, "CREATE TABLE t (i int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0), (2, 0)")
	value(t, a, "BEGIN; UPDATE t SET v = 1 WHERE i = 1")
	value(t, b, "BEGIN; UPDATE t SET v = 2 WHERE i = 2")
	first := later(a, "UPDATE t SET v = 1 WHERE i = 2")
	untilWaits(t, look, 1)
	_, second := try(b, "UPDATE t SET v = 2 WHERE i = 1")
	failed := 0
	for _, err := range []error{<-first, second} {
		if sqlstate(err) == "40P01" {
			failed++
		} else if err != nil {
			t.Error(err)
		}
	}
	if failed != 1 {
		t.Errorf("%d of two were told of the deadlock", failed)
	}
}

func TestTimeLimitsAndCancel(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a, b := dial(t, c), dial(t, c)
	value(t, a, "CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
	for sql, want := range map[string]string{
		"SET statement_timeout = 50; SELECT pg_sleep(30)":                              "57014",
		"SET statement_timeout = 60; DO $$ BEGIN LOOP END LOOP; END $$":                "57014",
		"SET statement_timeout = 0; SET lock_timeout = 50; SELECT * FROM t FOR UPDATE": "55P03",
		"SELECT * FROM t FOR UPDATE NOWAIT":                                            "55P03",
	} {
		value(t, b, "BEGIN; SELECT * FROM t FOR UPDATE")
		if _, err := try(a, sql); sqlstate(err) != want {
			t.Errorf("%s: %v", sql, err)
		}
		value(t, b, "ROLLBACK")
		value(t, a, "RESET ALL")
	}
	if got := value(t, a, "SELECT count(*) FROM t"); got != "1" {
		t.Error(got)
	}
	pid := value(t, a, "SELECT pg_backend_pid()")
	for _, busy := range []string{"SELECT pg_sleep(100)", "DO $$ BEGIN LOOP END LOOP; END $$", "SELECT count(*) FROM generate_series(1, 100000000000) a"} {
		running := later(a, busy)
		for value(t, b, "SELECT state FROM pg_stat_activity WHERE pid = "+pid) != "active" {
		}
		value(t, b, "SELECT pg_cancel_backend("+pid+")")
		if err := <-running; sqlstate(err) != "57014" {
			t.Errorf("%s: %v", busy, err)
		}
	}
	running := later(a, "SELECT pg_sleep(100)")
	for value(t, b, "SELECT state FROM pg_stat_activity WHERE pid = "+pid) != "active" {
	}
	value(t, b, "SELECT pg_terminate_backend("+pid+", 5000)")
	if err := <-running; sqlstate(err) != "57P01" {
		t.Error(err)
	}
}

// A session's state is its own.
func TestSessionsAreTheirOwn(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a, b := dial(t, c), dial(t, c)
	value(t, a, "CREATE SEQUENCE s; SELECT nextval('s'); SET search_path = nowhere; CREATE TEMP TABLE mine (i int); PREPARE p AS SELECT 1; SELECT pg_advisory_lock(5); SET work_mem = '1MB'")
	for sql, want := range map[string]string{
		"SELECT currval('public.s')": "55000", "SELECT lastval()": "55000", "SELECT * FROM mine": "42P01", "EXECUTE p": "26000",
	} {
		if _, err := try(b, sql); sqlstate(err) != want {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if got := value(t, b, `SELECT current_setting('search_path'), current_setting('work_mem') = '1MB', pg_try_advisory_lock(5)`); got != `"$user", public|f|f` {
		t.Error(got)
	}
	value(t, a, "DISCARD ALL")
	if got := value(t, b, "SELECT pg_try_advisory_lock(5)"); got != "t" {
		t.Error(got)
	}
	// Notifications reach listeners only.
	value(t, b, "LISTEN news")
	value(t, a, "NOTIFY news, 'hello'")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := b.WaitForNotification(ctx)
	if err != nil || n.Payload != "hello" {
		t.Error(n, err)
	}
}

func TestRolesAndDatabases(t *testing.T) {
	rt := testRuntime(t)
	_ = rt
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	value(t, a, "CREATE ROLE bob LOGIN PASSWORD 'secret'; ALTER ROLE bob SET work_mem = '3MB'")
	value(t, a, "CREATE DATABASE shop OWNER bob")
	value(t, a, `COPY (SELECT E'host all postgres all trust\nhost all all all scram-sha-256') TO '/pglite/data/pg_hba.conf' WITH (FORMAT text, DELIMITER '~')`)
	hba := value(t, a, "SELECT pg_read_file('/pglite/data/pg_hba.conf')")
	if strings.Contains(hba, `\n`) { // COPY wrote the line ending as text: PostgreSQL's way to write a file with several lines
		value(t, a, `COPY (VALUES ('host all postgres all trust'), ('host all all all scram-sha-256')) TO '/pglite/data/pg_hba.conf'`)
	}
	value(t, a, "SELECT pg_reload_conf()")
	cfg := config(t, c, "bob", "shop")
	if _, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
		t.Error("bob came in without a password")
	}
	cfg.Password = "wrong"
	if _, err := pgx.ConnectConfig(t.Context(), cfg); sqlstate(err) != "28P01" {
		t.Error(err)
	}
	cfg.Password = "secret"
	b, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	if got := value(t, b, "SELECT session_user, current_database(), current_setting('is_superuser'), current_setting('work_mem'), inet_client_addr()"); got != "bob|shop|off|3MB|127.0.0.1" {
		t.Error(got)
	}
	for _, sql := range []string{"SET SESSION AUTHORIZATION postgres", "SET ROLE postgres", "RESET SESSION AUTHORIZATION; RESET ROLE; CREATE ROLE x"} {
		if _, err := try(b, sql); sqlstate(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := pgx.ConnectConfig(t.Context(), config(t, c, "nobody", "postgres")); sqlstate(err) != "28P01" && sqlstate(err) != "28000" {
		t.Error(err)
	}
	// A new process starts with the current configuration; a running one gets it too.
	value(t, a, "ALTER SYSTEM SET temp_buffers = '5MB'")
	value(t, a, "SELECT pg_reload_conf()")
	if got := value(t, dial(t, c), "SHOW temp_buffers"); got != "5MB" {
		t.Errorf("a new process has temp_buffers %s", got)
	}
	if got := value(t, a, "SHOW temp_buffers"); got != "5MB" {
		t.Errorf("a running process has temp_buffers %s", got)
	}
	// The host needs no password, whatever the file says.
	conn, err := c.Connect(t.Context(), ConnectOptions{Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// Many sessions move money between accounts: none is created or lost, whatever fails.
func TestTransfers(t *testing.T) {
	const accounts, sessions, rounds = 10, 16, 40
	c := startCluster(t, ClusterOptions{Settings: map[string]string{"deadlock_timeout": "20ms"}})
	a := dial(t, c)
	value(t, a, fmt.Sprintf("CREATE TABLE acc (i int PRIMARY KEY, v int); INSERT INTO acc SELECT g, 100 FROM generate_series(1, %d) g", accounts))
	var wg sync.WaitGroup
	for s := range sessions {
		conn := dial(t, c)
		level := []string{"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"}[s%3]
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(s)))
			for range rounds {
				x, y := r.IntN(accounts)+1, r.IntN(accounts)+1
				for _, sql := range []string{"BEGIN ISOLATION LEVEL " + level, fmt.Sprintf("UPDATE acc SET v = v - 1 WHERE i = %d", x), fmt.Sprintf("UPDATE acc SET v = v + 1 WHERE i = %d", y), "COMMIT"} {
					if _, err := try(conn, sql); err != nil {
						if code := sqlstate(err); code != "40001" && code != "40P01" {
							t.Error(err)
						}
						_, _ = try(conn, "ROLLBACK")
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if got := value(t, a, "SELECT sum(v) FROM acc"); got != fmt.Sprint(accounts*100) {
		t.Errorf("the accounts have %s", got)
	}
	t.Logf("%+v", c.Stats())
}

// Sessions come and go, orderly or not, and leave nothing behind.
func TestComeAndGo(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	value(t, a, "CREATE TABLE t (i int)")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 50 {
				conn, err := pgx.ConnectConfig(t.Context(), config(t, c, "postgres", "postgres"))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := try(conn, "CREATE TEMP TABLE x (i int); BEGIN; INSERT INTO t VALUES (1); SELECT pg_advisory_lock_shared(3)"); err != nil {
					t.Error(err)
				}
				if (n+w)%2 == 0 {
					_ = conn.PgConn().Conn().Close() // it vanishes
				} else {
					_ = conn.Close(context.Background())
				}
			}
		})
	}
	wg.Wait()
	for value(t, a, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'") != "1" {
	}
	if got := value(t, a, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_class WHERE relname = 'x')"); got != "0|0|0" {
		t.Error(got)
	}
	t.Logf("%+v", c.Stats())
}

// Go's garbage collector stops everything that it can stop: a computing statement does not delay it, and everything else with it. Without
// the beat nothing in the process would run any more.
func TestStatementsLetGoWork(t *testing.T) {
	if !alone(t) {
		return
	}
	c := startCluster(t, ClusterOptions{})
	a, b := dial(t, c), dial(t, c)
	pid := value(t, a, "SELECT pg_backend_pid()")
	running := later(a, "DO $$ BEGIN LOOP END LOOP; END $$")
	for value(t, b, "SELECT state FROM pg_stat_activity WHERE pid = "+pid) != "active" {
	}
	at := time.Now()
	for range 20 {
		runtime.GC()
	}
	t.Logf("20 collections beside a busy statement took %v", time.Since(at))
	var stop atomic.Bool
	collecting := make(chan struct{})
	go func() {
		defer close(collecting)
		for !stop.Load() {
			runtime.GC()
		}
	}()
	value(t, b, "SELECT pg_cancel_backend("+pid+")")
	if err := <-running; sqlstate(err) != "57014" {
		t.Error(err)
	}
	running = later(a, "DO $$ BEGIN LOOP END LOOP; END $$")
	for value(t, b, "SELECT state FROM pg_stat_activity WHERE pid = "+pid) != "active" {
	}
	c.Kill()
	if err := <-running; err == nil {
		t.Error("a statement without end has ended")
	}
	stop.Store(true)
	<-collecting
}

// Waiting for the one lock is visible from outside.
func TestStatsOfTheLock(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	var wg sync.WaitGroup
	for range 2 {
		conn := dial(t, c)
		wg.Go(func() { _, _ = conn.Exec(t.Context(), "DO $$ BEGIN LOOP END LOOP; END $$") })
	}
	for s := c.Stats(); s.Running != KindClient || s.Queued[KindClient] != 1; s = c.Stats() {
		if s.Queued[KindClient] > 1 || s.Processes[KindClient] > 2 {
			t.Fatalf("%+v", s)
		}
		runtime.Gosched()
	}
	c.Kill()
	wg.Wait()
}

// TestVanishedWhileItWaits: a client's request is carried out even if the client has gone and its process sends it something in the
// meantime; but a process that sends much ends.
func TestVanishedWhileItWaits(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	value(t, a, "CREATE TABLE t (v text); SELECT pg_advisory_lock(1)")
	for _, tt := range []struct{ say, want string }{{"'gone'", "1"}, {"repeat('gone', 100000)", "0"}} {
		b := dial(t, c)
		end := b.PgConn().Conn().(*netConn)
		failed := later(b, fmt.Sprintf("DO $$ BEGIN PERFORM pg_advisory_xact_lock(1); RAISE NOTICE '%%', %s; INSERT INTO t VALUES ('done'); END $$", tt.say))
		untilWaits(t, a, 1)
		if err := end.Close(); err != nil {
			t.Fatal(err)
		}
		value(t, a, "SELECT pg_advisory_unlock(1)")
		<-end.Done()
		if err := <-failed; err == nil {
			t.Error("a client that has gone was answered")
		}
		if got := value(t, a, "SELECT count(*) FROM t"); got != tt.want {
			t.Errorf("saying %s: %s rows, want %s", tt.say, got, tt.want)
		}
		value(t, a, "TRUNCATE t; SELECT pg_advisory_lock(1)")
	}
}
