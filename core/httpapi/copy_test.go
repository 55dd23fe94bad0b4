package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestCopy: a COPY whose data would go through the request is refused immediately, is not executed, and blocks no one.
func TestCopy(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	post(t, s, `{"sql":"CREATE TABLE t (a int)"}`)
	post(t, s, `{"sql":"INSERT INTO t VALUES (1), (2)"}`)
	for _, c := range []struct{ name, body string }{
		{"in", `{"sql":"COPY t FROM STDIN"}`},
		{"in, csv", `{"sql":"  copy t FROM STDIN (FORMAT csv)"}`},
		{"in, behind a comment", `{"sql":"/* a /* nested */ one */ -- more\n COPY t FROM STDIN"}`},
		{"in, of a batch", `{"batch":[{"sql":"INSERT INTO t VALUES (3)"},{"sql":"COPY t FROM STDIN"}]}`},
		{"out", `{"sql":"COPY t TO STDOUT"}`},
		{"out, behind a comment", `{"sql":"/**/COPY(SELECT 1) TO STDOUT"}`},
		{"out, with something done", `{"sql":"COPY (INSERT INTO t VALUES (4) RETURNING a) TO STDOUT"}`},
		{"out, of a batch", `{"batch":[{"sql":"INSERT INTO t VALUES (5)"},{"sql":"COPY t TO STDOUT"}]}`},
	} {
		for _, kind := range []string{"application/json", "application/x-ndjson"} {
			if kind != "application/json" && strings.Contains(c.body, "batch") {
				continue
			}
			status, body, _ := post(t, s, c.body, "Accept", kind)
			if status != 400 || !strings.Contains(body, `"0A000"`) || !strings.Contains(body, `"outcome":"failed"`) {
				t.Errorf("%s, %s: %d %s", c.name, kind, status, body)
			}
			if _, body, _ := post(t, s, `{"sql":"SELECT count(*) AS n FROM t"}`); !strings.Contains(body, "[[2]]") {
				t.Fatalf("after %s: %s", c.name, body)
			}
		}
	}
	// Between the database and its own files it is possible.
	for _, sql := range []string{"COPY t TO '/tmp/t.csv'", "COPY t FROM '/tmp/t.csv'"} {
		if status, body, _ := post(t, s, `{"sql":"`+sql+`"}`); status != 200 || !strings.Contains(body, `"COPY 2"`) {
			t.Errorf("%s: %d %s", sql, status, body)
		}
	}
	if status, body, _ := post(t, s, `{"sql":"COPY t FROM '/tmp/t.csv'"}`, "Accept", "application/x-ndjson"); status != 200 || !strings.HasSuffix(body, `{"tag":"COPY 2"}`) {
		t.Errorf("%d %s", status, body)
	}
	if _, body, _ := post(t, s, `{"sql":"SELECT count(*) AS n FROM t"}`); !strings.Contains(body, "[[6]]") {
		t.Error(body)
	}
}

// TestTextThatIsNone: JSON cannot hold text that is not UTF-8; the answer is an error that names the place, and nothing else. A stand-in
// provides the row: PostgreSQL should never hold one.
func TestTextThatIsNone(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- answerWith(pgproto3.NewBackend(server, server), []byte("c\xff")) }()
	config, err := pgconn.ParseConfig("postgres://postgres@stand-in/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"stand-in"}, nil }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return client, nil }
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	results := conn.Exec(t.Context(), "SELECT a FROM t")
	if !results.NextResult() || !results.ResultReader().NextRow() {
		t.Fatal("no row")
	}
	_, err = row(results.ResultReader())
	var bad *badValue
	if !errors.As(err, &bad) || bad.column != "a" || bad.at != 1 || bad.found != 0xff {
		t.Fatalf("of a row with a text that is none: %v", err)
	}
	if status, body := describe(err); status != 500 || body.Error.SQLState != "22021" || strings.Contains(body.Error.Message, "\ufffd") {
		t.Errorf("it is told as %d %+v", status, body)
	}
	if err := errors.Join(results.Close(), conn.Close(t.Context()), <-ended); err != nil {
		t.Error(err)
	}
}

// answerWith lets one client in and answers its query with one row.
func answerWith(b *pgproto3.Backend, value []byte) error {
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return err
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := b.Flush(); err != nil {
		return err
	}
	for {
		switch m, err := b.Receive(); m.(type) {
		case *pgproto3.Query:
			b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a"), DataTypeOID: pgtype.TextOID}}})
			b.Send(&pgproto3.DataRow{Values: [][]byte{value}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if err := b.Flush(); err != nil {
				return err
			}
		case *pgproto3.Terminate:
			return nil
		default:
			return fmt.Errorf("the client sent %T: %w", m, err)
		}
	}
}

func TestTooManyParameters(t *testing.T) {
	t.Parallel()
	s := service(t, onStore(mem.New(mem.Options{})))
	params := func(n int) string {
		b, err := json.Marshal(map[string]any{"sql": "SELECT 1", "params": make([]any, n)})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	status, body, _ := post(t, s, params(70_000))
	if status != 400 || !strings.Contains(body, "70000 parameters") || !strings.Contains(body, `"failed"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, body, _ := post(t, s, params(maxParams+1)); status != 400 {
		t.Errorf("%d %s", status, body)
	}
	// PostgreSQL's own error about the largest allowed number is the caller's error, too.
	if status, body, _ := post(t, s, params(maxParams)); status != 400 || !strings.Contains(body, "sqlstate") {
		t.Errorf("%d %s", status, body)
	}
}

// TestCannotBeOpened: whatever keeps the database from being opened, nothing has run, and a retry is worthwhile.
func TestCannotBeOpened(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"denied": &store.OpError{Op: "get", Key: "manifest", Err: store.ErrDenied}, "none": engine.ErrNoDatabase, "anything": errors.New("the disk is on fire"),
		"unknown": engine.ErrUnknown,
	} {
		s := service(t, func(context.Context) (*engine.Engine, error) { return nil, err })
		status, body, h := post(t, s, `{"sql":"SELECT 1"}`)
		if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, `"outcome":"failed"`) || !strings.Contains(body, strings.ReplaceAll(err.Error(), `"`, `\"`)) {
			t.Errorf("%s: %d %s %v", name, status, body, h)
		}
		if status, body := get(t, s, "/healthz"); status != 503 {
			t.Errorf("%s, healthz: %d %s", name, status, body)
		}
	}
}

func TestIsCopy(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"COPY t FROM STDIN": true, "copy(select 1) to stdout": true, "\n\t;; Copy\tt TO STDOUT": true, "--x\rCOPY t TO STDOUT": true,
		"/*/**/*/COPY t TO STDOUT": true, `COPY"t" TO STDOUT`: true, "COPY": false, "copying": false, "copy_t()": false, "SELECT 1 -- COPY": false,
		"/* COPY t */": false, "/* /* */ COPY t TO STDOUT": false, "-- COPY t": false, "": false, "SELECT 'COPY t'": false,
	} {
		if got := isCopy(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}
