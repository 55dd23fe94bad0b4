package pgwire

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
)

// TestSilentConnectionsKeepNobodyOut: many times more connections than places stay silent; clients can still log in, and each connection
// that was closed has been told why.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Now().Add(time.Hour)) // deadlines of connections are beyond the test
	d := serve(t, &stand{run: waits}, func(o *Options) { o.MaxClients, o.MaxStartups, o.Clock = 3, 5, clk })
	d.raw()
	const many = 40
	var silent []net.Conn
	for range many {
		silent = append(silent, d.dial())
	}
	moment := func() { clk.Advance(patience / 10) }
	d.await(func() bool { moment(); return d.srv.Stats().Refusals[refusedStartups] >= many-5 })
	in := make(chan struct{})
	go func() {
		defer close(in)
		d.raw()
	}()
	d.await(func() bool { // it waits as long as the oldest may take, however many there are
		moment()
		select {
		case <-in:
			return true
		default:
			return false
		}
	})
	n := d.srv.Stats().Refusals[refusedStartups]
	for i, conn := range silent[:n-1] {
		if got := fmt.Sprint(heard(t, conn)); got != "[FATAL 53300]" {
			t.Errorf("connection %d of those that had to go: %s", i, got)
		}
	}
	d.await(func() bool { st := d.srv.Stats(); return st.Clients() == 2 && st.Startups <= 5 })
}

// TestSilentPasswordsKeepNobodyOut: clients that were asked for their password and do not send it have a process each. They keep their
// places only while no one else wants them, or for the length of patience.
func TestSilentPasswordsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const apart = time.Millisecond // between connections
	clk := clock.NewVirtual(time.Now().Add(time.Hour))
	behind := &stand{run: asks}
	d := serve(t, behind, func(o *Options) { o.MaxClients, o.Reserved, o.Clock = 4, 1, clk })
	start := func() (net.Conn, *pgproto3.Frontend) {
		conn := d.dial()
		if _, err := conn.Write(startPacket(t, "user", "postgres")); err != nil {
			t.Fatal(err)
		}
		return conn, pgproto3.NewFrontend(conn, conn)
	}
	var silent []*pgproto3.Frontend
	for range 5 {
		_, f := start()
		if m, err := f.Receive(); err != nil {
			t.Fatal(err)
		} else if _, ok := m.(*pgproto3.AuthenticationCleartextPassword); !ok {
			t.Fatalf("%T", m)
		}
		silent = append(silent, f)
		clk.Advance(apart)
	}
	rest := patience - 5*apart // of the first one's patience; each next one's ends apart later
	for i := range 5 {
		_, f := start()
		d.pending(clk)
		if n := behind.dials.Load(); n != int64(5+i) {
			t.Fatalf("%d processes", n)
		}
		clk.Advance(rest)
		rest = apart
		f.Send(&pgproto3.PasswordMessage{Password: "x"})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		for in := false; !in; {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			_, in = m.(*pgproto3.ReadyForQuery)
		}
		if got := ended(t, silent[i]); got != "53300" {
			t.Errorf("the one that has been silent for the longest time hears %q", got)
		}
	}
	_, f := start() // all places are taken by clients that have logged in
	if got := ended(t, f); got != "53300" {
		t.Errorf("one more hears %q", got)
	}
	st := d.srv.Stats()
	if st.Clients() != 5 || st.Refusals[refusedStartups] != 5 || st.Refusals[refusedClients] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestEveryRefusalIsAnswered: far more than MaxClients connect at the same time; each one gets in or is told 53300.
func TestEveryRefusalIsAnswered(t *testing.T) {
	t.Parallel()
	d := openTestServer(t, func(o *Options) { o.MaxClients, o.Reserved = 9, 1 })
	const many = 150
	answers := make(chan string, many)
	for range many {
		conn := d.dial()
		go func() {
			_, err := conn.Write(startPacket(t, "user", "postgres"))
			f := pgproto3.NewFrontend(conn, conn)
			for err == nil {
				var m pgproto3.BackendMessage
				if m, err = f.Receive(); err != nil {
					break
				}
				switch m := m.(type) {
				case *pgproto3.ErrorResponse:
					answers <- m.Code
					return
				case *pgproto3.ReadyForQuery:
					answers <- "in"
					return
				}
			}
			answers <- err.Error()
		}()
	}
	got := map[string]int{}
	for range many {
		got[<-answers]++
	}
	if got["in"] != 10 || got["53300"] != many-10 {
		t.Error(got)
	}
	if st := d.srv.Stats(); st.Refused != many-10 || st.Refusals[refusedClients]+st.Refusals[refusedStartups] != many-10 {
		t.Errorf("%+v", st)
	}
}

// TestPlaces: MaxClients are for anyone, then come those for superusers; a place that is given back is there for the next client.
func TestPlaces(t *testing.T) {
	t.Parallel()
	d := openTestServerOn(t, engine.Options{MaxClients: 2}, func(o *Options) { o.MaxClients, o.Reserved = 2, 2 })
	first := d.connect()
	exec(t, first, "CREATE ROLE bob LOGIN")
	bob := d.connectTo(d.url("bob", ""))
	_, err := pgx.Connect(t.Context(), d.url("bob", ""))
	wantCode(t, err, "53300")
	if !strings.Contains(err.Error(), "SUPERUSER") {
		t.Errorf("it is not said that places are left: %v", err)
	}
	d.await(func() bool { return d.srv.Stats().Clients() == 2 && d.srv.Stats().Startups == 0 })
	d.connect()
	super := d.connect()
	_, err = pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "53300")
	if err := super.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := bob.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.await(func() bool { return d.srv.Stats().Clients() == 2 })
	d.await(func() bool {
		c, err := pgx.Connect(t.Context(), d.url("postgres", ""))
		return err == nil && c.Close(context.Background()) == nil
	})
	if got := d.srv.Stats().Refusals[refusedClients]; got != 2 {
		t.Errorf("%d refusals are counted", got)
	}
}
