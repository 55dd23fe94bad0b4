package pgwire

import (
	"context"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// forever is a statement that ends when it is canceled.
const forever = "DO $$ BEGIN LOOP END LOOP; END $$"

// cancelWith sends a cancel request and waits until it has been dealt with.
func (d *testServer) cancelWith(pid uint32, secret []byte) {
	d.t.Helper()
	conn := d.dial()
	defer conn.Close()
	packet := binary.BigEndian.AppendUint32(nil, uint32(12+len(secret)))
	packet = binary.BigEndian.AppendUint32(packet, codeCancel)
	packet = binary.BigEndian.AppendUint32(packet, pid)
	if _, err := conn.Write(append(packet, secret...)); err != nil {
		d.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		d.t.Fatal(err)
	}
}

// TestCancelHitsItsClient, and requires the whole key.
func TestCancelHitsItsClient(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	a, b := d.connect(), d.connect()
	done := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), forever)
		done <- err
	}()
	d.await(func() bool { return d.srv.Stats().Active == 1 })
	if err := b.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := a.PgConn().SecretKey()
	flipped := append([]byte{}, key...)
	flipped[len(flipped)-1] ^= 1
	for name, secret := range map[string][]byte{
		"another client's": b.PgConn().SecretKey(), "one bit": flipped, "half of it": key[:len(key)/2], "more": append(append([]byte{}, key...), 0),
	} {
		d.cancelWith(a.PgConn().PID(), secret)
		if one(t, b, "SELECT state FROM pg_stat_activity WHERE pid = $1", a.PgConn().PID()) != "active" {
			t.Fatalf("a cancel request with another secret (%s) was obeyed", name)
		}
	}
	for len(done) == 0 { // one that comes before the statement is lost, as with any PostgreSQL
		if err := a.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, <-done, "57014")
	exec(t, a, "SELECT 1")
}

// TestCancelWhileItWaitsForALock: a client that waits for another's row can be canceled.
func TestCancelWhileItWaitsForALock(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	holder, waiter, look := d.connect(), d.connect(), d.connect()
	exec(t, holder, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	exec(t, holder, "BEGIN; UPDATE t SET a = 2")
	done := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(context.Background(), "UPDATE t SET a = 3")
		done <- err
	}()
	d.await(func() bool {
		return one(t, look, "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND pid = $1", waiter.PgConn().PID()) == "1"
	})
	if err := waiter.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-done, "57014")
	exec(t, holder, "COMMIT")
	if got := one(t, waiter, "SELECT a::text FROM t"); got != "2" {
		t.Error(got)
	}
}

// TestVanished: a statement whose client has gone does not run on, whether it computes, waits for a lock or sleeps; its transaction is
// rolled back. A short one ends as usual.
func TestVanished(t *testing.T) {
	t.Parallel()
	d := openTestServer(t, func(o *Options) { o.VanishTimeout = 100 * time.Millisecond })
	holder, look := d.connect(), d.connect()
	exec(t, holder, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	exec(t, holder, "BEGIN; LOCK TABLE t IN SHARE MODE")
	for _, sql := range []string{
		forever, "SELECT count(*) FROM generate_series(1, 1000000000000)", "SELECT pg_sleep(1000)", "INSERT INTO t VALUES (2)",
		"CREATE TEMP TABLE x (a int); BEGIN; INSERT INTO x VALUES (3); SELECT pg_advisory_xact_lock(1), pg_sleep(1000)",
	} {
		conn, f := d.raw()
		f.Send(&pgproto3.Query{String: sql})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		d.await(func() bool {
			return one(t, look, "SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'") == "1"
		})
		_ = conn.Close()
		d.await(func() bool {
			return one(t, look, "SELECT count(*)::text FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'") == "1"
		})
	}
	exec(t, holder, "COMMIT")
	d.await(func() bool { return d.srv.Stats().Clients() == 2 }) // their processes were gone before
	if got := d.srv.Stats(); got.Vanished != 5 {
		t.Errorf("%+v", got)
	}
	conn, f := d.raw()
	f.Send(&pgproto3.Query{String: "INSERT INTO t VALUES (4)"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	d.await(func() bool { return d.srv.Stats().Clients() == 2 })
	if got := one(t, look, "SELECT string_agg(a::text, ' ' ORDER BY a) || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') FROM t"); got != "1 40" {
		t.Error(got)
	}
}

// TestVanishedIdle: a client that leaves with an open transaction leaves nothing of it.
func TestVanishedIdle(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	exec(t, a, "BEGIN")
	exec(t, a, "INSERT INTO t VALUES (1)")
	exec(t, a, "LOCK TABLE t")
	if err := a.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatal(got)
	}
}

// TestSlowReader: a client that does not read makes its own process wait, and is eventually disconnected.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	d := openTestServer(t, func(o *Options) { o.StallTimeout, o.VanishTimeout = 100*time.Millisecond, 10*time.Millisecond })
	other := d.connect()
	conn, f := d.raw()
	f.Send(&pgproto3.Query{String: "SELECT repeat('x', 1000) FROM generate_series(1, 100000)"}) // 100 MB
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	d.await(func() bool { return d.srv.Stats().Active == 1 })
	exec(t, other, "SELECT 1")
	d.await(func() bool { return d.srv.Stats().Clients() == 1 })
	_ = conn.Close()
}

// TestIdleInTransaction is PostgreSQL's own business.
func TestIdleInTransaction(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	exec(t, a, "SET idle_in_transaction_session_timeout = 50")
	exec(t, a, "BEGIN")
	exec(t, a, "INSERT INTO t VALUES (1)", pgx.QueryExecModeSimpleProtocol)
	d.await(func() bool { return d.srv.Stats().Clients() == 1 })
	_, err := a.Exec(t.Context(), "SELECT 1")
	wantCode(t, err, "25P03")
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatal(got)
	}
}
