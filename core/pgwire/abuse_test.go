package pgwire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
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

// dial opens a connection without logging in.
func (d *door) dial() net.Conn {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// raw logs in and returns the connection, ready for messages.
func (d *door) raw() (net.Conn, *pgproto3.Frontend) {
	d.t.Helper()
	conn := d.dial()
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres"}})
	if err := f.Flush(); err != nil {
		d.t.Fatal(err)
	}
	for {
		m, err := f.Receive()
		if err != nil {
			d.t.Fatal(err)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return conn, f
		}
	}
}

// ended reads up to the end of a connection, and returns the SQLSTATE of the error that came before it.
func ended(t *testing.T, f *pgproto3.Frontend) string {
	t.Helper()
	code := ""
	for {
		m, err := f.Receive()
		if err != nil {
			return code
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok {
			code = e.Code
		}
	}
}

func TestAbuseBeforeTheStart(t *testing.T) {
	d := openDoor(t)
	good := d.connect()
	for name, c := range map[string]struct {
		sent []byte
		code string
	}{
		"garbage":           {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "08P01"},
		"2 GB":              {[]byte{0x80, 0, 0, 0, 0, 3, 0, 0}, "08P01"},
		"too short":         {[]byte{0, 0, 0, 4, 0, 3, 0, 0}, "08P01"},
		"old protocol":      {[]byte{0, 0, 0, 8, 0, 2, 0, 0}, "0A000"},
		"no terminator":     {[]byte{0, 0, 0, 13, 0, 3, 0, 0, 'u', 's', 'e', 'r', 0}, "08P01"},
		"no user":           {startPacket(t, "application_name", "x"), "28000"},
		"a cancel, no key":  {[]byte{0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1}, "08P01"},
		"replication":       {startPacket(t, "user", "postgres", "replication", "true"), "0A000"},
		"another encoding":  {startPacket(t, "user", "postgres", "client_encoding", "LATIN1"), "0A000"},
		"a strange option":  {startPacket(t, "user", "postgres", "options", "-x 1"), "22023"},
		"an unknown option": {startPacket(t, "user", "postgres", "nonsense", "1"), "42704"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := d.dial()
			if _, err := conn.Write(c.sent); err != nil {
				t.Fatal(err)
			}
			if got := ended(t, pgproto3.NewFrontend(conn, conn)); got != c.code {
				t.Errorf("SQLSTATE %q, want %q", got, c.code)
			}
		})
	}
	if got := one(t, good, "SELECT 'well'"); got != "well" {
		t.Fatal(got)
	}
}

func startPacket(t *testing.T, pairs ...string) []byte {
	t.Helper()
	m := pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		m.Parameters[pairs[i]] = pairs[i+1]
	}
	if m.Parameters["database"] == "" {
		m.Parameters["database"] = "postgres"
	}
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSilenceIsNotWaitedForForEver(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.StartupTimeout = 20 * time.Millisecond; o.Password = "x" })
	for name, sent := range map[string][]byte{
		"nothing": nil, "half a packet": {0, 0}, "a length and no packet": {0, 0, 0, 80, 0, 3}, "no password": startPacket(t, "user", "postgres"),
	} {
		conn := d.dial()
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if got := ended(t, pgproto3.NewFrontend(conn, conn)); got != "57014" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if n := d.srv.Stats().Refusals[refusedSlow]; n != 4 {
		t.Errorf("%d are counted", n)
	}
}

