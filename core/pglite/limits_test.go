package pglite

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/wasmbin"
)

func TestDeepRecursion(t *testing.T) {
	in := quiet(t)
	rows(t, in, "CREATE FUNCTION deep(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN deep(i + 1); END $$")
	rows(t, in, "CREATE FUNCTION deep_sql(i int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT deep_sql(i + 1)'")
	rows(t, in, `CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO b VALUES (1); RETURN NEW; END $$;
		CREATE TABLE b (i int); CREATE TRIGGER t BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION again()`)
	for _, c := range []struct{ sql, state string }{
		{"SELECT deep(0)", "54001"},
		{"SELECT deep_sql(0)", "54001"},
		{"INSERT INTO b VALUES (0)", "54001"},
		{"SELECT 1" + strings.Repeat(" + 1", 100_000), "54001"},
		{"SELECT 1" + strings.Repeat(" UNION ALL SELECT 1", 20_000), "54001"},
		{"SELECT " + strings.Repeat("abs(", 4000) + "1" + strings.Repeat(")", 4000), "54001"},
		{"SELECT (repeat('(', 1000000) || 'a')::tsquery", "54001"},
		{"SELECT (repeat('[', 200000) || repeat(']', 200000))::jsonb", "54001"},
		{"SELECT 'a' ~ (repeat('(', 100000) || 'a' || repeat(')', 100000))", "2201B"},            // "too complex"
		{"SELECT " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000), "42601"}, // the parser's own stack
	} {
		wantState(t, in, c.sql, c.state)
	}
	want(t, in, `CREATE FUNCTION bounded(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF i = 0 THEN RETURN 0; END IF; RETURN 1 + bounded(i - 1); END $$;
		SELECT bounded(200)`, "200")
	want(t, in, `DO $$ BEGIN PERFORM deep(0); EXCEPTION WHEN statement_too_complex THEN INSERT INTO a VALUES (1, 'caught'); END $$;
		SELECT v FROM a`, "caught")
	want(t, in, "SELECT "+strings.Repeat("abs(", 1000)+"-1"+strings.Repeat(")", 1000), "1")
}

// A trap ends the instance, and what was committed is there for the next one.
func TestTrap(t *testing.T) {
	in := quiet(t)
	rows(t, in, "INSERT INTO a VALUES (1, 'kept')")
	if _, err := in.Query(t.Context(), "INSERT INTO a VALUES (2); SELECT repeat('[', 5000000)::json"); !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
	<-in.Done()
	again, _ := startOn(t, in.Data())
	want(t, again, "SELECT * FROM a", "1|kept")
}

func TestOutOfMemory(t *testing.T) {
	in := start(t, ClusterOptions{MemoryLimit: 192 << 20})
	rows(t, in, "CREATE TABLE a (v text)")
	for _, sql := range []string{
		"SELECT repeat('x', 200 * 1024 * 1024)",
		"SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 500)",
		"SELECT array_agg(g || repeat('x', 1000)) FROM generate_series(1, 1000000) g",
		"INSERT INTO a SELECT repeat('x', 200 * 1024 * 1024)",
		"SELECT '" + strings.Repeat("y", 120<<20) + "'",
	} {
		if _, err := in.Query(t.Context(), sql); err != nil {
			wantPgError(t, err, "53200")
		} else {
			t.Fatalf("%.60s: fitted", sql)
		}
		want(t, in, "SELECT count(*) FROM a", "0")
	}
	wantState(t, in, "BEGIN; INSERT INTO a VALUES ('x'); SELECT repeat('x', 200 * 1024 * 1024)", "53200")
	want(t, in, `DO $$ BEGIN PERFORM repeat('x', 200 * 1024 * 1024); EXCEPTION WHEN out_of_memory THEN INSERT INTO a VALUES ('caught'); END $$;
		SELECT v FROM a`, "caught")
	want(t, in, "INSERT INTO a SELECT repeat('x', 1000) FROM generate_series(1, 1000); SELECT count(*) FROM a", "1001")
	mem := in.conn.Process().in.mem
	if got := len(mem.b) - wasmbin.GuardBytes; got > 192<<20 {
		t.Fatalf("the memory has %d bytes", got)
	}
	if guard := mem.b[len(mem.b)-wasmbin.GuardBytes:]; len(bytes.Trim(guard, "\x00")) > 0 {
		t.Fatal("something was written to the guard page")
	}
}

func TestDiskFull(t *testing.T) {
	rt := testRuntime(t)
	data, err := rt.Template(t.Context(), memfs.Options{MaxBytes: 48 << 20})
	if err != nil {
		t.Fatal(err)
	}
	in := start(t, ClusterOptions{Data: data})
	rows(t, in, "CREATE TABLE a (v text); INSERT INTO a VALUES ('kept'); CREATE TEMP TABLE b (v text)")
	// Temporary tables write no WAL, so the table's file is what hits the full disk.
	wantState(t, in, "INSERT INTO b SELECT repeat('x', 1000) FROM generate_series(1, 100000)", "53100")
	want(t, in, "SELECT count(*) FROM b", "0")
	rows(t, in, "DROP TABLE b")
	want(t, in, "INSERT INTO a VALUES ('again'); SELECT count(*) FROM a", "2")
	wantState(t, in, "SELECT count(*) FROM (SELECT g, repeat('x', 1000) FROM generate_series(1, 200000) g ORDER BY 2 DESC, 1) s", "53100")
	want(t, in, "SELECT count(*) FROM a", "2")
}

