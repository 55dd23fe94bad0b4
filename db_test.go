package blobpglite

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/store/mem"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/storefault"
)

// options share a runtime, and have short leases.
func options() Options {
	return Options{Runtime: shared, LeaseTTL: 2 * time.Second, AcquireTimeout: None, Name: "test"}
}

func open(t *testing.T, o Options, url string) *DB {
	t.Helper()
	db, err := o.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return db
}

func exec(t *testing.T, db *DB, sql string) {
	t.Helper()
	if _, err := db.Pool().Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func folder(t *testing.T) string { return "file://" + filepath.Join(t.TempDir(), "db") }

// TestSideBySide: database/sql and pgx see the same database, and what a closed one kept is there again after reopening.
func TestSideBySide(t *testing.T) {
	url := folder(t)
	db, err := options().Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, "CREATE TABLE n (i int)")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := db.SQL().ExecContext(t.Context(), "INSERT INTO n VALUES ($1)", 1); err != nil {
					t.Error(err)
				}
				if _, err := db.Pool().Exec(t.Context(), "INSERT INTO n VALUES ($1)", 2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(db.Close(t.Context()), db.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	again := open(t, options(), url)
	var ones, twos int
	if err := again.SQL().QueryRow("SELECT count(*) FILTER (WHERE i = 1), count(*) FILTER (WHERE i = 2) FROM n").Scan(&ones, &twos); err != nil || ones != 80 || twos != 80 {
		t.Errorf("%d and %d rows, %v: want 80 of each", ones, twos, err)
	}
}

// TestBadInput: each error says what is wrong, and nothing is left running (see TestMain).
func TestBadInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(full, "letter.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Options)) Options {
		o := options()
		change(&o)
		return o
	}
	for _, tt := range []struct {
		name, url string
		o         Options
		want      error
		text      string
	}{
		{"no scheme", "notes", options(), ErrInvalid, "gs://name/prefix"},
		{"another scheme", "s3://bucket/prefix", options(), ErrInvalid, "gs://name/prefix"},
		{"a bucket's root", "gs://bucket", options(), ErrInvalid, "the prefix is missing"},
		{"the file system's root", "file:///", options(), ErrInvalid, "the folder is missing"},
		{"another machine's folder", "file://host/db", options(), ErrInvalid, "three slashes"},
		{"a file in the way", "file://" + plain + "/db", options(), nil, plain},
		{"somebody else's folder", "file://" + full, options(), nil, full},
		{"no database", "file://" + filepath.Join(dir, "none"), with(func(o *Options) { o.NoCreate = true }), ErrNoDatabase, "none"},
		{"nothing to go back to", "file://" + filepath.Join(dir, "none"), with(func(o *Options) { o.At = time.Unix(1e9, 0) }), ErrNoDatabase, "none"},
		{"an earlier state of nothing", "mem:", with(func(o *Options) { o.At = time.Unix(1e9, 0) }), ErrInvalid, "in memory"},
		{"below zero", "mem:", with(func(o *Options) { o.FlushInterval = -time.Second }), ErrInvalid, "FlushInterval"},
		{"too many connections", "mem:", with(func(o *Options) { o.MaxConns = 1e6 }), ErrInvalid, "MaxConns"},
		{"too small a cache", "mem:", with(func(o *Options) { o.Cache = 1 }), nil, "too small"},
		{"no such durability", "mem:", with(func(o *Options) { o.Durability = "maybe" }), nil, `"maybe"`},
		{"a runtime by hand", "mem:", with(func(o *Options) { o.Runtime = &Runtime{} }), ErrInvalid, "NewRuntime"},
	} {
		db, err := tt.o.Open(t.Context(), tt.url)
		if db != nil || err == nil || !strings.Contains(err.Error(), tt.text) || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v with %q", tt.name, err, tt.want, tt.text)
		}
	}
}

// TestLocked: the second opener learns who has the database open.
func TestLocked(t *testing.T) {
	url := folder(t)
	open(t, options(), url)
	second := options()
	second.Name = "second"
	_, err := second.Open(t.Context(), url)
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) || !strings.HasPrefix(locked.Holder, "test/") || locked.ExpiresAt.IsZero() {
		t.Errorf("%v: want a LockedError that names the holder", err)
	}
}

