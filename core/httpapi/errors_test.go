package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
	"blobpglite/core/keeper"
)

// TestErrors: the answer, and whether the caller may retry without checking. A statement that ended while it ran may have been committed,
// unless the reason rules that out; one that has not begun has not.
func TestErrors(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "said by PostgreSQL"} }
	for _, c := range []struct {
		err           error
		status        int
		code, outcome string
	}{
		{bad(400, "wrong"), 400, "", "failed"},
		{pg("42601"), 400, "42601", "failed"},
		{pg("23505"), 409, "23505", "failed"},
		{pg("40P01"), 409, "40P01", "failed"},
		{pg("57014"), 504, "57014", "failed"},
		{pg("57P01"), 503, "57P01", "failed"},
		{pg("57P02"), 500, "57P02", "unknown"},
		{pg("08007"), 500, "08007", "unknown"},
		{pg("3D000"), 400, "3D000", "failed"}, // DROP DATABASE of none
		{&notOpen{pg("3D000")}, 404, "3D000", "failed"},
		{&notOpen{pg("55000")}, 400, "55000", "failed"},
		{&notOpen{pg("53300")}, 503, "53300", "failed"},
		{&notOpen{pg("57P02")}, 503, "57P02", "failed"},
		{&notOpen{engine.ErrUnknown}, 503, "08007", "failed"},
		{&notOpen{engine.ErrStarting}, 503, "57P03", "failed"},
		{&notOpen{fmt.Errorf("open: %w", engine.ErrLocked)}, 503, "57P03", "failed"},
		{&notOpen{errors.New("the disk is on fire")}, 503, "58000", "failed"},
		{&notOpen{context.Canceled}, 503, "58000", "failed"},
		{keeper.ErrClosed, 503, "57P01", "failed"},
		{fmt.Errorf("read: %w", engine.ErrUnknown), 500, "08007", "unknown"},
		{fmt.Errorf("read: %w: %w", engine.ErrPoisoned, engine.ErrUnknown), 500, "08007", "unknown"},
		{fmt.Errorf("read: %w", engine.ErrFenced), 503, "57P01", "failed"},
		{fmt.Errorf("read: %w", engine.ErrCrashed), 500, "57P02", "unknown"},
		{fmt.Errorf("read: %w", engine.ErrClosed), 500, "57P01", "unknown"},
		{errors.New("unexpected EOF"), 500, "58000", "unknown"},
	} {
		status, body := describe(fmt.Errorf("statement 2 of the batch: %w", c.err))
		if status != c.status || body.Error.SQLState != c.code || body.Outcome != c.outcome || body.Error.Message == "" {
			t.Errorf("%v: %d %+v", c.err, status, body)
		}
	}
}

// TestEndsTransaction: in every spelling.
func TestEndsTransaction(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"BEGIN": true, "start transaction": true, "COMMIT": true, "end work": true, "ABORT": true, "ROLLBACK": true, " ;; rollback ;": true,
		"/* a */ COMMIT AND CHAIN": true, "-- a\nROLLBACK AND CHAIN": true, "ROLLBACK /* TO */ AND CHAIN": true, "ROLLBACK -- TO a": true,
		"PREPARE TRANSACTION 'a'": true, "ROLLBACK PREPARED 'a'": true,
		"ROLLBACK TO a": false, "rollback work to savepoint a": false, "ROLLBACK/**/TRANSACTION/**/TO a": false, "SAVEPOINT a": false,
		"PREPARE p AS SELECT 1": false, "SELECT 1": false, "SELECT 'COMMIT'": false, "committed()": false, "": false, "(SELECT 1)": false,
	} {
		if got := endsTransaction(sql); got != want {
			t.Errorf("%q: %v", sql, got)
		}
	}
}

// TestDatabaseOfARequest: a name goes to PostgreSQL unchanged, or not at all.
func TestDatabaseOfARequest(t *testing.T) {
	t.Parallel()
	a := &API{o: Options{Database: "usual"}}
	for query, want := range map[string]string{
		"": "usual", "?x=1": "usual", "?database=other": "other", "?database=a%20b%C3%A4": "a bä",
		"?database=": "", "?database=a&database=b": "", "?database=a%00user%00b": "", "?database=%ff": "", "?database=%zz": "",
	} {
		got, err := a.database(httptest.NewRequest("POST", "/sql"+query, nil))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", query, got, err)
		}
	}
}
