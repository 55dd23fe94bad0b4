package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// crash makes a process of PostgreSQL fail when it is armed: the next one that signals another.
type crash struct {
	armed   atomic.Bool
	restart func() error // at the fault point before PostgreSQL is started again; nil: nothing
}

var errDied = errors.New("died")

func (c *crash) hook(_ context.Context, p point.Point) error {
	switch {
	case p == point.ProcessBeforeSignal && c.armed.CompareAndSwap(true, false):
		return errDied
	case p == point.ProcessBeforeRestart && c.restart != nil:
		return c.restart()
	}
	return nil
}

// strike makes PostgreSQL crash through a client, unless another process is faster.
func (c *crash) strike(t *testing.T, by *pgconn.PgConn) {
	t.Helper()
	c.armed.Store(true)
	if _, err := try(t.Context(), by, "SELECT pg_reload_conf()"); err == nil {
		t.Error("PostgreSQL has crashed, and has answered")
	}
}

func crashing(c *crash) func(*Options) {
	return func(o *Options) { o.LeaseTTL, o.RestoreBudget, o.Hook = time.Hour, -1, c.hook }
}

// One process fails: all clients lose their connection, what was committed is there in the restarted PostgreSQL, everything else is gone;
// and what is committed then is durable as before.
func TestCrashOfPostgreSQL(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeLog, ModeSnapshot} {
		t.Run(string(mode), func(t *testing.T) {
			var c crash
			st := mem.New(mem.Options{})
			e := open(t, st, inLog, crashing(&c), func(o *Options) { o.Mode = mode })
			must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
			for round := range 3 {
				a, b := client(t, e), client(t, e)
				do(t, b, "BEGIN; INSERT INTO t VALUES (1000)")
				c.strike(t, a)
				if _, err := try(t.Context(), b, "COMMIT"); err == nil {
					t.Error("a transaction was committed in a PostgreSQL that has crashed")
				}
				if got := do(t, client(t, e), "SELECT count(*), max(a) FROM t"); got != []string{"1|1", "2|2", "3|3"}[round] {
					t.Errorf("round %d: %s", round, got)
				}
				must(t, e, []string{"INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)", "INSERT INTO t VALUES (4)"}[round])
			}
			if n := e.Stats().Restarts; n != 3 || e.Err() != nil {
				t.Errorf("%d restarts, %v", n, e.Err())
			}
			e.Abandon()
			if got := must(t, open(t, st, inLog, func(o *Options) { o.Mode = mode }), "SELECT count(*) || ' ' || max(a) FROM t"); got != "4 4" {
				t.Errorf("in the bucket: %s", got)
			}
		})
	}
}

// A commit that was on its way to the bucket when PostgreSQL crashed comes back; readers that see it wait until it is durable.
func TestCrashWithACommitOnItsWay(t *testing.T) {
	t.Parallel()
	var c crash
	e, g := onGate(t, crashing(&c))
	a, b := client(t, e), client(t, e)
	quiesce(t, e)
	g.shut()
	committed := later(t, a, "INSERT INTO t VALUES (100)")
	<-g.held
	c.strike(t, b)
	if _, err := try(t.Context(), b, "SELECT 1"); err == nil {
		t.Error("a connection has outlived PostgreSQL")
	}
	read := make(chan error, 1)
	go func() {
		next, err := dial(t.Context(), e, "postgres", "postgres")
		if err == nil {
			var got string
			if got, err = try(t.Context(), next, "SELECT count(*) FROM t WHERE a = 100"); err == nil && got != "1" {
				err = fmt.Errorf("a commit is lost: %s", got)
			}
			_ = next.Conn().Close()
		}
		read <- err
	}()
	if !waits(t, e, read, 1) {
		t.Error("what is not durable is told after a crash")
	}
	g.open()
	if err := <-read; err != nil {
		t.Error(err)
	}
	if err := <-committed; err != nil { // it was answered before the crash
		t.Error(err)
	}
	e.Abandon()
	if got := must(t, open(t, g.Store, inLog), "SELECT count(*) FROM t WHERE a = 100"); got != "1" {
		t.Errorf("a commit is lost in the bucket: %s", got)
	}
}

// A PostgreSQL that cannot be restarted, or does not recover what was written, ends the engine: the bucket has everything acknowledged.
func TestCrashThatIsTheEnd(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]struct {
		do func(*memfs.FS, wal.Op) error
		is error
	}{
		"no start": {func(*memfs.FS, wal.Op) error { return errDied }, errDied},
		"a log that ends early": {func(files *memfs.FS, last wal.Op) error {
			files.SetHooks(memfs.Hooks{}) // the writes go unnoticed
			f, err := files.Open(last.Path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(make([]byte, 30), last.Offset-29) // of the last record
			return err
		}, ErrRecovery},
	} {
		t.Run(name, func(t *testing.T) {
			var c crash
			st := mem.New(mem.Options{})
			e := open(t, st, inLog, crashing(&c))
			must(t, e, "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
			if err := e.checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			must(t, e, "CREATE TABLE u AS SELECT 1")
			c.restart = func() error { return damage.do(e.server.cluster.Data(), e.commits.reached()[0].Ops[0]) }
			c.strike(t, client(t, e))
			<-e.Failed()
			if err := e.Err(); !errors.Is(err, damage.is) {
				t.Errorf("the engine ended with %v", err)
			}
			if _, err := e.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrPoisoned) {
				t.Error(err)
			}
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if got := must(t, open(t, st, inLog), "SELECT count(*) FROM t"); got != "5000" {
				t.Errorf("%s rows", got)
			}
		})
	}
}

// While PostgreSQL is started again clients wait, for a while.
func TestClientsWaitForTheRestart(t *testing.T) {
	t.Parallel()
	var c crash
	begun, go_on := make(chan struct{}), make(chan struct{})
	c.restart = func() error {
		close(begun)
		<-go_on
		return nil
	}
	e := open(t, mem.New(mem.Options{}), inLog, crashing(&c))
	must(t, e, "CREATE TABLE t (a int)")
	c.strike(t, client(t, e))
	<-begun
	if _, err := e.ready(t.Context(), time.Millisecond); !errors.Is(err, ErrStarting) {
		t.Error(err)
	}
	if err := e.Compact(t.Context()); !errors.Is(err, ErrCrashed) {
		t.Errorf("a layer of a PostgreSQL that is not there: %v", err)
	}
	came := make(chan error, 1)
	go func() {
		conn, err := dial(t.Context(), e, "postgres", "postgres")
		if err == nil {
			_, err = try(t.Context(), conn, "SELECT * FROM t")
			_ = conn.Conn().Close()
		}
		came <- err
	}()
	close(go_on)
	if err := <-came; err != nil {
		t.Error(err)
	}
}

// An engine that ends while PostgreSQL is started again ends.
func TestEndWithinARestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Engine) error{
		"close":   func(e *Engine) error { return e.Close(context.Background()) },
		"abandon": func(e *Engine) error { e.Abandon(); return nil },
		"halt":    func(e *Engine) error { e.Halt(); return e.Close(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			var c crash
			begun, ended := make(chan struct{}), make(chan struct{})
			c.restart = func() error {
				close(begun)
				<-ended
				return nil
			}
			st := mem.New(mem.Options{})
			e := open(t, st, inLog, crashing(&c))
			must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
			c.strike(t, client(t, e))
			<-begun
			done := make(chan error, 1)
			go func() { done <- end(e) }()
			for e.serves() == nil {
				if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			close(ended)
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := must(t, open(t, st, inLog), "SELECT count(*) FROM t"); got != "1" {
				t.Errorf("%s rows", got)
			}
		})
	}
}
