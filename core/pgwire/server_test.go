package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

var runtime *pglite.Runtime

func TestMain(m *testing.M) {
	var err error
	if runtime, err = pglite.NewRuntime(context.Background(), pglite.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := runtime.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

// fixed is a source of one engine.
type fixed struct{ e *engine.Engine }

func (f fixed) Engine(context.Context) (*engine.Engine, error) { return f.e, nil }

type door struct {
	t    *testing.T
	srv  *Server
	e    *engine.Engine
	addr string
}

// openDoor serves a new database on the loopback.
func openDoor(t *testing.T, change ...func(*Options)) *door {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Options{Runtime: runtime, Store: mem.New(mem.Options{}), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Source: fixed{e}}
	for _, c := range change {
		c(&o)
	}
	srv, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error("shut down:", err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Error("serve:", err)
		}
		if err := e.Close(context.Background()); err != nil && e.Err() == nil {
			t.Error("close:", err)
		}
	})
	return &door{t: t, srv: srv, e: e, addr: l.Addr().String()}
}

func (d *door) url(user, extra string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable%s", user, d.addr, extra)
}

func (d *door) connect() *pgx.Conn { return d.connectTo(d.url("postgres", "")) }

func (d *door) connectTo(url string) *pgx.Conn {
	d.t.Helper()
	c, err := pgx.Connect(d.t.Context(), url)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func exec(t *testing.T, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func one(t *testing.T, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var v string
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != code {
		t.Fatalf("error %v, want SQLSTATE %s", err, code)
	}
}

func TestBasics(t *testing.T) {
	d := openDoor(t)
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
	if got := one(t, c, "SELECT b FROM t WHERE a = $1", 3); got != "row 3" {
		t.Fatal(got)
	}
	if v := c.PgConn().ParameterStatus("server_version"); !strings.HasPrefix(v, "18") {
		t.Errorf("server_version %q", v)
	}
	if c.PgConn().PID() == 0 {
		t.Error("no process id")
	}
}

// TestStatementNames: two clients use the same names for different statements, the unnamed one too.
func TestStatementNames(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(), d.connect()
	for i, c := range []*pgx.Conn{a, b} {
		if _, err := c.Prepare(t.Context(), "s1", fmt.Sprintf("SELECT 'client %d'::text || $1::text", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		for i, c := range []*pgx.Conn{a, b} {
			if got, want := one(t, c, "s1", "!"), fmt.Sprintf("client %d!", i); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	}
	_, err := a.Prepare(t.Context(), "s1 ", "SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	// DISCARD ALL of one takes nothing from the other.
	exec(t, b, "DISCARD ALL", pgx.QueryExecModeSimpleProtocol)
	if got := one(t, a, "s1", "?"); got != "client 0?" {
		t.Fatal(got)
	}
	_, err = b.PgConn().ExecPrepared(t.Context(), "s1", [][]byte{[]byte("x")}, nil, nil).Close()
	wantCode(t, err, "26000")
	if !strings.Contains(err.Error(), `"s1"`) {
		t.Errorf("the error does not name the client's statement: %v", err)
	}
}

// TestLongNames: names that PostgreSQL would cut stay apart.
func TestLongNames(t *testing.T) {
	d := openDoor(t)
	c := d.connect()
	long := strings.Repeat("n", 62)
	for _, tail := range []string{"a", "b"} {
		if _, err := c.Prepare(t.Context(), long+tail, "SELECT '"+tail+"'"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tail := range []string{"a", "b"} {
		if got := one(t, c, long+tail); got != tail {
			t.Fatal(got)
		}
	}
}

func TestUnnamedStatementOutlivesAnotherClient(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect().PgConn(), d.connect().PgConn()
	for i, c := range []*pgconn.PgConn{a, b} {
		if _, err := c.Prepare(t.Context(), "", fmt.Sprintf("SELECT %d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []*pgconn.PgConn{a, b} {
		r := c.ExecPrepared(t.Context(), "", nil, nil, nil).Read()
		if r.Err != nil || string(r.Rows[0][0]) != fmt.Sprint(i) {
			t.Fatalf("client %d: %v, %v", i, r.Rows, r.Err)
		}
	}
}

// TestSettingsFollowTheirClient: SET does not leak, and is there again.
func TestSettingsFollowTheirClient(t *testing.T) {
	d := openDoor(t)
	a := d.connectTo(d.url("postgres", "&application_name=first&timezone=Asia/Tokyo"))
	b := d.connect()
	if got := one(t, a, "SHOW timezone"); got != "Asia/Tokyo" {
		t.Fatal(got)
	}
	exec(t, a, "SET search_path = pg_catalog")
	exec(t, a, "SELECT set_config('my.own', 'a', false)")
	exec(t, b, "SET work_mem = '1MB'")
	for range 2 {
		if got := one(t, b, "SHOW timezone"); got == "Asia/Tokyo" {
			t.Fatal("the time zone has leaked")
		}
		if got := one(t, b, "SELECT current_setting('search_path') || coalesce(current_setting('my.own', true), '') || current_setting('work_mem') || current_setting('application_name')"); got != `"$user", public1MB` {
			t.Fatalf("b sees %q", got)
		}
		if got := one(t, a, "SELECT current_setting('search_path') || current_setting('my.own') || current_setting('work_mem') || current_setting('application_name')"); got != "pg_cataloga64MBfirst" {
			t.Fatalf("a sees %q", got)
		}
	}
	exec(t, a, "RESET ALL")
	if got := one(t, a, "SELECT current_setting('timezone') || current_setting('search_path')"); got != `Asia/Tokyo"$user", public` {
		t.Fatalf("after RESET ALL: %q", got)
	}
	_, err := pgx.Connect(t.Context(), d.url("postgres", "&timezone=Nowhere/At_all"))
	wantCode(t, err, "22023")
}

func TestRoleIsTheUsers(t *testing.T) {
	d := openDoor(t)
	super := d.connect()
	exec(t, super, "CREATE ROLE alice LOGIN; CREATE TABLE secret (a int)")
	alice := d.connectTo(d.url("alice", ""))
	if got := one(t, alice, "SELECT current_user::text || session_user::text"); got != "alicealice" {
		t.Fatal(got)
	}
	_, err := alice.Exec(t.Context(), "SELECT * FROM secret")
	wantCode(t, err, "42501")
	if got := one(t, super, "SELECT current_user::text"); got != "postgres" {
		t.Fatal(got)
	}
	exec(t, super, "SET ROLE alice")
	if got := one(t, alice, "SELECT current_user::text"); got != "alice" {
		t.Fatal(got)
	}
	if got := one(t, super, "SELECT current_user::text || session_user::text"); got != "alicepostgres" {
		t.Fatal(got)
	}
	exec(t, alice, "RESET SESSION AUTHORIZATION")
	if got := one(t, alice, "SELECT current_user::text"); got != "alice" {
		t.Fatal(got)
	}
	_, err = pgx.Connect(t.Context(), d.url("nobody", ""))
	wantCode(t, err, "28000")
	_, err = pgx.Connect(t.Context(), strings.Replace(d.url("postgres", ""), "/postgres?", "/other?", 1))
	wantCode(t, err, "3D000")
}

// TestTransactionsDoNotMix: between two statements of a transaction nobody else's run.
func TestTransactionsDoNotMix(t *testing.T) {
	d := openDoor(t)
	setup := d.connect()
	exec(t, setup, "CREATE TABLE n (v int); INSERT INTO n VALUES (0)")
	const clients, rounds = 8, 10
	var wg sync.WaitGroup
	for range clients {
		c := d.connect()
		wg.Go(func() {
			for range rounds {
				tx, err := c.Begin(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				var v int
				err = tx.QueryRow(context.Background(), "SELECT v FROM n").Scan(&v)
				if err == nil {
					_, err = tx.Exec(context.Background(), "UPDATE n SET v = $1", v+1)
				}
				if err = errors.Join(err, tx.Commit(context.Background())); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := one(t, setup, "SELECT v::text FROM n"); got != fmt.Sprint(clients*rounds) {
		t.Fatal(got)
	}
}

func TestVanishedClientIsRolledBack(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	exec(t, a, "BEGIN")
	exec(t, a, "INSERT INTO t VALUES (1)")
	exec(t, a, "CREATE TEMP TABLE mine (a int)")
	if err := a.PgConn().Conn().Close(); err != nil {
		t.Fatal(err)
	}
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatal(got)
	}
}

// count is how many clients are at a stage.
func (d *door) count(at stage) int {
	d.srv.mu.Lock()
	defer d.srv.mu.Unlock()
	n := 0
	for _, c := range d.srv.clients {
		if stage(c.stage.Load()) == at {
			n++
		}
	}
	return n
}

func TestPins(t *testing.T) {
	for name, sql := range map[string][2]string{
		"temporary tables":       {"CREATE TEMP TABLE mine AS SELECT 1", "DROP TABLE mine"},
		"session advisory locks": {"SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"},
		"cursors WITH HOLD":      {"DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clock.NewVirtual(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)) // deadlines of connections are beyond the test
			d := openDoor(t, func(o *Options) { o.Clock = clk })
			a, b := d.connect(), d.connect()
			exec(t, a, sql[0])
			if got := d.srv.Stats().Pinned; got != name {
				t.Fatalf("pinned by %q", got)
			}
			failed := make(chan error, 1)
			go func() {
				_, err := b.Exec(context.Background(), "SELECT 1")
				failed <- err
			}()
			d.await(func() bool { return d.count(stageQueues) == 1 })
			clk.Advance(DefaultTurnTimeout)
			err := <-failed
			wantCode(t, err, "55P03")
			if !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not say what keeps the session: %v", err)
			}
			exec(t, a, sql[1])
			exec(t, b, "SELECT 1") // its connection has survived
		})
	}
}

func TestListenAcrossClients(t *testing.T) {
	d := openDoor(t)
	a, b, c := d.connect(), d.connect(), d.connect()
	exec(t, a, "LISTEN news")
	exec(t, b, "LISTEN news")
	exec(t, b, "LISTEN other")
	exec(t, c, "SELECT pg_notify('news', 'first')")
	for _, l := range []*pgx.Conn{a, b} {
		n, err := l.WaitForNotification(t.Context())
		if err != nil || n.Channel != "news" || n.Payload != "first" || n.PID != c.PgConn().PID() {
			t.Fatalf("%+v, %v", n, err)
		}
	}
	exec(t, b, "UNLISTEN news")
	exec(t, c, "NOTIFY news, 'second'; NOTIFY other, 'third'")
	if n, err := a.WaitForNotification(t.Context()); err != nil || n.Payload != "second" {
		t.Fatalf("%+v, %v", n, err)
	}
	if n, err := b.WaitForNotification(t.Context()); err != nil || n.Payload != "third" {
		t.Fatalf("%+v, %v", n, err)
	}
	exec(t, a, "NOTIFY news, 'own'")
	if n, err := a.WaitForNotification(t.Context()); err != nil || n.Payload != "own" {
		t.Fatalf("%+v, %v", n, err)
	}
}

func TestCopyBothWays(t *testing.T) {
	d := openDoor(t)
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
	d := openDoor(t)
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

func TestCancelHitsItsClient(t *testing.T) {
	d := openDoor(t)
	a, b := d.connect(), d.connect()
	done := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 1000000000)")
		done <- err
	}()
	d.await(func() bool { s := d.session(); s.mu.Lock(); defer s.mu.Unlock(); return s.runs != nil })
	if err := b.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if hit := d.srv.Stats().Cancelled; hit != 0 {
		t.Fatal("a cancel request hit another client")
	}
	key := a.PgConn().SecretKey()
	flipped := append([]byte{}, key...)
	flipped[len(flipped)-1] ^= 1
	for name, secret := range map[string][]byte{
		"another client's": b.PgConn().SecretKey(), "one bit": flipped, "half of it": key[:len(key)/2], "more": append(append([]byte{}, key...), 0),
	} {
		d.cancelWith(a.PgConn().PID(), secret)
		if hit := d.srv.Stats().Cancelled; hit != 0 {
			t.Fatalf("a cancel request with another secret (%s) was obeyed", name)
		}
	}
	for len(done) == 0 { // one that comes before the statement is lost, as with any PostgreSQL
		if err := a.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, <-done, "57014")
}

// cancelWith sends a cancel request and waits until it has been dealt with.
func (d *door) cancelWith(pid uint32, secret []byte) {
	d.t.Helper()
	conn := d.dial()
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

func (d *door) session() *session {
	d.srv.mu.Lock()
	defer d.srv.mu.Unlock()
	return d.srv.session
}

// await polls; what is waited for is certain to come.
func (d *door) await(ready func() bool) {
	d.t.Helper()
	clk := clock.System()
	for !ready() {
		if err := clk.Sleep(d.t.Context(), time.Millisecond); err != nil {
			d.t.Fatal(err)
		}
	}
}
