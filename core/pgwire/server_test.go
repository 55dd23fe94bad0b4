package pgwire

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/engine"
)

func TestBasics(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	c := d.connect()
	exec(t, c, "CREATE TABLE t (a int PRIMARY KEY, b text)")
	for i := range 10 {
		exec(t, c, "INSERT INTO t VALUES ($1, $2)", i, fmt.Sprint("row ", i))
	}
	if got := one(t, c, "SELECT count(*)::text FROM t"); got != "10" {
		t.Fatal(got)
	}
	_, err := c.Exec(t.Context(), "INSERT INTO t VALUES (1, 'again')")
	wantCode(t, err, "23505")
	if v := c.PgConn().ParameterStatus("server_version"); !strings.HasPrefix(v, "18") {
		t.Errorf("server_version %q", v)
	}
	if got := one(t, c, "SELECT pg_backend_pid() || ' ' || host(inet_client_addr())"); got != fmt.Sprint(c.PgConn().PID(), " 127.0.0.1") {
		t.Errorf("PostgreSQL takes the client for %s", got)
	}
	if st := d.srv.Stats(); st.Idle != 1 || st.Clients() != 1 {
		t.Errorf("%+v", st)
	}
	exec(t, c, "BEGIN")
	d.await(func() bool { return d.srv.Stats().InTransaction == 1 })
}

// TestSessionsAreApart: names of statements, settings, temporary tables and locks are their client's alone.
func TestSessionsAreApart(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	a := d.connectTo(d.url("postgres", "&application_name=first&timezone=Asia/Tokyo&options=-c%20geqo%3Doff"))
	b := d.connect()
	for i, c := range []*pgx.Conn{a, b} {
		if _, err := c.Prepare(t.Context(), "s1", fmt.Sprintf("SELECT 'client %d'::text || $1::text", i)); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, a, "SET search_path = pg_catalog")
	exec(t, a, "CREATE TEMP TABLE mine AS SELECT 1")
	exec(t, a, "SELECT pg_advisory_lock(7)")
	if got := one(t, a, "SELECT current_setting('TimeZone') || current_setting('application_name') || current_setting('geqo')"); got != "Asia/Tokyofirstoff" {
		t.Error(got)
	}
	const seen = "SELECT current_setting('TimeZone') <> 'Asia/Tokyo' AND current_setting('search_path') <> 'pg_catalog' AND to_regclass('mine') IS NULL AND NOT pg_try_advisory_lock(7)"
	if got := one(t, b, "SELECT ("+seen+")::text"); got != "true" {
		t.Error("a client sees what is another one's")
	}
	exec(t, b, "DISCARD ALL", pgx.QueryExecModeSimpleProtocol)
	if got := one(t, a, "s1", "?"); got != "client 0?" {
		t.Error(got)
	}
	_, err := b.PgConn().ExecPrepared(t.Context(), "s1", [][]byte{[]byte("x")}, nil, nil).Close()
	wantCode(t, err, "26000")
	_, err = pgx.Connect(t.Context(), d.url("postgres", "&timezone=Nowhere/At_all"))
	wantCode(t, err, "22023")
	_, err = pgx.Connect(t.Context(), strings.Replace(d.url("postgres", ""), "/postgres?", "/other?", 1))
	wantCode(t, err, "3D000")
	d.await(func() bool { return d.srv.Stats().Refused == 2 })
	if got := d.srv.Stats().Refusals; got["database"] != 1 || got["other"] != 1 {
		t.Error(got)
	}
}

func TestDatabases(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	c := d.connect()
	exec(t, c, "CREATE DATABASE shop")
	shop := d.connectTo(strings.Replace(d.url("postgres", ""), "/postgres?", "/shop?", 1))
	exec(t, shop, "CREATE TABLE t (a int)")
	if got := one(t, shop, "SELECT current_database() || (SELECT count(*) FROM t)"); got != "shop0" {
		t.Error(got)
	}
	if got := one(t, c, "SELECT (to_regclass('t') IS NULL)::text"); got != "true" {
		t.Error("a table of another database is there")
	}
}

func TestListenAcrossClients(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	a, b, c := d.connect(), d.connect(), d.connect()
	exec(t, a, "LISTEN news")
	exec(t, b, "LISTEN other")
	exec(t, c, "SELECT pg_notify('news', 'first')")
	n, err := a.WaitForNotification(t.Context())
	if err != nil || n.Channel != "news" || n.Payload != "first" || n.PID != c.PgConn().PID() {
		t.Fatalf("%+v, %v", n, err)
	}
	exec(t, c, "NOTIFY news, 'second'; NOTIFY other, 'third'")
	if n, err := b.WaitForNotification(t.Context()); err != nil || n.Payload != "third" {
		t.Fatalf("%+v, %v", n, err)
	}
}