// logged returns a function for ClusterOptions.Log that passes on the lines a statement wrote by RAISE LOG, and the channel that receives
// them.
func logged() (func(string), chan string) {
	lines := make(chan string, 100)
	return func(s string) {
		if _, text, ok := strings.Cut(s, "LOG:  mark"); ok {
			lines <- text
		}
	}, lines
}

// busy is a statement that reports that it runs and then computes forever.
const busy = "DO $$ DECLARE i bigint := 0; BEGIN RAISE LOG 'mark busy'; LOOP i := i + 1; END LOOP; END $$"

// asleep is a statement that waits forever.
const asleep = "DO $$ BEGIN RAISE LOG 'mark asleep'; PERFORM pg_sleep(1e6); END $$"

// begin runs SQL in another goroutine.
func begin(ctx context.Context, in *server, sql string) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := in.Query(ctx, sql)
		done <- err
	}()
	return done
}

// stoppable starts an instance on a clock that stands still, so that a statement can be caught in the middle: started waits until one has
// reported that it runs.
func stoppable(t testing.TB, o ClusterOptions) (in *server, clk *clock.Virtual, started func()) {
	clk = clock.NewVirtual(time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC))
	log, lines := logged()
	o.Clock, o.Log = clk, log
	in = start(t, o)
	rows(t, in, "CREATE TABLE a (id int)")
	return in, clk, func() { <-lines }
}

// promptly fails the test if it took longer than a person would call immediate.
func promptly(t testing.TB, since time.Time) {
	t.Helper()
	took := time.Since(since)
	t.Logf("stopped after %v", took)
	if took > 2*time.Second {
		t.Fatalf("it took %v", took)
	}
}

func TestCancel(t *testing.T) {
	in, _, started := stoppable(t, ClusterOptions{})
	in.Cancel() // nothing runs
	for _, sql := range []string{busy, asleep, "BEGIN; INSERT INTO a VALUES (1); " + asleep} {
		done := begin(t.Context(), in, sql)
		started()
		at := time.Now()
		in.Cancel()
		wantPgError(t, <-done, "57014")
		promptly(t, at)
		rows(t, in, "ROLLBACK")
		want(t, in, "SELECT count(*) FROM a", "0")
	}
	// One that handles the cancel itself.
	done := begin(t.Context(), in, strings.Replace(asleep, "; END", "; EXCEPTION WHEN query_canceled THEN INSERT INTO a VALUES (1); END", 1))
	started()
	in.Cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want(t, in, "SELECT count(*) FROM a", "1")
}

func TestStatementTimeout(t *testing.T) {
	const limit = 5 * time.Second
	in, clk, started := stoppable(t, ClusterOptions{Settings: map[string]string{"statement_timeout": "5s"}})
	for _, sql := range []string{busy, asleep} {
		done := begin(t.Context(), in, sql)
		started()
		at := time.Now()
		clk.Advance(limit)
		wantPgError(t, <-done, "57014")
		promptly(t, at)
	}
	for range 3 { // the time counts anew for each
		done := begin(t.Context(), in, `DO $$ DECLARE t timestamptz := clock_timestamp();
			BEGIN RAISE LOG 'mark'; WHILE clock_timestamp() = t LOOP END LOOP; END $$`)
		started()
		clk.Advance(limit - time.Millisecond)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	want(t, in, "SELECT 1", "1")
}

func TestKill(t *testing.T) {
	for name, sql := range map[string]string{
		"busy":                busy,
		"asleep":              asleep,
		"handles the cancel":  strings.Replace(busy, "END LOOP;", "END LOOP; EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(1e6);", 1),
		"more statements":     asleep + "; INSERT INTO a VALUES (1)",
		"within a subroutine": "DO $$ BEGIN RAISE LOG 'mark sub'; EXECUTE 'SELECT pg_sleep(1e6)'; EXCEPTION WHEN OTHERS OR query_canceled THEN NULL; END $$",
	} {
		t.Run(name, func(t *testing.T) {
			in, _, started := stoppable(t, ClusterOptions{})
			done := begin(t.Context(), in, sql)
			started()
			at := time.Now()
			in.Kill()
			in.Kill()
			if err := <-done; !errors.Is(err, ErrDead) {
				t.Fatal(err)
			}
			promptly(t, at)
		})
	}
	t.Run("idle", func(t *testing.T) {
		in := start(t, ClusterOptions{})
		in.Kill()
	})
	t.Run("while many statements run", func(t *testing.T) {
		in := start(t, ClusterOptions{})
		done := make(chan error, 1)
		go func() {
			for {
				if _, err := in.Query(context.Background(), "SELECT 1"); err != nil {
					done <- err
					return
				}
			}
		}()
		in.Kill()
		if err := <-done; !errors.Is(err, ErrDead) {
			t.Fatal(err)
		}
	})
}

func TestLargeRow(t *testing.T) {
	in := quiet(t)
	const size = 50 << 20
	value := strings.Repeat("0123456789abcdef", size/16)
	var out sizes
	messages := encode(t, &pgproto3.Parse{Query: "INSERT INTO a VALUES (1, $1)"}, bind("", "", value), &pgproto3.Execute{}, &pgproto3.Sync{})
	if err := in.Exec(t.Context(), messages, &out); err != nil {
		t.Fatal(err)
	}
	want(t, in, "SELECT length(v), md5(v) = md5(repeat('0123456789abcdef', length(v) / 16)) FROM a", "52428800|t")
	got := rows(t, in, "SELECT v FROM a")
	if got != value {
		t.Fatalf("%d bytes came back, not the %d that were stored", len(got), size)
	}
}
