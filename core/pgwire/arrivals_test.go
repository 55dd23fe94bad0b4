package pgwire

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// TestSilentConnectionsKeepNobodyOut: many times more than there are places say nothing; whoever logs in does, and each that
// had to go has been told why.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxClients, o.MaxStartups = 3, 5 })
	good := d.connect()
	const many = 40
	var silent []net.Conn
	for range many {
		silent = append(silent, d.dial())
	}
	d.await(func() bool { return d.srv.Stats().Refusals[refusedStartups] == many-5 })
	d.connect()
	exec(t, good, "SELECT 1")
	for i, conn := range silent[:many-5] {
		if got := ended(t, pgproto3.NewFrontend(conn, conn)); got != "53300" {
			t.Errorf("connection %d of those that had to go: %q", i, got)
		}
	}
	if st := d.srv.Stats(); st.Clients != 2 || st.Startups > 5 {
		t.Errorf("%+v", st)
	}
}

// TestEveryRefusalIsAnswered: far more than MaxClients come at once; each one gets in or is told 53300.
func TestEveryRefusalIsAnswered(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxClients = 10 })
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

// TestInsideIsNotCounted: what dials from within has a bound of its own.
func TestInsideIsNotCounted(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxClients = 1 })
	d.connect()
	_, err := pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "53300")
	conn, err := d.srv.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() { _, _ = conn.Write(startPacket(t, "user", "postgres")) }()
	f := pgproto3.NewFrontend(conn, conn)
	for {
		m, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return
		}
	}
}

// TestHandshakeEnds: TLS that is begun and not gone on with ends with the start-up's time, without a word that would be
// taken for TLS.
func TestHandshakeEnds(t *testing.T) {
	d := openDoor(t, func(o *Options) {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12}
		o.StartupTimeout = 50 * time.Millisecond
	})
	conn := d.dial()
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil || string(b[:n]) != "S" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if n, err := conn.Read(b); err == nil {
		t.Errorf("%q", b[:n])
	}
	d.await(func() bool { return d.srv.Stats().Refusals[refusedSlow]+d.srv.Stats().Refusals[refusedTLS] == 1 })
}

// TestNoTextIsChanged: whatever client_encoding is said to be, text that comes in is UTF-8, or refused; never replaced.
func TestNoTextIsChanged(t *testing.T) {
	d := openDoor(t)
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
			if encoding == "SQL_ASCII" {
				continue // of COPY that is PostgreSQL's own business
			}
			_, err = c.PgConn().CopyFrom(t.Context(), strings.NewReader(bad+"\n"), "COPY t FROM STDIN")
			wantCode(t, err, "22021")
		}
		r := c.PgConn().ExecParams(t.Context(), "INSERT INTO t VALUES ($1)", [][]byte{[]byte("a\x00b")}, nil, nil, nil).Read()
		wantCode(t, r.Err, "22021")
	}
	if taken < 2 {
		t.Errorf("%d encodings of %s are taken; UTF8 and SQL_ASCII are there", taken, all)
	}
	if got := one(t, c, "SELECT count(*)::text FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
}
