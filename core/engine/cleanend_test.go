package engine

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store/mem"
)

// TestCleanEndOfADurableDatabase: where everything is durable that was acknowledged, an orderly end writes no record.
func TestCleanEndOfADurableDatabase(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	var mu sync.Mutex
	var passed []point.Point
	e := open(t, st, inLog, func(o *Options) {
		o.Hook = func(_ context.Context, p point.Point) error {
			mu.Lock()
			defer mu.Unlock()
			passed = append(passed, p)
			return nil
		}
	})
	must(t, e, "CREATE TABLE t (a int)")
	must(t, e, "INSERT INTO t SELECT generate_series(1, 100)")
	mu.Lock()
	passed = nil
	mu.Unlock()
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(passed, point.WalBeforePut) {
		t.Errorf("the end wrote a record: %v", passed)
	}
	e = open(t, st, inLog)
	if got := must(t, e, "SELECT count(*) FROM t"); got != "100" {
		t.Errorf("%s rows of 100 are left", got)
	}
}

// eventually waits for something of the cluster that no query needs to look at.
func eventually(t *testing.T, e *Engine, is func(*pglite.Cluster) bool) {
	t.Helper()
	for range 20000 {
		yes := false
		if err := e.server.locked(func(c *pglite.Cluster) { yes = is(c) }); err != nil {
			t.Fatal(err)
		}
		if yes {
			return
		}
		if err := e.o.Clock.Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("it has not come to that")
}

// TestCleanEndKeepsWhatIsInBuffers: commits with synchronous_commit=off survive an orderly end, whichever session made them.
func TestCleanEndKeepsWhatIsInBuffers(t *testing.T) {
	t.Parallel()
	slow := func(o *Options) {
		inLog(o)
		o.Settings = map[string]string{"wal_writer_delay": "10s", "autovacuum": "off"} // no one else writes them out
	}
	for name, commit := range map[string]func(t *testing.T, e *Engine){
		"of a session that has ended": func(t *testing.T, e *Engine) {
			c := client(t, e)
			pid := do(t, c, "SELECT pg_backend_pid()")
			do(t, c, "SET synchronous_commit = off; INSERT INTO t VALUES (1)")
			if err := c.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, e, func(c *pglite.Cluster) bool { // a query to PostgreSQL might make it write its buffers out
				return !slices.ContainsFunc(c.Processes(), func(p *pglite.Process) bool { return strconv.Itoa(int(p.PID())) == pid })
			})
		},
		"of a procedure that still runs": func(t *testing.T, e *Engine) {
			c := client(t, e)
			do(t, c, "SET synchronous_commit = off")
			before := uint64(0)
			eventually(t, e, func(c *pglite.Cluster) bool { before = c.Completions(); return true })
			later(t, c, "DO 'BEGIN INSERT INTO t VALUES (1); COMMIT; PERFORM pg_sleep(600); END'")
			eventually(t, e, func(c *pglite.Cluster) bool { return c.Completions() > before })
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, slow)
			must(t, e, "CREATE TABLE t (a int)")
			commit(t, e)
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			e = open(t, st, slow)
			if got := must(t, e, "SELECT count(*) FROM t"); got != "1" {
				t.Errorf("%s rows of 1 are left", got)
			}
		})
	}
}
