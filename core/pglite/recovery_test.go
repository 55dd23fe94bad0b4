package pglite

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/memfs"
)

// startOn starts PostgreSQL on a data directory and returns its log.
func startOn(t testing.TB, data *memfs.FS) (*Instance, *strings.Builder) {
	t.Helper()
	var log strings.Builder
	in, err := testRuntime(t).Start(t.Context(), InstanceOptions{Data: data, Log: func(s string) { log.WriteString(s + "\n") }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Kill)
	return in, &log
}

const recovered = "redo done" // what PostgreSQL logs when it has recovered

// A crash is a copy of the files that nobody has shut down.
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
	rows(t, in, "CHECKPOINT") // what is not committed is in the files
	again, _ := startOn(t, in.Data().Clone())
	want(t, again, "SELECT * FROM a", "1|kept")
	want(t, again, "SELECT count(*) FROM pg_class WHERE relname = 'b'", "0")
	rows(t, in, "COMMIT")
	third, _ := startOn(t, in.Data().Clone())
	want(t, third, "SELECT count(*) FROM a", "19999")
}

// Kill in the middle of a statement is a crash too.
func TestCrashWithinAStatement(t *testing.T) {
	in, _, started := stoppable(t, InstanceOptions{})
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

func TestCloseAndOpenAgain(t *testing.T) {
	in := quiet(t)
	rows(t, in, "INSERT INTO a SELECT g FROM generate_series(1, 5000) g")
	if err := in.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReleased(t, in)
	if err := in.Close(t.Context()); err != nil {
		t.Fatalf("the second Close: %v", err)
	}
	in.Cancel()
	in.Kill()
	for name, call := range map[string]func() error{
		"Exec":          func() error { return in.Exec(t.Context(), encode(t, &pgproto3.Sync{}), io.Discard) },
		"Serve":         func() error { return in.Serve(t.Context(), readWriter{strings.NewReader(""), io.Discard}) },
		"InTransaction": func() error { _, err := in.InTransaction(); return err },
		"Image":         func() error { _, err := in.Image(); return err },
	} {
		if err := call(); !errors.Is(err, ErrDead) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, log := startOn(t, in.Data())
	if strings.Contains(log.String(), recovered) || strings.Contains(log.String(), "not properly shut down") {
		t.Fatalf("it recovered:\n%s", log)
	}
	want(t, again, "SELECT count(*) FROM a", "5000")
	if err := again.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Close rolls an open transaction back.
func TestCloseWithinATransaction(t *testing.T) {
	in := quiet(t)
	rows(t, in, "BEGIN; INSERT INTO a VALUES (1)")
	if err := in.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, _ := startOn(t, in.Data())
	want(t, again, "SELECT count(*) FROM a", "0")
}

// A Close that may not wait ends the instance all the same: as a crash.
func TestCloseWithEndedContext(t *testing.T) {
	in := quiet(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := in.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantReleased(t, in)
	again, log := startOn(t, in.Data())
	if !strings.Contains(log.String(), "not properly shut down") {
		t.Fatalf("it did not recover:\n%s", log)
	}
	want(t, again, "SELECT count(*) FROM a", "0")
}

type readWriter struct {
	io.Reader
	io.Writer
}