func TestCopyBothWays(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int, b text)")
	rows := make([][]any, 20_000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("x", i%50)}
	}
	n, err := a.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"a", "b"}, pgx.CopyFromRows(rows))
	if err != nil || n != int64(len(rows)) {
		t.Fatal(n, err)
	}
	var out strings.Builder
	if _, err := b.PgConn().CopyTo(t.Context(), &out, "COPY t TO STDOUT"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n"); got != len(rows) {
		t.Fatal(got)
	}
	_, err = a.PgConn().CopyFrom(t.Context(), strings.NewReader("1\tone\nnonsense\n"), "COPY t FROM STDIN")
	wantCode(t, err, "22P02")
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != fmt.Sprint(len(rows)) {
		t.Fatal(got)
	}
}

func TestPipelineAndLargeRows(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	c := d.connect()
	batch := &pgx.Batch{}
	for i := range 50 {
		batch.Queue("SELECT $1::int", i)
	}
	r := c.SendBatch(t.Context(), batch)
	for i := range 50 {
		var v int
		if err := r.QueryRow().Scan(&v); err != nil || v != i {
			t.Fatal(v, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, c, "CREATE TABLE big (v bytea)")
	value := make([]byte, 50<<20)
	for i := range value {
		value[i] = byte(i * 7)
	}
	exec(t, c, "INSERT INTO big VALUES ($1)", value)
	var got []byte
	if err := c.QueryRow(t.Context(), "SELECT v FROM big").Scan(&got); err != nil || string(got) != string(value) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestNoticesReachTheirClient(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
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
	t.Parallel()
	d := openTestServer(t)
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

// TestProtocolVersions: PostgreSQL negotiates the version and its extensions; a client of 3.2 gets a long key, and can cancel with it.
func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	for version, key := range map[uint32]int{pgproto3.ProtocolVersion30: 4, pgproto3.ProtocolVersion32: 32} {
		conn := d.dial()
		packet, err := (&pgproto3.StartupMessage{ProtocolVersion: version, Parameters: map[string]string{"user": "postgres", "_pq_.unheard_of": "1"}}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		f := pgproto3.NewFrontend(conn, conn)
		var data pgproto3.BackendKeyData
		negotiated := false
		for ready := false; !ready; {
			m, err := f.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *pgproto3.NegotiateProtocolVersion:
				negotiated = len(m.UnrecognizedOptions) == 1
			case *pgproto3.BackendKeyData:
				data = pgproto3.BackendKeyData{ProcessID: m.ProcessID, SecretKey: append([]byte{}, m.SecretKey...)}
			case *pgproto3.ReadyForQuery:
				ready = true
			}
		}
		if !negotiated || len(data.SecretKey) != key {
			t.Errorf("protocol %d.%d: negotiated %v, a key of %d bytes", version>>16, version&0xffff, negotiated, len(data.SecretKey))
		}
		f.Send(&pgproto3.Query{String: forever})
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		go func() {
			m, err := f.Receive()
			if e, ok := m.(*pgproto3.ErrorResponse); ok {
				got <- e.Code
			} else {
				got <- fmt.Sprint(m, err)
			}
		}()
		for len(got) == 0 { // one that comes before the statement is lost, as with any PostgreSQL
			d.cancelWith(data.ProcessID, data.SecretKey)
		}
		if code := <-got; code != "57014" {
			t.Errorf("protocol %d.%d: canceled with %s", version>>16, version&0xffff, code)
		}
	}
}

// TestManyConnections: 200 are open, and all of them work at the same time.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	const many = 200
	d := openTestServerOn(t, engine.Options{MaxClients: many + 10}, func(o *Options) { o.MaxClients, o.StartupTimeout = many+10, 5*time.Minute })
	exec(t, d.connect(), "CREATE TABLE t (a int)")
	all := make([]*pgx.Conn, many)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			c, err := pgx.Connect(t.Context(), d.url("postgres", ""))
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = c
			for j := range 5 {
				if _, err := c.Exec(t.Context(), "INSERT INTO t VALUES ($1)", 5*i+j); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if got := one(t, all[many-1], "SELECT count(DISTINCT a) || ' ' || (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') FROM t"); got != "1000 201" {
		t.Error(got)
	}
	for _, c := range all {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	d.await(func() bool { return d.srv.Stats().Clients() == 1 })
}