func TestAbuseAfterTheStart(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxMessage = 1 << 20 })
	good := d.connect()
	exec(t, good, "CREATE TABLE t (a int)")
	begin, err := (&pgproto3.Query{String: "BEGIN; INSERT INTO t VALUES (1)"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sent []byte
		code string
	}{
		"unknown type":         {[]byte{'~', 0, 0, 0, 4}, "08P01"},
		"2 GB":                 {[]byte{'Q', 0x7f, 0xff, 0xff, 0xff, 'S'}, "54000"},
		"negative":             {[]byte{'Q', 0xff, 0xff, 0xff, 0xff}, "54000"},
		"too short":            {[]byte{'Q', 0, 0, 0, 3}, "08P01"},
		"no terminator":        {[]byte{'Q', 0, 0, 0, 6, 'S', 'E'}, "08P01"},
		"two texts":            {[]byte{'Q', 0, 0, 0, 8, 'S', 0, 'E', 0}, "08P01"},
		"half a Parse":         {[]byte{'P', 0, 0, 0, 6, 'a', 'b'}, "08P01"},
		"half a Bind":          {[]byte{'B', 0, 0, 0, 6, 'a', 'b'}, "08P01"},
		"a strange Describe":   {[]byte{'D', 0, 0, 0, 6, 'X', 0}, "08P01"},
		"half an Execute":      {[]byte{'E', 0, 0, 0, 6, 'X', 'X'}, "08P01"},
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
	if got := one(t, good, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatal("a transaction of an abuser was committed")
	}
}

func TestPassword(t *testing.T) {
	var logged bytes.Buffer
	clk := clock.NewVirtual(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	d := openDoor(t, func(o *Options) {
		o.Password, o.Clock, o.Logger = "the secret word", clk, slog.New(slog.NewJSONHandler(&logged, nil))
	})
	c := d.connectTo(fmt.Sprintf("postgres://postgres:%s@%s/postgres?sslmode=disable", "the%20secret%20word", d.addr))
	if got := one(t, c, "SELECT 'in'"); got != "in" {
		t.Fatal(got)
	}
	for _, password := range []string{"another", ""} {
		refused := make(chan error, 1)
		go func() {
			config, err := pgx.ParseConfig(d.url("postgres", ""))
			if err == nil {
				config.Password = password
				_, err = pgx.ConnectConfig(context.Background(), config)
			}
			refused <- err
		}()
		if err := clk.AwaitPending(t.Context(), 1); err != nil { // the answer is delayed
			t.Fatal(err)
		}
		if len(refused) > 0 {
			t.Fatal("the answer to a wrong password is not delayed")
		}
		clk.Advance(authDelay)
		wantCode(t, <-refused, "28P01")
	}
	if err := d.srv.Shutdown(t.Context()); err != nil { // the log is complete
		t.Fatal(err)
	}
	if text := logged.String(); strings.Contains(text, "another") || strings.Contains(text, "secret word") || !strings.Contains(text, "28P01") {
		t.Errorf("the log: %s", text)
	}
}

// certificate makes one for the loopback.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	d := openDoor(t, func(o *Options) {
		o.TLS, o.RequireTLS = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12}, true
	})
	c := d.connectTo(strings.Replace(d.url("postgres", ""), "sslmode=disable", "sslmode=require", 1))
	if got := one(t, c, "SELECT 'in'"); got != "in" {
		t.Fatal(got)
	}
	_, err := pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "28000")
	plain := openDoor(t)
	if _, err := pgx.Connect(t.Context(), strings.Replace(plain.url("postgres", ""), "sslmode=disable", "sslmode=require", 1)); err == nil {
		t.Error("TLS without a certificate")
	}
}

func TestClientLimit(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxClients = 2 })
	a, b := d.connect(), d.connect()
	_, err := pgx.Connect(t.Context(), d.url("postgres", ""))
	wantCode(t, err, "53300")
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.await(func() bool { return d.srv.Stats().Clients == 1 })
	d.await(func() bool {
		c, err := pgx.Connect(t.Context(), d.url("postgres", ""))
		return err == nil && c.Close(t.Context()) == nil
	})
	exec(t, a, "SELECT 1")
}

// TestManyConnections: 200 are open, 20 of them work.
func TestManyConnections(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxClients = 250 })
	exec(t, d.connect(), "CREATE TABLE t (a int)")
	var all []*pgx.Conn
	for range 200 {
		all = append(all, d.connect())
	}
	errs := make(chan error, 20)
	for i := range 20 {
		go func() {
			var err error
			for j := range 10 {
				_, e := all[i*10].Exec(context.Background(), "INSERT INTO t VALUES ($1)", i*10+j)
				err = errors.Join(err, e)
			}
			errs <- err
		}()
	}
	for range 20 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := one(t, all[199], "SELECT count(*)::text FROM t"); got != "200" {
		t.Fatal(got)
	}
}

// TestSlowReader: who does not read stalls himself, and is thrown out in the end.
func TestSlowReader(t *testing.T) {
	d := openDoor(t, func(o *Options) { o.MaxOutput, o.StallTimeout = 64<<20, 100*time.Millisecond })
	other := d.connect()
	conn, f := d.raw()
	f.Send(&pgproto3.Query{String: "SELECT repeat('x', 1000) FROM generate_series(1, 30000)"}) // 30 MB
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	d.await(func() bool { return d.session().last.Load() != nil })
	exec(t, other, "SELECT 1")
	d.await(func() bool { return d.srv.Stats().Clients == 1 })
	_ = conn.Close()
}

func TestIdleInTransaction(t *testing.T) {
	clk := clock.NewVirtual(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
	d := openDoor(t, func(o *Options) { o.Clock = clk })
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	exec(t, a, "BEGIN")
	exec(t, a, "INSERT INTO t VALUES (1)")
	d.await(func() bool { return d.count(stageInBlock) == 1 })
	clk.Advance(DefaultIdleInTransaction)
	d.await(func() bool { return d.count(stageInBlock) == 0 })
	_, err := a.Exec(t.Context(), "SELECT 1")
	wantCode(t, err, "25P03")
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatal(got)
	}
}

func TestNoticesReachTheirClient(t *testing.T) {
	d := openDoor(t)
	config, err := pgx.ParseConfig(d.url("postgres", ""))
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard = append(heard, n.Message) }
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	exec(t, c, "DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
	if len(heard) != 1 || heard[0] != "hello" {
		t.Fatal(heard)
	}
}

