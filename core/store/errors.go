package store

import (
	"errors"
	"strconv"
	"strings"
)

// The sentinels, each with what the caller should do. Compare with errors.Is.
var (
	// ErrNotFound: no object has the key. Often expected: the caller decides what absence means.
	ErrNotFound = errors.New("no such object")
	// ErrConflict: the condition of a Put did not hold, and the object in the way was seen not to be ours. Read it,
	// then decide; the same Put would fail again.
	ErrConflict = errors.New("precondition failed")
	// ErrUnknown: a write may have been applied, or may still be. Repeat the same bytes with the same write id until
	// the outcome is known, or give up everything that depends on it. Do not delete the object.
	ErrUnknown = errors.New("outcome unknown")
	// ErrThrottled: the store refused for now, and nothing was changed. Wait, then try again.
	ErrThrottled = errors.New("throttled by the store")
	// ErrUnavailable: a read, list or probe got no usable answer within its bounded retries. Nothing was changed.
	// Try again later.
	ErrUnavailable = errors.New("store unavailable")
	// ErrCorrupt: the data read differs from the data written (checksum, length). Do not use it, and do not overwrite
	// it.
	ErrCorrupt = errors.New("corrupt object")
	// ErrDenied: credentials, permissions or the bucket itself are missing. A person must act: the message says how.
	// Nothing was changed.
	ErrDenied = errors.New("access denied")
	// ErrInvalid: an argument is not acceptable: a bug in the caller, or a wrong setting. Nothing was sent.
	ErrInvalid = errors.New("invalid argument")
)

// OpError is the error of every operation of a Store.
type OpError struct {
	Op  string // "get", "put", "copy", "delete" or "list"
	Key string // the key, or the prefix of a list, as the implementation knows it; may be empty
	Gen Gen    // for ErrConflict, the generation found; 0: absent, or unknown
	Err error  // wraps a sentinel or the context's error
}

// Error reads `put "wal/7": precondition failed (found generation 12)`.
func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Key != "" {
		b.WriteByte(' ')
		b.WriteString(strconv.Quote(e.Key))
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	if e.Gen != 0 {
		b.WriteString(" (found generation ")
		b.WriteString(strconv.FormatInt(int64(e.Gen), 10))
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns what went wrong.
func (e *OpError) Unwrap() error { return e.Err }
