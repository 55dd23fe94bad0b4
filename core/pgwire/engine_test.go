package pgwire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// failing fails the puts of records while err returns an error.
type failing struct {
	store.Store
	err func() error
}

func (f *failing) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if err := f.err(); err != nil {
		return 0, &store.OpError{Op: "put", Key: key, Err: err}
	}
	return f.Store.Put(ctx, key, body, id, cond)
}

// openBreakable serves a database whose commits have an unknown outcome when broken has been closed.
func openBreakable(t *testing.T) (d *testServer, broken chan struct{}) {
	broken = make(chan struct{})
	st := &failing{Store: mem.New(mem.Options{}), err: func() error {
		select {
		case <-broken:
			return store.ErrUnknown
		default:
			return nil
		}
	}}
	return openTestServerOn(t, engine.Options{Store: st, CommitDeadline: time.Millisecond}), broken
}

// TestUnknownOutcome: a client whose commit may or may not be durable is told so, and no one is served after it. A silent client need not
// send anything to be told that its database is gone.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	d, broken := openBreakable(t)
	a := d.connect()
	_, silent := d.raw()
	exec(t, a, "CREATE TABLE t (a int)")
	close(broken)
	_, err := a.Exec(t.Context(), "INSERT INTO t VALUES (1)")
	wantCode(t, err, "08007")
	m, err := silent.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := m.(*pgproto3.ErrorResponse); !ok || r.Severity != "FATAL" || r.Code != "57P01" {
		t.Errorf("%+v", m)
	}
	_, err = pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "57P01")
}

// TestAnswersWait: while a commit is under way, BEGIN is answered, and so are statements in the block; an answer outside a block, which may
// reveal the commit, is not.
func TestAnswersWait(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	putting, release := make(chan struct{}, 100), make(chan struct{})
	d := openTestServerOn(t, engine.Options{Store: &failing{Store: mem.New(mem.Options{}), err: func() error {
		if armed.Load() {
			putting <- struct{}{}
			<-release
		}
		return nil
	}}})
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	exec(t, b, "SELECT 1")
	armed.Store(true)
	committed := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "INSERT INTO t VALUES (1)")
		committed <- err
	}()
	<-putting
	exec(t, b, "BEGIN")
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != "1" {
		t.Errorf("within a block %s rows are seen", got)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := b.Exec(context.Background(), "COMMIT")
		ended <- err
	}()
	d.await(func() bool { return d.srv.Stats().Active == 2 })
	if len(committed)+len(ended) > 0 {
		t.Error("an answer has left before what it tells of was durable")
	}
	close(release)
	if err := errors.Join(<-committed, <-ended); err != nil {
		t.Error(err)
	}
}

