package pglite

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"blobpglite/core/memfs"
)

// The host's checkpoint needs no session and returns once it is written; many callers may request one concurrently.
func TestHostCheckpoint(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	a := dial(t, c)
	const at = "SELECT redo_lsn FROM pg_control_checkpoint()"
	value(t, a, "CREATE TABLE t (i int)")
	before := value(t, a, at)
	if err := c.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := value(t, a, at)
	if after == before {
		t.Errorf("no checkpoint was written: %s", after)
	}
	if err := c.Checkpoint(t.Context()); err != nil { // nothing to do
		t.Fatal(err)
	}
	value(t, a, "BEGIN; INSERT INTO t SELECT generate_series(1, 10000)")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := c.Checkpoint(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := value(t, a, at); got == after {
		t.Errorf("no checkpoint was written within a transaction: %s", got)
	}
	c.Kill()
	if err := c.Checkpoint(t.Context()); !errors.Is(err, ErrDead) {
		t.Error(err)
	}
	if c.TransactionAge() != 0 {
		t.Error("a cluster that has ended tells an age")
	}
}

// Commits of others can be seen only after the count has risen: read-only transactions, and the statements of an open one, do not count.
func TestCompletions(t *testing.T) {
	c := startCluster(t, ClusterOptions{Settings: map[string]string{"max_prepared_transactions": "2", "autovacuum": "off"}})
	a := dial(t, c)
	value(t, a, "CREATE TABLE t (i int)")
	count := func() (n uint64) {
		c.Locked(func() { n = c.Completions() })
		return n
	}
	for _, step := range []struct {
		sql  string
		more uint64
	}{
		{"SELECT * FROM t", 0}, {"INSERT INTO t VALUES (1)", 1}, {"BEGIN", 0}, {"INSERT INTO t VALUES (2)", 0}, {"COMMIT", 1},
		{"SET synchronous_commit = off; INSERT INTO t VALUES (3)", 1},
		{"BEGIN; INSERT INTO t VALUES (4); PREPARE TRANSACTION 'p'", 1}, {"COMMIT PREPARED 'p'", 1}, {"BEGIN; SELECT * FROM t; COMMIT", 0},
	} {
		before := count()
		value(t, a, step.sql)
		if got := count() - before; got != step.more {
			t.Errorf("%s: %d more, want %d", step.sql, got, step.more)
		}
	}
}

// A held process lets all others run, can be canceled, and continues.
func TestHold(t *testing.T) {
	files, err := testRuntime(t).Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := startCluster(t, ClusterOptions{Data: files, Settings: map[string]string{"autovacuum": "off"}})
	a, b := dial(t, c), dial(t, c)
	value(t, a, "CREATE TABLE t (i int, v text)")
	const insert = "INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g"
	for _, cancel := range []bool{false, true} {
		gate, held := make(chan struct{}), make(chan struct{}, 1)
		c.Locked(func() {
			written := 0
			files.SetHooks(memfs.Hooks{Write: func(name string, _ int64, p []byte) {
				if written += len(p); strings.HasPrefix(name, "/pg_wal/") && written > 2<<20 && c.Current().Kind() == KindClient {
					c.Current().Hold(gate)
					select {
					case held <- struct{}{}:
					default:
					}
				}
			}})
		})
		done := later(a, insert)
		<-held
		for range 100 {
			value(t, b, "SELECT 1")
		}
		select {
		case err := <-done:
			t.Errorf("it was held, and has ended: %v", err)
		default:
		}
		if cancel {
			value(t, b, fmt.Sprintf("SELECT pg_cancel_backend(%d)", a.PgConn().PID()))
			if err := <-done; sqlstate(err) != "57014" {
				t.Error(err)
			}
			close(gate)
			continue
		}
		close(gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	c.Locked(func() { files.SetHooks(memfs.Hooks{}) })
	if got := value(t, b, "SELECT count(*) FROM t"); got != "20000" {
		t.Errorf("%s rows", got)
	}
	// A process whose transaction has failed writes nothing more: its client is told immediately, however long the others are held.
	if _, err := try(a, "BEGIN; SELECT 1/0"); sqlstate(err) != "22012" {
		t.Fatal(err)
	}
	c.Locked(func() {
		for _, p := range c.Processes() {
			if p.PID() == a.PgConn().PID() {
				p.Hold(make(chan struct{}))
			}
		}
	})
	select {
	case err := <-later(a, "ROLLBACK"):
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second): // at ten, something else of PostgreSQL's wakes it for a moment
		t.Error("held behind its end")
	}
}
