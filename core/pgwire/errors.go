package pgwire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/engine"
	"blobpglite/core/lease"
	"blobpglite/core/store"
)

// failed is an error of this server, as a client sees it.
type failed struct {
	code    string // SQLSTATE
	message string
}

func (f *failed) Error() string { return f.code + ": " + f.message }

func failure(code, format string, args ...any) *failed {
	return &failed{code, fmt.Sprintf(format, args...)}
}

// append adds the error as a message.
func (f *failed) append(b []byte, severity string) []byte {
	m := pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: f.code, Message: f.message}
	out, err := m.Encode(b)
	if err != nil {
		return b // only a text of gigabytes
	}
	return out
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
	case errors.Is(err, engine.ErrPoisoned), errors.Is(err, engine.ErrClosed):
		return failure("57P01", "the database has to be opened again: connect again: %v", err)
	case errors.Is(err, engine.ErrUnknown):
		return failure("08007", "it is not known whether the transaction was committed: find out by reading: %v", err)
	case errors.Is(err, engine.ErrFenced):
		return failure("57P01", "another writer has the database; what was not acknowledged is not committed: connect again: %v", err)
	case errors.Is(err, engine.ErrNoDatabase):
		return failure("3D000", "%v", err)
	case errors.Is(err, store.ErrDenied):
		return failure("58000", "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure("57P01", "the server is shutting down")
	}
	return failure("58000", "%v", err)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
