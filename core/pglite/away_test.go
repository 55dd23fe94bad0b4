package pglite

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/memfs"
)

// madeOnce is a database with a table t of 40000 rows in some 2000 pages, and a smaller one, u; PostgreSQL has been shut down.
var madeOnce struct {
	mu sync.Mutex
	fs *memfs.FS
}

func makeOnce(t testing.TB) *memfs.FS {
	t.Helper()
	madeOnce.mu.Lock()
	defer madeOnce.mu.Unlock()
	if madeOnce.fs == nil {
		c := startCluster(t, ClusterOptions{Settings: map[string]string{"autovacuum": "off"}})
		conn := dial(t, c)
		value(t, conn, `CREATE TABLE t (i int PRIMARY KEY, v int, pad text);
			INSERT INTO t SELECT i, i % 1000, repeat(md5(i::text), 10) FROM generate_series(1, 40000) i;
			CREATE INDEX ON t (v); CREATE TABLE u (i int); INSERT INTO u SELECT generate_series(1, 100)`)
		value(t, conn, "VACUUM ANALYZE")
		if err := errors.Join(conn.Close(t.Context()), c.Shutdown(t.Context())); err != nil {
			t.Fatal(err)
		}
		madeOnce.fs = c.Data()
	}
	return madeOnce.fs.Clone()
}

// made returns a clone of it whose tables and indexes are only on the shelf.
func made(t testing.TB) (*memfs.FS, *shelf) {
	t.Helper()
	fs, s := makeOnce(t), newShelf()
	s.layer(t, fs)
	evict(fs, 0)
	if fs.AwayBytes() < 16<<20 {
		t.Fatalf("%d bytes are away", fs.AwayBytes())
	}
	return fs, s
}

// startAway starts PostgreSQL on it, and a session.
func startAway(t testing.TB) (*Cluster, *shelf, *pgx.Conn) {
	t.Helper()
	return startAwayLog(t, nil)
}

// startAwayLog is startAway with a server log.
func startAwayLog(t testing.TB, log func(string)) (*Cluster, *shelf, *pgx.Conn) {
	t.Helper()
	fs, s := made(t)
	c := startCluster(t, ClusterOptions{Data: fs, Source: s, Log: log, Settings: map[string]string{"autovacuum": "off"}})
	return c, s, dial(t, c)
}

// pathOf returns a table's file.
func pathOf(t testing.TB, conn *pgx.Conn, table string) string {
	t.Helper()
	return "/" + value(t, conn, "SELECT pg_relation_filepath('"+table+"')")
}