// TestSentAheadOfItsAnswer: what a client sends while its statement waits is kept, in order.
func TestSentAheadOfItsAnswer(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	holder := d.connect()
	exec(t, holder, "SELECT pg_advisory_lock(1)")
	_, f := d.raw()
	f.Send(&pgproto3.Query{String: "SELECT pg_advisory_lock(1)"})
	for i := range 5000 { // more than a process takes ahead
		f.Send(&pgproto3.Query{String: fmt.Sprintf("SELECT 'answer %d%s'", i, strings.Repeat(" ", 300))})
	}
	sent := make(chan error, 1)
	go func() { sent <- f.Flush() }()
	d.await(func() bool {
		return one(t, holder, "SELECT count(*)::text FROM pg_locks WHERE NOT granted") == "1"
	})
	exec(t, holder, "SELECT pg_advisory_unlock(1)")
	for i := -1; i < 5000; {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := m.(*pgproto3.DataRow); ok {
			if want := fmt.Sprintf("answer %d", i); i >= 0 && strings.TrimSpace(string(row.Values[0])) != want {
				t.Fatalf("%q, want %q", row.Values[0], want)
			}
			i++
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestAbuseAfterTheStart: a client that sends an invalid message has its own session ended, and nothing else happens.
func TestAbuseAfterTheStart(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	good := d.connect()
	exec(t, good, "CREATE TABLE t (a int)")
	begin, err := (&pgproto3.Query{String: "BEGIN; INSERT INTO t VALUES (1)"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sent []byte
		code string // empty: PostgreSQL hangs up
	}{
		"unknown type":         {[]byte{'~', 0, 0, 0, 4}, "08P01"},
		"2 GB":                 {[]byte{'Q', 0x7f, 0xff, 0xff, 0xff, 'S'}, ""},
		"negative":             {[]byte{'Q', 0xff, 0xff, 0xff, 0xff}, ""},
		"too short":            {[]byte{'Q', 0, 0, 0, 3}, ""},
		"within a transaction": {append(begin, '~', 0, 0, 0, 4), "08P01"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, f := d.raw()
			if _, err := conn.Write(c.sent); err != nil {
				t.Fatal(err)
			}
			if got := ended(t, f); got != c.code {
				t.Errorf("SQLSTATE %q, want %q", got, c.code)
			}
		})
	}
	conn, _ := d.raw()
	if _, err := conn.Write([]byte{'Q', 0, 0, 1, 0, 'h', 'a', 'l', 'f'}); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	d.await(func() bool { return d.srv.Stats().Clients() == 1 })
	if got := one(t, good, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatal("a transaction of an abuser was committed")
	}
}

// TestNoTextIsChanged: whatever client_encoding says, incoming text is UTF-8, or refused; never replaced.
func TestNoTextIsChanged(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	c := d.connect()
	exec(t, c, "CREATE TABLE t (a text)")
	all := one(t, c, "SELECT string_agg(pg_encoding_to_char(i), ' ') FROM generate_series(0, 60) i WHERE pg_encoding_to_char(i) <> ''")
	taken := 0
	for encoding := range strings.SplitSeq(all, " ") {
		if _, err := c.Exec(t.Context(), "SET client_encoding = '"+encoding+"'"); err != nil {
			continue // said so
		}
		taken++
		if got := one(t, c, "SELECT 'ä€😀' || octet_length('ä€😀')"); got != "ä€😀9" {
			t.Errorf("with client_encoding %s: %q", encoding, got)
		}
		for _, bad := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80"} {
			_, err := c.PgConn().Exec(t.Context(), "INSERT INTO t VALUES ('"+bad+"')").ReadAll()
			wantCode(t, err, "22021")
			r := c.PgConn().ExecParams(t.Context(), "INSERT INTO t VALUES ($1)", [][]byte{[]byte(bad)}, nil, nil, nil).Read()
			wantCode(t, r.Err, "22021")
		}
	}
	if taken < 2 {
		t.Errorf("%d encodings of %s are taken; UTF8 and SQL_ASCII are there", taken, all)
	}
	if got := one(t, c, "SELECT count(*)::text FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

// TestTheFirstRoleIsRenamed: the role that the database was made with may have any name: no one is locked out by that.
func TestTheFirstRoleIsRenamed(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	super := d.connect()
	exec(t, super, "CREATE ROLE app LOGIN; CREATE ROLE chief LOGIN SUPERUSER")
	app, chief := d.connectTo(d.url("app", "")), d.connectTo(d.url("chief", ""))
	exec(t, chief, "ALTER ROLE postgres RENAME TO boss")
	if got := one(t, app, "SELECT current_user || ' ' || session_user"); got != "app app" {
		t.Errorf("app is %s", got)
	}
	if got := one(t, super, "SELECT current_user::text"); got != "boss" {
		t.Errorf("who was the first role is %s", got)
	}
	d.connectTo(d.url("boss", ""))
	_, err := pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "28000")
}

// TestSuperusersHearOfSettingsThatWereLeftOut, and no one else does.
func TestSuperusersHearOfSettingsThatWereLeftOut(t *testing.T) {
	t.Parallel()
	rt, err := runtime()
	if err != nil {
		t.Fatal(err)
	}
	st := mem.New(mem.Options{})
	e, err := engine.Open(t.Context(), engine.Options{Runtime: rt, Store: st, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE ROLE app LOGIN", "CREATE ROLE chief SUPERUSER LOGIN", "ALTER SYSTEM SET shared_preload_libraries = 'nonexistent'"} {
		if _, err := e.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := openTestServerOn(t, engine.Options{Store: st})
	for user, want := range map[string]int{"postgres": 1, "chief": 1, "app": 0} {
		conf, err := pgx.ParseConfig(d.url(user, ""))
		if err != nil {
			t.Fatal(err)
		}
		notices := 0
		conf.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			if n.Severity == "WARNING" && n.Code == "01000" && strings.Contains(n.Message, "shared_preload_libraries") {
				notices++
			}
		}
		c, err := pgx.ConnectConfig(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close(t.Context())
		if notices != want {
			t.Errorf("%s got %d notices, want %d", user, notices, want)
		}
	}
}

// TestShutdownKeepsWhatWasAcknowledged, even where answers do not wait for the bucket, and ends what does not end by itself; the lease is
// free immediately.
func TestShutdownKeepsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	for _, durability := range []engine.Durability{engine.Strict, engine.Sleep} {
		t.Run(string(durability), func(t *testing.T) {
			o := engine.Options{Store: mem.New(mem.Options{}), Durability: durability, IdleFlush: time.Hour, LeaseTTL: time.Hour}
			d := openTestServerOn(t, o)
			writer, stubborn := d.connect(), d.connect()
			exec(t, writer, "CREATE TABLE t (a int)")
			exec(t, writer, "INSERT INTO t VALUES (1)")
			gone := make(chan error, 1)
			go func() {
				_, err := stubborn.Exec(context.Background(), `DO $$ BEGIN LOOP
					BEGIN PERFORM count(*) FROM generate_series(1, 3000000); EXCEPTION WHEN query_canceled THEN NULL; END;
				END LOOP; END $$`)
				gone <- err
			}()
			d.await(func() bool { return d.srv.Stats().Active == 1 })
			grace, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			clk := clock.System()
			at := clk.Monotonic()
			if err := d.srv.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("shut down: %v", err)
			}
			if err := d.e.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
			if took := clk.Monotonic() - at; took > 20*time.Second {
				t.Errorf("the end took %v", took)
			}
			wantCode(t, <-gone, "57P01")
			_, err := writer.Exec(t.Context(), "SELECT 1")
			wantCode(t, err, "57P01")
			again := openTestServerOn(t, o)
			if got := one(t, again.connect(), "SELECT a::text FROM t"); got != "1" {
				t.Error(got)
			}
		})
	}
}
