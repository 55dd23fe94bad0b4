package pgwire

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// forever is a statement that ends when it is cancelled.
const forever = "DO $$ BEGIN LOOP END LOOP; END $$"

// TestVanishedWhileItRuns: nobody waits for a statement of which the client has gone; also when the lookout has slept.
func TestVanishedWhileItRuns(t *testing.T) {
	d := openDoor(t)
	other := d.connect()
	for _, asleep := range []bool{false, true} {
		conn, f := d.raw()
		if asleep {
			d.await(d.srv.asleep.Load)
		}
		f.Send(&pgproto3.Query{String: forever})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		d.await(func() bool { return d.count(stageBusy) == 1 })
		_ = conn.Close()
		exec(t, other, "SELECT 1")
		d.await(func() bool { return d.srv.Stats().Clients == 1 })
	}
}

// TestVanishedWhileItWaits: a client that goes while it waits for its turn does not get it.
func TestVanishedWhileItWaits(t *testing.T) {
	d := openDoor(t)
	holder := d.connect()
	exec(t, holder, "CREATE TABLE t (a int)")
	exec(t, holder, "BEGIN")
	conn, f := d.raw()
	f.Send(&pgproto3.Query{String: "INSERT INTO t VALUES (1)"})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	d.await(func() bool { return d.count(stageQueues) == 1 })
	_ = conn.Close()
	d.await(func() bool { return d.srv.Stats().Clients == 1 })
	exec(t, holder, "COMMIT")
	if got := one(t, holder, "SELECT count(*)::text FROM t"); got != "0" {
		t.Error("a client that had gone got its turn")
	}
}

// TestSentAheadOfItsAnswer: what a client sends while its statement runs is kept, in order.
func TestSentAheadOfItsAnswer(t *testing.T) {
	d := openDoor(t)
	holder := d.connect()
	exec(t, holder, "BEGIN")
	_, f := d.raw()
	for i := range 3 {
		f.Send(&pgproto3.Query{String: fmt.Sprintf("SELECT 'answer %d'", i)})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		d.await(func() bool { return d.count(stageQueues) == 1 && d.reads() }) // each reaches the watch by itself
	}
	exec(t, holder, "COMMIT")
	for i := 0; i < 3; {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if row, ok := m.(*pgproto3.DataRow); ok {
			if want := fmt.Sprintf("answer %d", i); string(row.Values[0]) != want {
				t.Fatalf("%q, want %q", row.Values[0], want)
			}
			i++
		}
	}
}

// reads says whether somebody reads ahead for a client.
func (d *door) reads() bool {
	for _, c := range d.srv.sharers(d.session()) {
		c.mu.Lock()
		w := c.watch
		c.mu.Unlock()
		if w != nil {
			return true
		}
	}
	return false
}

// TestSilentClientHearsOfAFailure: it need not ask to be told that its database is gone.
func TestSilentClientHearsOfAFailure(t *testing.T) {
	d, broken := openBreakable(t)
	_, silent := d.raw()
	c := d.connect()
	exec(t, c, "CREATE TABLE t (a int)")
	d.await(d.srv.asleep.Load)
	close(broken)
	_, err := c.Exec(t.Context(), "INSERT INTO t VALUES (1)")
	wantCode(t, err, "08007")
	m, err := silent.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := m.(*pgproto3.ErrorResponse); !ok || r.Severity != "FATAL" || r.Code != "57P01" {
		t.Errorf("%+v", m)
	}
}

// TestInterruptedTLS: a connection with TLS stays whole when a wait on it is interrupted, again and again.
func TestInterruptedTLS(t *testing.T) {
	d := openDoor(t, func(o *Options) {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12}
	})
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=require", d.addr))
	if err != nil {
		t.Fatal(err)
	}
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	other := d.connect()
	exec(t, c, "LISTEN news")
	for i := range 20 {
		payload := fmt.Sprint("number ", i)
		exec(t, other, "SELECT pg_notify('news', $1)", payload)
		n, err := c.WaitForNotification(t.Context())
		if err != nil || n.Payload != payload {
			t.Fatalf("%+v, %v", n, err)
		}
		if got := one(t, c, "SELECT $1::text", payload); got != payload {
			t.Fatal(got)
		}
	}
}
