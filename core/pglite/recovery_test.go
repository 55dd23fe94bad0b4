package pglite

import (
	"errors"
	"strings"
	"testing"

	"blobpglite/core/memfs"
)

// startOn starts PostgreSQL on a data directory and returns its log.
func startOn(t testing.TB, data *memfs.FS) (*server, *lockedLog) {
	t.Helper()
	s := start(t, ClusterOptions{Data: data})
	return s, s.log
}

const recovered = "redo done" // what PostgreSQL logs when it has recovered

// A crash is a copy of the files without a shutdown.
func TestCrashKeepsWhatWasCommitted(t *testing.T) {
	in := quiet(t)
	rows(t, in, "CREATE SEQUENCE s; CREATE INDEX ON a (v)")
	for range 50 {
		rows(t, in, "INSERT INTO a SELECT nextval('s'), repeat('v', 100) FROM generate_series(1, 20)")
	}
	rows(t, in, "DELETE FROM a WHERE id % 10 = 0; CREATE UNLOGGED TABLE u (i int); INSERT INTO u VALUES (1)")
	again, log := startOn(t, in.Data().Clone())
	if !strings.Contains(log.String(), recovered) {
		t.Fatalf("no recovery in its log:\n%s", log)
	}
	want(t, again, "SELECT count(*), sum(id), sum(length(v)) FROM a", "900|450000|90000")
	want(t, again, "SET enable_seqscan = off; SELECT count(*) FROM a WHERE v = repeat('v', 100)", "900")
	want(t, again, "SELECT count(*) FROM u", "0") // unlogged tables are emptied
	want(t, again, "SELECT nextval('s') > 1000", "t")
	rows(t, again, "INSERT INTO a VALUES (0, 'after')")
	third, _ := startOn(t, again.Data().Clone())
	want(t, third, "SELECT count(*) FROM a", "901")
}

func TestCrashWithinATransaction(t *testing.T) {
	in := quiet(t)
	rows(t, in, "INSERT INTO a VALUES (1, 'kept')")
	rows(t, in, "BEGIN; INSERT INTO a SELECT g, repeat('x', 500) FROM generate_series(2, 20000) g; CREATE TABLE b (i int); DELETE FROM a WHERE id = 1")
	rows(t, in, "CHECKPOINT") // uncommitted data is in the files
	again, _ := startOn(t, in.Data().Clone())
	want(t, again, "SELECT * FROM a", "1|kept")
	want(t, again, "SELECT count(*) FROM pg_class WHERE relname = 'b'", "0")
	rows(t, in, "COMMIT")
	third, _ := startOn(t, in.Data().Clone())
	want(t, third, "SELECT count(*) FROM a", "19999")
}

// Kill in the middle of a statement is a crash too.
func TestCrashWithinAStatement(t *testing.T) {
	in, _, started := stoppable(t, ClusterOptions{})
	rows(t, in, "INSERT INTO a VALUES (1)")
	done := begin(t.Context(), in, "INSERT INTO a SELECT g FROM generate_series(2, 10000) g; "+busy)
	started()
	in.Kill()
	if err := <-done; !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
	again, _ := startOn(t, in.Data())
	want(t, again, "SELECT count(*) FROM a", "1")
}