// TestAwayIsFetched: a database whose bytes are all away works, and fetches what it touches.
func TestAwayIsFetched(t *testing.T) {
	c, s, conn := startAway(t)
	before := s.count()
	if got := value(t, conn, "SELECT v FROM t WHERE i = 31001"); got != "1" {
		t.Error(got)
	}
	if n := s.count() - before; n > 80 {
		t.Errorf("%d chunks were fetched for one row", n)
	}
	sum := "SELECT count(*) || ' ' || sum(v) || ' ' || md5(string_agg(pad, '' ORDER BY i)) FROM t"
	want := value(t, conn, sum)
	if !strings.HasPrefix(want, "40000 19980000 ") {
		t.Error(want)
	}
	value(t, conn, "CREATE TABLE w AS SELECT i, v FROM t WHERE i % 2 = 0; UPDATE t SET v = v + 1 WHERE i % 10 = 0")
	value(t, conn, "CHECKPOINT")
	for range 3 {
		c.Locked(func() {
			s.layer(t, c.Data())
			evict(c.Data(), 0)
		})
		for sql, want := range map[string]string{
			"SELECT count(*) || ' ' || sum(v) FROM t":           "40000 19984000",
			"SELECT count(*) FROM w":                            "20000",
			"SELECT count(*) FROM t WHERE v = 7":                "40",
			"SELECT md5(string_agg(pad, '' ORDER BY i)) FROM t": want[len("40000 19980000 "):],
			"VACUUM t":        "",
			"REINDEX TABLE t": "",
			"SELECT count(*) FROM t a JOIN w b USING (i) WHERE a.v <> b.v AND i % 10 = 0":     "4000",
			"SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u', 'w') AND relpages > 0": "2",
		} {
			if got := value(t, conn, sql); got != want && !strings.Contains(sql, "pg_class") {
				t.Errorf("%s: %s, want %s", sql, got, want)
			}
		}
	}
	st := c.Stats()
	if st.Fetches == 0 || st.Fetching != 0 {
		t.Errorf("%+v", st)
	}
	if err := c.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOthersRunMeanwhile: a process that waits for bytes delays only those that want the same bytes; all get them.
func TestOthersRunMeanwhile(t *testing.T) {
	c, s, conn := startAway(t)
	release := s.hold(pathOf(t, conn, "t"))
	defer release()
	value(t, conn, "SELECT count(*) FROM pg_stat_activity")
	var same []chan error
	for range 3 {
		one := dial(t, c)
		same = append(same, later(one, "SELECT 1 / (count(pad) - 39999) FROM t"))
	}
	s.await(t, same[0])
	reads := "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT 1 /%' AND (wait_event = 'DataFileRead' OR wait_event = 'BufferIo' OR wait_event = 'AioIoCompletion' OR wait_event = 'SyncScan')"
	for value(t, conn, reads) != "3" {
		if len(same[0])+len(same[1])+len(same[2]) > 0 {
			t.Fatal("one did not wait")
		}
	}
	for range 20 {
		value(t, conn, "INSERT INTO u VALUES (1)")
	}
	value(t, conn, "CHECKPOINT")
	if got := value(t, conn, "SELECT count(*) FROM u"); got != "120" {
		t.Error(got)
	}
	if c.Stats().Fetching == 0 {
		t.Error("nobody waits")
	}
	release()
	for _, done := range same {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestFetchEnds: what ends a statement or a session ends its wait for bytes, and the client is told; the session, or the next one,
// continues.
func TestFetchEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		setting, sql, end, state string
		lives                    bool
		path                     string // the file held back; empty: that of t
	}{
		"cancel":              {"", "SELECT count(pad) FROM t", "SELECT pg_cancel_backend(%d)", "57014", true, ""},
		"cancel of a block":   {"", "BEGIN; INSERT INTO u VALUES (1); SELECT count(pad) FROM t", "SELECT pg_cancel_backend(%d)", "57014", true, ""},
		"cancel of an update": {"", "UPDATE t SET v = 0", "SELECT pg_cancel_backend(%d)", "57014", true, ""},
		"cancel of a vacuum":  {"", "VACUUM (FREEZE) t", "SELECT pg_cancel_backend(%d)", "57014", true, ""},
		"a handler": {
			"", "DO $$ BEGIN PERFORM count(pad) FROM t; EXCEPTION WHEN OTHERS THEN INSERT INTO u VALUES (7); END $$", "SELECT pg_cancel_backend(%d)",
			"57014", true, "",
		},
		"terminate":           {"", "SELECT count(pad) FROM t", "SELECT pg_terminate_backend(%d)", "57P01", false, ""},
		"statement timeout":   {"SET statement_timeout = 50", "SELECT count(pad) FROM t", "", "57014", true, ""},
		"transaction timeout": {"SET transaction_timeout = 50", "SELECT count(pad) FROM t", "", "25P04", false, ""},
		"cancel of a copy":    {sql: "CREATE DATABASE d TEMPLATE template1 STRATEGY file_copy", end: "SELECT pg_cancel_backend(%d)", state: "57014", lives: true, path: "/base/1/1259"},
	} {
		t.Run(name, func(t *testing.T) {
			var log lockedLog
			c, s, look := startAwayLog(t, log.line)
			if tt.path == "" {
				tt.path = pathOf(t, look, "t")
			}
			release := s.hold(tt.path)
			defer release()
			conn := dial(t, c)
			value(t, conn, tt.setting)
			pid := conn.PgConn().PID()
			done := later(conn, tt.sql)
			s.await(t, done)
			if tt.end != "" {
				value(t, look, fmt.Sprintf(tt.end, pid))
			}
			if err := <-done; sqlstate(err) != tt.state {
				t.Errorf("%v, want %s", err, tt.state)
			}
			if strings.Contains(log.String(), "could not read") || strings.Contains(log.String(), "could not fetch") {
				t.Errorf("the log tells of a broken disk: %s", log.String())
			}
			release()
			if tt.lives {
				value(t, conn, "ROLLBACK; RESET ALL")
			} else {
				conn = dial(t, c)
			}
			for sql, want := range map[string]string{"SELECT count(pad) FROM t": "40000", "SELECT count(*) FROM u": "100"} {
				if got := value(t, conn, sql); got != want {
					t.Errorf("%s: %s", sql, got)
				}
			}
		})
	}
}

// TestFetchFails: an error of the source becomes the statement's.
func TestFetchFails(t *testing.T) {
	var log lockedLog
	c, s, conn := startAwayLog(t, log.line)
	path := pathOf(t, conn, "t")
	s.fail(path, errors.New("page/7-1 is damaged"))
	var heard []string
	for _, sql := range []string{"SELECT count(pad) FROM t", "UPDATE t SET v = 1 WHERE i = 9", "VACUUM t"} {
		_, err := try(conn, sql)
		if sqlstate(err) != "58030" {
			t.Errorf("%s: %v", sql, err)
		}
		heard = append(heard, value(t, conn, "SELECT count(*) FROM u"))
	}
	if fmt.Sprint(heard) != "[100 100 100]" {
		t.Error(heard)
	}
	if !strings.Contains(log.String(), "page/7-1 is damaged") || !strings.Contains(log.String(), "could not read blocks") {
		t.Error(log.String())
	}
	s.fail(path, nil)
	if got := value(t, conn, "UPDATE t SET v = 1 WHERE i = 9; SELECT count(pad) FROM t"); got != "40000" {
		t.Error(got)
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// TestKillWhileFetching: nothing remains running.
func TestKillWhileFetching(t *testing.T) {
	c, s, conn := startAway(t)
	defer s.hold(pathOf(t, conn, "t"))()
	done := later(conn, "SELECT count(pad) FROM t")
	s.await(t, done)
	c.Kill()
	if err := <-done; err == nil {
		t.Error("it has an answer")
	}
}

// TestStartWithoutSource: unavailable data stops a start with a clear message.
func TestStartWithoutSource(t *testing.T) {
	fs, s := made(t)
	var log lockedLog
	c, err := testRuntime(t).StartCluster(t.Context(), ClusterOptions{Data: fs.Clone(), Log: log.line})
	if err == nil {
		t.Cleanup(c.Kill)
		_, err = pgx.ConnectConfig(t.Context(), config(t, c, "postgres", "postgres"))
	}
	if err == nil || !strings.Contains(log.String(), "could not fetch") {
		t.Errorf("%v, %s", err, log.String())
	}
	for _, file := range []string{"/global/pg_control", "/postgresql.conf"} { // files that the host itself reads
		info, err := fs.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		body, err := fs.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := origin{}
		for off := 0; off < len(body); off += memfs.ChunkSize {
			at = append(at, s.put(file, int64(off/memfs.ChunkSize), body[off:min(off+memfs.ChunkSize, len(body))]))
		}
		if err := fs.Settle(info.Ino, fs.Mark(), at); err != nil {
			t.Fatal(err)
		}
	}
	fs.Evict(memfs.Eviction{})
	s.fail("/postgresql.conf", errors.New("gone"))
	if _, err := testRuntime(t).StartCluster(t.Context(), ClusterOptions{Data: fs.Clone(), Source: s}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Error(err)
	}
	s.fail("/postgresql.conf", nil)
	startCluster(t, ClusterOptions{Data: fs, Source: s})
}
