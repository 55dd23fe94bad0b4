package pglite

import (
	"errors"
	"sync"
	"testing"
)

// The host's checkpoint needs no session, waits until it is written, and many may ask for one at a time.
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

// What others have committed can be seen only when the count has risen: transactions that only read, and the statements of an open
// one, do not count.
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
