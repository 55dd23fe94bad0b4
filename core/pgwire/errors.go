package pgwire

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/engine"
	"blobpglite/core/lease"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
)

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("the server is closed")

// failed is an error of this server, as a client sees it.
type failed struct {
	code    string // SQLSTATE
	message string
}

func (f *failed) Error() string { return f.code + ": " + f.message }

func failure(code, format string, args ...any) *failed {
	return &failed{code, fmt.Sprintf(format, args...)}
}

// fatal returns the message that ends a connection.
func (f *failed) fatal() []byte {
	m := pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: f.code, Message: f.message}
	out, err := m.Encode(nil)
	if err != nil {
		return nil // only for a text of gigabytes
	}
	return out
}

// errGone: the client has gone, so nothing can be sent to it.
var errGone = errors.New("the client has disconnected")

func gone(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// engineFailure translates an error of the engine.
func engineFailure(err error) *failed {
	var f *failed
	var locked *lease.LockedError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &locked):
		return failure("57P03", "the database cannot be opened now: %v; try again", locked)
	case errors.Is(err, engine.ErrMoved):
		return failure("57P01", "connect again: %v", err)
	case errors.Is(err, engine.ErrStale):
		return failure("57P03", "%v: try again", err)
	case errors.Is(err, engine.ErrPoisoned), errors.Is(err, engine.ErrClosed):
		return failure("57P01", "the database must be reopened: connect again: %v", err)
	case errors.Is(err, engine.ErrUnknown):
		return failure("08007", "it is unknown whether the transaction was committed: check by reading: %v", err)
	case errors.Is(err, engine.ErrFenced):
		return failure("57P01", "another writer has taken over the database; what was not acknowledged is not committed: connect again: %v", err)
	case errors.Is(err, pglite.ErrTooManyProcesses):
		return failure("53300", "%v: try again", err)
	case errors.Is(err, pglite.ErrAddressSpace):
		return failure("53200", "%v", err)
	case errors.Is(err, engine.ErrCrashed), errors.Is(err, pglite.ErrDead):
		return failure("57P02", "a PostgreSQL process failed, so all were ended, and PostgreSQL is restarting: connect again; running transactions were rolled back, except those that had just committed: %v", err)
	case errors.Is(err, engine.ErrStarting):
		return failure("57P03", "%v after a failure: try again", err)
	case errors.Is(err, engine.ErrNoDatabase):
		return failure("3D000", "%v", err)
	case errors.Is(err, store.ErrDenied):
		return failure("58000", "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure("57P01", "the server is shutting down")
	}
	return failure("58000", "%v", err)
}
