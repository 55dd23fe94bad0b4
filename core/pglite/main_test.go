package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"
)

// sharedRuntime is the one runtime of the test binary: compiled once.
var sharedRuntime = sync.OnceValues(func() (*Runtime, error) {
	return NewRuntime(context.Background(), Options{})
})

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testRuntime(t testing.TB) *Runtime {
	t.Helper()
	rt, err := sharedRuntime()
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func templateImage(t testing.TB) *Image {
	t.Helper()
	img, err := testRuntime(t).TemplateImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// start is a fresh database, gone at the end of the test.
func start(t testing.TB, o InstanceOptions) *Instance { return startFrom(t, templateImage(t), o) }

func startFrom(t testing.TB, img *Image, o InstanceOptions) *Instance {
	t.Helper()
	in, err := testRuntime(t).StartImage(t.Context(), img, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Kill)
	return in
}

// rows is the last statement's rows: columns joined by |, rows by newlines. An error fails the test.
func rows(t testing.TB, in *Instance, sql string) string {
	t.Helper()
	results, err := in.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(results) == 0 {
		return ""
	}
	return format(results[len(results)-1].Rows)
}

func format(rows [][]string) string {
	lines := make([]string, len(rows))
	for i, r := range rows {
		lines[i] = strings.ReplaceAll(strings.Join(r, "|"), NullText, "NULL")
	}
	return strings.Join(lines, "\n")
}

// want runs SQL and compares the last statement's rows.
func want(t testing.TB, in *Instance, sql, rowsWanted string) {
	t.Helper()
	if got := rows(t, in, sql); got != rowsWanted {
		t.Fatalf("%s:\ngot  %s\nwant %s", sql, got, rowsWanted)
	}
}

// wantState runs SQL that must fail with an SQLSTATE, and the instance must take the next statement.
func wantState(t testing.TB, in *Instance, sql, state string) *pgconn.PgError {
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

// encode is frontend messages as they go over the wire.
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
func exchange(t testing.TB, in *Instance, messages ...pgproto3.FrontendMessage) string {
	t.Helper()
	var out bytes.Buffer
	if err := in.Exec(t.Context(), encode(t, messages...), &out); err != nil {
		t.Fatal(err)
	}
	return transcript(t, out.Bytes())
}

// transcript is a line for each backend message but ParameterStatus, which comes when PostgreSQL likes.
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

// line is a backend message in short.
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
