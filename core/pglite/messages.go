package pglite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrMessage means that the bytes from a client are not the Postgres protocol: close the connection.
var ErrMessage = errors.New("malformed frontend message")

// PostgreSQL ends the whole process on a message whose type it does not know or which is too long for its type, so none
// may reach it. The bounds are its own, rounded down.
const (
	maxMessage      = 1 << 30
	maxSmallMessage = 10_000
)

// maxLength bounds the length field of a message of a type; 0: a client may not send such a message in a session.
func maxLength(kind byte) uint32 {
	switch kind {
	case 'Q', 'P', 'B', 'F', 'd': // Query, Parse, Bind, FunctionCall, CopyData
		return maxMessage
	case 'C', 'D', 'E', 'H', 'S', 'X', 'c', 'f': // Close, Describe, Execute, Flush, Sync, Terminate, CopyDone, CopyFail
		return maxSmallMessage
	default:
		return 0
	}
}

// header is the number of bytes before a message's body: type and length.
const header = 5

// complete is how many bytes at the start of b are whole messages.
func complete(b []byte) (int, error) {
	n := 0
	for len(b)-n >= header {
		size := binary.BigEndian.Uint32(b[n+1:])
		if size < header-1 || size > maxLength(b[n]) {
			return n, fmt.Errorf("%w: type %q, length %d", ErrMessage, b[n], size)
		}
		if uint64(len(b)-n) < uint64(size)+1 {
			break
		}
		n += int(size) + 1
	}
	return n, nil
}

// batch is the length of the first of these whole messages up to one that may run statements or end a transaction, that
// one included, or up to a Terminate, that one not included. A session can end there, and whether what follows is COPY
// data is known when PostgreSQL asks for it.
func batch(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		kind := b[n]
		if kind == 'X' {
			break
		}
		n += int(binary.BigEndian.Uint32(b[n+1:])) + 1
		if kind == 'Q' || kind == 'E' || kind == 'F' || kind == 'S' {
			break
		}
	}
	return n, nil
}

// copyBatch is the length of the first of these whole messages that belong to a COPY FROM STDIN, which is running. Any
// other there would end PostgreSQL.
func copyBatch(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		kind := b[n]
		switch kind {
		case 'd', 'c', 'f', 'H', 'S':
		case 'X':
			return n, nil
		default:
			if n == 0 {
				return 0, fmt.Errorf("%w: type %q in the middle of COPY FROM STDIN", ErrMessage, kind)
			}
			return n, nil
		}
		n += int(binary.BigEndian.Uint32(b[n+1:])) + 1
		if kind == 'c' || kind == 'f' {
			break
		}
	}
	return n, nil
}

// readSize is how much is read from a connection at a time.
const readSize = 16 << 10

// messageReader cuts a client's stream at message boundaries, so that PostgreSQL never sees a part of one.
type messageReader struct {
	conn io.Reader
	buf  []byte
	used int
	err  error // why there are no more
}

// next is one or more whole messages, valid until the next call.
func (r *messageReader) next() (b []byte, err error) {
	defer func() { r.err = err }()
	r.buf = append(r.buf[:0], r.buf[r.used:]...)
	r.used = 0
	for {
		n, err := complete(r.buf)
		if n > 0 { // what is wrong behind them is told by the next call
			r.used = n
			return r.buf[:n], nil
		}
		if err != nil {
			return nil, err
		}
		have := len(r.buf)
		r.buf = append(r.buf, make([]byte, readSize)...)
		got, err := r.conn.Read(r.buf[have:])
		r.buf = r.buf[:have+got]
		if err != nil && got == 0 {
			if errors.Is(err, io.EOF) && have > 0 {
				return nil, fmt.Errorf("%w: the connection ended within a message", ErrMessage)
			}
			return nil, err
		}
	}
}