// TestNested: no database inside another one's place, in a folder and in a bucket; the bucket is an emulator's.
func TestNested(t *testing.T) {
	url := folder(t)
	open(t, options(), url)
	for _, inside := range []string{url + "/wal", url + "/sub"} {
		if _, err := options().Open(t.Context(), inside); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "inside another") {
			t.Errorf("%s, inside %s: %v", inside, url, err)
		}
	}
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{"bucket"}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(front)
	t.Cleanup(server.Close)
	o := options()
	o.Endpoint = server.URL
	db := open(t, o, "gs://bucket/db")
	exec(t, db, "CREATE TABLE n (i int)")
	if _, err := o.Open(t.Context(), "gs://bucket/db/inside"); !errors.Is(err, ErrNested) {
		t.Errorf("inside another prefix: %v", err)
	}
}

// TestTakenOver: the older writer's statement fails and says why, and its next connection opens the database again.
func TestTakenOver(t *testing.T) {
	url := folder(t)
	o := options()
	o.LeaseTTL = 200 * time.Millisecond
	first := open(t, o, url)
	exec(t, first, "CREATE TABLE n (i int)")
	o.AcquireTimeout = 10 * time.Second
	conn, err := first.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := o.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), "INSERT INTO n VALUES (1)")
	conn.Release()
	if !errors.Is(err, ErrTakenOver) {
		t.Errorf("a writer that was taken over: %v, want ErrTakenOver", err)
	}
	exec(t, second, "INSERT INTO n VALUES (2)")
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := first.SQL().QueryRow("SELECT sum(i) FROM n").Scan(&n); err != nil || n != 2 {
		t.Errorf("after it was opened again: %d, %v", n, err)
	}
}

