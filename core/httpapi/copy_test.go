package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestCopy: COPY whose data would go through the request is refused at once, has not been done, and holds nobody up.
func TestCopy(t *testing.T) {
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

// TestTextThatIsNone: PostgreSQL lets COPY store what is not UTF-8. JSON cannot hold it, and nothing else is answered instead.
func TestTextThatIsNone(t *testing.T) {
	s := service(t, onStore(mem.New(mem.Options{})))
	for _, sql := range []string{
		"CREATE TABLE t (a text)", `SELECT lo_from_bytea(4711, '\x63ff0a')`, "SELECT lo_export(4711, '/tmp/bad')",
		"COPY t FROM '/tmp/bad' (ENCODING 'SQL_ASCII')",
	} {
		if status, body, _ := post(t, s, `{"sql":`+quoted(t, sql)+`}`); status != 200 {
			t.Fatal(body)
		}
	}
	for _, kind := range []string{"application/json", "application/x-ndjson"} {
		_, body, _ := post(t, s, `{"sql":"SELECT a FROM t"}`, "Accept", kind)
		if !strings.Contains(body, `"22021"`) || strings.Contains(body, "\ufffd") || strings.Contains(body, `\ufffd`) {
			t.Errorf("%s: %s", kind, body)
		}
	}
}

func quoted(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTooManyParameters(t *testing.T) {
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
	// What PostgreSQL itself says of as many as there may be is an error of whoever asks, too.
	if status, body, _ := post(t, s, params(maxParams)); status != 400 || !strings.Contains(body, "sqlstate") {
		t.Errorf("%d %s", status, body)
	}
}

// TestCannotBeOpened: whatever keeps the database from being opened, nothing has run, and it is worth trying again.
func TestCannotBeOpened(t *testing.T) {
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
