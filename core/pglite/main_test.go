package pglite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"blobpglite/core/memfs"
)

// sharedRuntime is the test binary's only runtime: compiled once.
var sharedRuntime = sync.OnceValues(func() (*Runtime, error) {
	return NewRuntime(context.Background(), Options{})
})

func TestMain(m *testing.M) {
	// A finalizer closes a memory file that can no longer be restored from, which takes a while.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("runtime.runFinalizers"))
}

func testRuntime(t testing.TB) *Runtime {
	t.Helper()
	rt, err := sharedRuntime()
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// server is a cluster with one session, which a test uses as a client.
type server struct {
	*Cluster
	conn *netConn
	wire *pgproto3.Frontend
	log  *lockedLog
	said error // what ended the session, as reported to a client
}

// lockedLog is a server log.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) line(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(s + "\n")
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start starts a fresh database, removed at the end of the test.
func start(t testing.TB, o ClusterOptions) *server {
	t.Helper()
	if o.Data == nil {
		data, err := testRuntime(t).Template(t.Context(), memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		o.Data = data
	}
	s, err := tryStart(t, testRuntime(t), o, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tryStart starts a cluster and a session on a database.
func tryStart(t testing.TB, rt *Runtime, o ClusterOptions, database string) (*server, error) {
	t.Helper()
	s := &server{log: &lockedLog{}}
	next := o.Log
	o.Log = func(line string) {
		s.log.line(line)
		if next != nil {
			next(line)
		}
	}
	var err error
	if s.Cluster, err = rt.StartCluster(t.Context(), o); err != nil {
		return nil, err
	}
	t.Cleanup(s.Kill)
	s.login(t, database)
	return s, nil
}

// hostSession opens another session, the host's own: it has no data limit.
func hostSession(t testing.TB, s *server) *server {
	t.Helper()
	host := &server{Cluster: s.Cluster, log: s.log}
	host.connect(t, "postgres", ConnectOptions{Trusted: true, Unlimited: true})
	return host
}

// login opens the session.
func (s *server) login(t testing.TB, database string) {
	t.Helper()
	s.connect(t, database, ConnectOptions{Trusted: true})
}

func (s *server) connect(t testing.TB, database string, o ConnectOptions) {
	t.Helper()
	conn, err := s.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.conn = &netConn{Conn: conn}
	s.wire = pgproto3.NewFrontend(s.conn, s.conn)
	s.wire.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": database}})
	if err := s.wire.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.answers(1); err != nil {
		t.Fatal(err)
	}
}

// answers reads up to n ReadyForQuery, and returns everything. Its error is that of the session's end.
func (s *server) answers(n int) ([]byte, error) {
	var out []byte
	for n > 0 {
		m, err := s.wire.Receive()
		if err != nil {
			s.said = err
			return out, err
		}
		if out, err = m.Encode(out); err != nil {
			return out, err
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			n--
		}
	}
	return out, nil
}

// Exec sends messages, and writes the answers up to the last ReadyForQuery they request.
func (s *server) Exec(_ context.Context, messages []byte, w io.Writer) error {
	if _, err := s.conn.Write(messages); err != nil {
		return errors.Join(err, s.said, s.Cluster.Err())
	}
	n := 0
	for b := messages; len(b) >= 5; b = b[min(len(b), 1+int(binary.BigEndian.Uint32(b[1:]))):] {
		if strings.IndexByte("QSF", b[0]) >= 0 {
			n++
		}
	}
	out, err := s.answers(n)
	if _, failed := w.Write(out); failed != nil {
		return failed
	}
	return err
}

// Query runs SQL by the simple protocol. When ctx ends, another session cancels it.
func (s *server) Query(ctx context.Context, sql string) ([]Result, error) {
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := s.Exec(ctx, message, &out); err != nil {
		return nil, err
	}
	return ParseResults(&out)
}

// Cancel sends the session's process the signal of a CancelRequest.
func (s *server) Cancel() { s.conn.Process().signal(sigINT) }

// rows returns the last statement's rows: columns joined by |, rows by newlines. An error fails the test.
func rows(t testing.TB, in *server, sql string) string {
	t.Helper()
	results, err := in.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(results) == 0 {
		return ""
	}
	return format(results[len(results)-1])
}

func format(result Result) string {
	lines := make([]string, len(result.Rows))
	for i, r := range result.Rows {
		values := slices.Clone(r)
		for j := range values {
			if result.Null(i, j) {
				values[j] = "NULL"
			}
		}
		lines[i] = strings.Join(values, "|")
	}
	return strings.Join(lines, "\n")
}

// want runs SQL and compares the last statement's rows.
func want(t testing.TB, in *server, sql, rowsWanted string) {
	t.Helper()
	if got := rows(t, in, sql); got != rowsWanted {
		t.Fatalf("%s:\ngot  %s\nwant %s", sql, got, rowsWanted)
	}
}

// wantState runs SQL that must fail with an SQLSTATE; the instance must then accept the next statement.
func wantState(t testing.TB, in *server, sql, state string) *pgconn.PgError {
	t.Helper()
	_, err := in.Query(t.Context(), sql)
	pgErr := wantPgError(t, err, state)
	if _, err := in.Query(t.Context(), "ROLLBACK"); err != nil {
		t.Fatalf("after %s: %v", sql, err)
	}
	want(t, in, "SELECT 1", "1")
	return pgErr
}

func wantPgError(t testing.TB, err error, state string) *pgconn.PgError {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != state {
		t.Fatalf("got %v, want SQLSTATE %s", err, state)
	}
	return pgErr
}

// encode returns frontend messages in wire format.
func encode(t testing.TB, messages ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// exchange runs messages by Exec and returns a line for each answer.
func exchange(t testing.TB, in *server, messages ...pgproto3.FrontendMessage) string {
	t.Helper()
	var out bytes.Buffer
	if err := in.Exec(t.Context(), encode(t, messages...), &out); err != nil {
		t.Fatal(err)
	}
	return transcript(t, out.Bytes())
}

// transcript returns a line for each backend message except ParameterStatus, whose time is up to PostgreSQL.
func transcript(t testing.TB, answer []byte) string {
	t.Helper()
	front := pgproto3.NewFrontend(bytes.NewReader(answer), nil)
	var lines []string
	for {
		m, err := front.Receive()
		if err != nil {
			return strings.Join(lines, "\n")
		}
		if _, ok := m.(*pgproto3.ParameterStatus); !ok {
			lines = append(lines, line(m))
		}
	}
}

// line returns a backend message in a short form.
func line(m pgproto3.BackendMessage) string {
	name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3.")
	switch m := m.(type) {
	case *pgproto3.RowDescription:
		for _, f := range m.Fields {
			name += " " + string(f.Name)
		}
	case *pgproto3.DataRow:
		row := make([]string, len(m.Values))
		for i, v := range m.Values {
			if row[i] = string(v); v == nil {
				row[i] = "NULL"
			}
		}
		name += " " + strings.Join(row, "|")
	case *pgproto3.CommandComplete:
		name += " " + string(m.CommandTag)
	case *pgproto3.ErrorResponse:
		name += " " + m.Severity + " " + m.Code
	case *pgproto3.NoticeResponse:
		name += " " + m.Severity + " " + m.Code
	case *pgproto3.ReadyForQuery:
		name += " " + string(m.TxStatus)
	case *pgproto3.CopyData:
		name += fmt.Sprintf(" %q", m.Data)
	case *pgproto3.NotificationResponse:
		name += " " + m.Channel + " " + m.Payload
	}
	return name
}

// wantLines compares a transcript.
func wantLines(t testing.TB, got string, lines ...string) {
	t.Helper()
	if wanted := strings.Join(lines, "\n"); got != wanted {
		t.Fatalf("got:\n%s\nwant:\n%s", got, wanted)
	}
}