// TestOutage: a store that answers no more.
func TestOutage(t *testing.T) {
	faulty, err := storefault.New(mem.New(mem.Options{}), storefault.Options{Rules: []storefault.Rule{{Phase: storefault.Before, Do: storefault.Unavailable, Every: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer faulty.Close()
	o := options()
	if err := o.fill(); err != nil {
		t.Fatal(err)
	}
	db := &DB{}
	if err := db.begin(t.Context(), &o, faulty); err != nil {
		t.Fatal(err)
	}
	err = db.Pool().Ping(t.Context())
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if err := db.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCloseInTime: Close waits for a statement, and no longer than its context.
func TestCloseInTime(t *testing.T) {
	url := folder(t)
	db, err := options().Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, "CREATE TABLE n (i int)")
	conn, err := db.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO n SELECT 1 FROM pg_sleep(3600)")
		ran <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := db.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close beside a statement that does not end: %v", err)
	}
	if err := <-ran; err == nil {
		t.Error("the statement that was ended says that it went well")
	}
	conn.Release() // now the pool can end
	o := options()
	o.AcquireTimeout = 10 * time.Second
	again := open(t, o, url)
	var n int
	if err := again.SQL().QueryRow("SELECT count(*) FROM n").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows of a transaction that was ended, %v", n, err)
	}
}

// TestExpired: with a context that has ended Close still lets go of everything.
func TestExpired(t *testing.T) {
	db, err := options().Open(t.Context(), "mem:")
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, "CREATE TABLE n (i int)")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := db.Close(t.Context()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	afterClose(t, db)
}

// TestZero: a DB that was never opened fails, and does not panic.
func TestZero(t *testing.T) {
	t.Parallel()
	var db DB
	afterClose(t, &db)
	if err := db.Close(t.Context()); err != nil {
		t.Error(err)
	}
	afterClose(t, &db)
	var rt *Runtime
	if err := errors.Join(rt.Close(), (&Runtime{}).Close()); err != nil {
		t.Error(err)
	}
}

// afterClose uses everything that a closed DB has.
func afterClose(t *testing.T, db *DB) {
	t.Helper()
	if _, err := db.Dial(t.Context(), "", ""); !errors.Is(err, ErrClosed) {
		t.Errorf("Dial: %v", err)
	}
	if _, err := db.SQL().Exec("SELECT 1"); err == nil {
		t.Error("SQL works")
	}
	if _, err := db.Pool().Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("Pool works")
	}
}

// TestRuntimeInUse: a runtime cannot be closed under an open database, and a closed one opens none.
func TestRuntimeInUse(t *testing.T) {
	rt, err := NewRuntime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Runtime = rt
	db, err := o.Open(t.Context(), "mem:")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Open(t.Context(), "nowhere"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if err := rt.Close(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "1 databases") {
		t.Errorf("a database is open: %v", err)
	}
	exec(t, db, "CREATE TABLE t (i int)")
	if err := errors.Join(db.Close(t.Context()), rt.Close(), rt.Close()); err != nil {
		t.Error(err)
	}
	if _, err := o.Open(t.Context(), "mem:"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a closed runtime: %v", err)
	}
}

// TestOpenGivenUp: an opening that is given up while another writer has the lease leaves nothing running.
func TestOpenGivenUp(t *testing.T) {
	url := folder(t)
	open(t, options(), url)
	o := options()
	o.AcquireTimeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := o.Open(ctx, url); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	own := Options{} // loads a runtime of its own
	if _, err := own.Open(gone, "mem:"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestCancel: a canceled statement ends, and the pool keeps working.
func TestCancel(t *testing.T) {
	db := open(t, options(), "mem:")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.SQL().ExecContext(ctx, "SELECT pg_sleep(3600)"); err == nil {
		t.Error("it slept for an hour")
	}
	for {
		var busy int
		err := db.Pool().QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'").Scan(&busy)
		if err != nil {
			t.Fatal(err)
		}
		if busy == 0 {
			return
		}
	}
}

// TestErrors: PostgreSQL's errors come through unchanged.
func TestErrors(t *testing.T) {
	db := open(t, options(), "mem:")
	_, err := db.SQL().Exec("SELECT 1/0")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "22012" {
		t.Error(err)
	}
	// Another driver connects through Dial.
	config, err := pgx.ParseConfig("host=x user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"x"}, nil }
	config.DialFunc = db.Dial
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var version string
	if err := conn.QueryRow(t.Context(), "SHOW server_version").Scan(&version); err != nil || !strings.HasPrefix(version, "18") {
		t.Error(version, err)
	}
}

// TestEnvironment: environment variables meant for other servers do not affect this one.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{"PGHOST": "192.0.2.1", "PGUSER": "nobody", "PGDATABASE": "none", "PGPASSWORD": "x", "PGSSLMODE": "verify-full", "PGAPPNAME": "other", "PGOPTIONS": "-c nonsense=1"} {
		t.Setenv(name, value)
	}
	db := open(t, options(), "mem:")
	var user, database, name string
	err := db.SQL().QueryRow("SELECT current_user, current_database(), current_setting('application_name')").Scan(&user, &database, &name)
	if err != nil || user != "postgres" || database != "postgres" || name != "test" {
		t.Error(user, database, name, err)
	}
}

// TestBranchAndAt: a copy goes its own way, and yesterday can be read.
func TestBranchAndAt(t *testing.T) {
	url, copied := folder(t), folder(t)
	o := options()
	o.Retain = time.Hour
	db := open(t, o, url)
	exec(t, db, "CREATE TABLE n (i int)")
	exec(t, db, "INSERT INTO n VALUES (1)")
	var then time.Time
	if err := db.SQL().QueryRow("SELECT clock_timestamp()").Scan(&then); err != nil {
		t.Fatal(err)
	}
	exec(t, db, "INSERT INTO n VALUES (2)")
	past := options()
	past.At = then
	for _, to := range []string{url, url + "/inside"} {
		if _, err := Branch(t.Context(), url, to); !errors.Is(err, ErrNested) {
			t.Errorf("to %s: %v", to, err)
		}
	}
	if id, err := past.Branch(t.Context(), url, copied); err != nil || id == "" {
		t.Fatal(id, err)
	}
	if _, err := Branch(t.Context(), url, copied); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("to where a database is: %v", err)
	}
	count := func(db *DB) (n int) {
		if err := db.SQL().QueryRow("SELECT count(*) FROM n").Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	yesterday := open(t, past, url) // next to the writer
	branch := open(t, options(), copied)
	if now, then, there := count(db), count(yesterday), count(branch); now != 2 || then != 1 || there != 1 {
		t.Errorf("rows now %d, then %d, in the branch %d: want 2, 1, 1", now, then, there)
	}
	if _, err := yesterday.SQL().Exec("INSERT INTO n VALUES (3)"); err == nil {
		t.Error("an earlier state was written to")
	}
	past.At = time.Unix(1e9, 0)
	if _, err := past.Open(t.Context(), url); !errors.Is(err, ErrBeyondRetention) {
		t.Error(err)
	}
}

// TestDurabilities: with each a Close keeps everything.
func TestDurabilities(t *testing.T) {
	for _, d := range []Durability{Strict, Interval, Sleep} {
		url := folder(t)
		o := options()
		o.Durability = d
		db, err := o.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, db, "CREATE TABLE n AS SELECT 7 AS i")
		if err := db.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := open(t, o, url).SQL().QueryRow("SELECT i FROM n").Scan(&n); err != nil || n != 7 {
			t.Errorf("%s: %d, %v", d, n, err)
		}
	}
}

func TestProcessName(t *testing.T) {
	t.Parallel()
	if got, want := processName(), fmt.Sprintf("[%d]", os.Getpid()); !strings.HasSuffix(got, want) {
		t.Errorf("%s does not end in %s", got, want)
	}
}