// TestFlush: the answer to a Flush comes before the Sync.
func TestFlush(t *testing.T) {
	d := openDoor(t)
	_, f := d.raw()
	f.Send(&pgproto3.Parse{Name: "s", Query: "SELECT 1"})
	f.Send(&pgproto3.Flush{})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := f.Receive(); err != nil {
		t.Fatal(err)
	} else if _, ok := m.(*pgproto3.ParseComplete); !ok {
		t.Fatalf("%T", m)
	}
	f.Send(&pgproto3.Close{ObjectType: 'S', Name: "s"})
	f.Send(&pgproto3.Sync{})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := f.Receive(); err != nil {
		t.Fatal(err)
	} else if _, ok := m.(*pgproto3.CloseComplete); !ok {
		t.Fatalf("%T", m)
	}
}

// failing lets records fail once it is told to.
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

// openDoorOn serves a new database in a bucket whose puts do what fails does before them. Zero: the standard deadline.
func openDoorOn(t *testing.T, fails func() error, deadline time.Duration) *door {
	t.Helper()
	st := &failing{Store: mem.New(mem.Options{}), err: fails}
	e, err := engine.Open(t.Context(), engine.Options{Runtime: runtime, Store: st, Create: true, CommitDeadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	return openDoor(t, func(o *Options) { o.Source = fixed{e} })
}

// openBreakable serves a database whose commits have an unknown outcome when broken has been closed.
func openBreakable(t *testing.T) (d *door, broken chan struct{}) {
	broken = make(chan struct{})
	return openDoorOn(t, func() error {
		select {
		case <-broken:
			return store.ErrUnknown
		default:
			return nil
		}
	}, time.Millisecond), broken
}

// TestUnknownOutcome: a client whose commit may or may not be durable is told so, and nobody is served after it.
func TestUnknownOutcome(t *testing.T) {
	d, broken := openBreakable(t)
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	close(broken)
	_, err := a.Exec(t.Context(), "INSERT INTO t VALUES (1)")
	wantCode(t, err, "08007")
	_, err = b.Exec(t.Context(), "SELECT 1")
	wantCode(t, err, "57P01")
}

func FuzzStartup(f *testing.F) {
	f.Add([]byte{0, 3, 0, 0, 'u', 's', 'e', 'r', 0, 'x', 0, 0})
	f.Add([]byte{4, 210, 22, 47})
	f.Fuzz(func(t *testing.T, packet []byte) {
		code, start, err := decodeStartup(packet)
		if err != nil || start == nil {
			return
		}
		if code>>16 != protocolMajor {
			t.Fatal("a start of another protocol")
		}
		c := &client{srv: &Server{o: Options{Database: "postgres"}}}
		if settings, err := c.parameters(start); err == nil && (c.user == "" || settings == nil) {
			t.Fatal("nobody was let in")
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte{'Q', 0, 0, 0, 6, 'S', 0, 'S', 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 16
		r := bufio.NewReaderSize(bytes.NewReader(stream), readAhead)
		total := 0
		for {
			batch, err := readMessages(r, r, limit)
			for at := 0; at < len(batch) && err == nil; {
				n := int(binary.BigEndian.Uint32(batch[at+1:])) + 1
				if n < header || at+n > len(batch) {
					t.Fatalf("a batch that is not whole messages: %d of %d bytes at %d", n, len(batch), at)
				}
				at += n
			}
			total += len(batch)
			if err != nil {
				break
			}
		}
		if total > len(stream) {
			t.Fatal("more than there was")
		}
	})
}

func FuzzExtended(f *testing.F) {
	f.Add(byte('P'), []byte("name\x00SELECT 1\x00\x00\x00"))
	f.Add(byte('B'), []byte("\x00name\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		c := &client{srv: &Server{o: Options{}}, session: &session{}, statements: map[string]*statement{}, id: 7}
		message := append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
		if err := c.extended(kind, body, message); err != nil {
			return
		}
		for at := 0; at < len(c.unit); {
			n := int(binary.BigEndian.Uint32(c.unit[at+1:])) + 1
			if n < header || at+n > len(c.unit) {
				t.Fatalf("%q became something that is not messages: %q", message, c.unit)
			}
			at += n
		}
	})
}

func BenchmarkSelect1(b *testing.B) {
	e, err := engine.Open(b.Context(), engine.Options{Runtime: runtime, Store: mem.New(mem.Options{}), Create: true})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close(context.Background())
	srv, err := New(Options{Source: fixed{e}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = srv.Serve(context.Background(), l) }()
	defer srv.Shutdown(context.Background())
	c, err := pgx.Connect(b.Context(), fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", l.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(context.Background())
	var v int
	for b.Loop() {
		if err := c.QueryRow(b.Context(), "SELECT 1").Scan(&v); err != nil {
			b.Fatal(err)
		}
	}
}
