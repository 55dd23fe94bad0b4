package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/pglite"
)

// hostSession is the session for the host's own statements: a single session, as superuser, whose state persists between calls. The first
// call opens it, and so does the first one after it has ended. Calls take turns, in order of arrival.
type hostSession struct {
	turn chan struct{}
	conn *Conn  // nil: there is none
	user string // the one whose last login succeeded
}

func newHostSession() hostSession {
	h := hostSession{turn: make(chan struct{}, 1)}
	h.turn <- struct{}{}
	return h
}

// Query runs SQL through the simple protocol, as superuser, and returns the results as text once they are durable. A SQL error is a
// *pgconn.PgError. All calls of Query and Exec share one session, and run one after the other. Other errors: those of Exec.
func (e *Engine) Query(ctx context.Context, sql string) ([]pglite.Result, error) {
	message, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return nil, fmt.Errorf("encode a query of %d bytes: %w", len(sql), err)
	}
	var answer bytes.Buffer
	if err := e.Exec(ctx, message, &answer); err != nil {
		return nil, err
	}
	return pglite.ParseResults(&answer)
}

// Exec runs frontend messages in the host's own session, uninterrupted by other calls, and writes PostgreSQL's answers to w once everything
// they report is durable. Extended messages without a Sync get one. A SQL error is part of the answer, not an error of Exec. When ctx ends,
// the running statement is canceled, and the rest of the answer is dropped. Errors: pglite.ErrMessage (nothing was run, unless it is about
// COPY), ErrFenced, ErrUnknown, ErrPoisoned, ErrClosed, ErrCrashed, ErrStarting, the context's, those of w.
func (e *Engine) Exec(ctx context.Context, messages []byte, w io.Writer) error {
	r, err := readRequest(messages)
	if err != nil || r.ready == 0 {
		return err
	}
	h := &e.host
	select {
	case <-h.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { h.turn <- struct{}{} }()
	if err := e.admit(ctx); err != nil {
		return err
	}
	if h.conn != nil && isDone(h.conn.Done()) { // it was ended, or PostgreSQL has crashed
		_ = h.conn.Close()
		h.conn = nil
	}
	if h.conn == nil {
		if h.conn, err = e.openHostSession(ctx); err != nil {
			return err
		}
	}
	whole, err := e.converse(ctx, h.conn, r, w)
	if !whole {
		_ = h.conn.Close()
		h.conn = nil
	}
	return err
}

func isDone(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// request holds the messages of one call.
type request struct {
	messages []byte
	ready    int  // number of ReadyForQuery messages that PostgreSQL will send
	copies   bool // they hold the end of data for a COPY FROM STDIN
}

// readRequest checks messages and counts the answers they will get. A Terminate ends them.
func readRequest(messages []byte) (request, error) {
	const header = 5
	r := request{}
	open := false // extended messages not yet ended by a Sync
	for rest := messages; len(rest) > 0; {
		if len(rest) < header {
			return r, fmt.Errorf("%w: the last message is truncated", pglite.ErrMessage)
		}
		kind, n := rest[0], int64(binary.BigEndian.Uint32(rest[1:]))+1
		if n < header || n > int64(len(rest)) {
			return r, fmt.Errorf("%w: a message of type %q announces %d bytes, but there are %d", pglite.ErrMessage, kind, n, len(rest))
		}
		switch kind {
		case 'X':
			n, rest = 0, nil
		case 'Q', 'F':
			r.ready++
		case 'S':
			r.ready, open = r.ready+1, false
		case 'P', 'B', 'E', 'D', 'C', 'H':
			open = true
		case 'c', 'f':
			r.copies = true
		}
		r.messages, rest = messages[:len(r.messages)+int(n)], rest[n:]
	}
	if open {
		sync, err := (&pgproto3.Sync{}).Encode(nil)
		if err != nil {
			return r, fmt.Errorf("encode a Sync: %w", err)
		}
		r.messages, r.ready = append(bytes.Clone(r.messages), sync...), r.ready+1
	}
	return r, nil
}

// converse sends a request and copies its answers to w. whole: the session can be used again.
func (e *Engine) converse(ctx context.Context, c *Conn, r request, w io.Writer) (whole bool, err error) {
	sent := make(chan error, 1)
	go func() {
		_, err := c.process.Send(c.life, r.messages)
		sent <- err
	}()
	defer func() {
		if !whole {
			c.end()
		}
		<-sent
	}()
	var got reply
	var failed error
	for got.ready < r.ready {
		answer, err := insist(ctx, c)
		if err != nil {
			if failed == nil {
				failed = e.clientError(err)
			}
			if errors.Is(failed, io.EOF) {
				failed = fmt.Errorf("%w: the session was ended", ErrCrashed)
			}
			return false, failed
		}
		got.read(answer.Bytes)
		if failed == nil {
			failed = e.release(ctx, mark(answer.Mark))
		}
		if failed == nil {
			if _, err := w.Write(answer.Bytes); err != nil {
				failed = fmt.Errorf("write the answer: %w", err)
			}
		}
		if got.wantsData && !r.copies {
			return false, errors.Join(failed, fmt.Errorf("%w: a COPY FROM STDIN without data", pglite.ErrMessage))
		}
	}
	if failed == nil {
		failed = ctx.Err()
	}
	return true, failed
}

// cancelPatience is how long PostgreSQL may take to answer a canceled statement before the session is given up. cancelAgain is how often
// the cancel is repeated in that time, because one that arrives before its statement has begun is lost.
const (
	cancelPatience = 5 * time.Second
	cancelAgain    = 20 * time.Millisecond
)

// insist returns the next answer. When ctx ends, it cancels the running statement.
func insist(ctx context.Context, c *Conn) (pglite.Answer, error) {
	answer, err := c.receive(ctx)
	for range cancelPatience / cancelAgain {
		if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) && !errors.Is(err, context.DeadlineExceeded) {
			break
		}
		c.Cancel()
		short, cancel := clock.WithTimeout(context.WithoutCancel(ctx), c.e.o.Clock, cancelAgain)
		answer, err = c.receive(short)
		cancel()
	}
	return answer, err
}

// reply parses PostgreSQL's answers, which come in pieces of any length.
type reply struct {
	ready     int  // ReadyForQuery
	wantsData bool // CopyInResponse
	head      []byte
	body      int // bytes of the current message still to come
}

func (r *reply) read(b []byte) {
	const header = 5
	for len(b) > 0 {
		if r.body > 0 {
			n := min(r.body, len(b))
			r.body, b = r.body-n, b[n:]
			continue
		}
		n := min(header-len(r.head), len(b))
		r.head, b = append(r.head, b[:n]...), b[n:]
		if len(r.head) < header {
			return
		}
		switch r.head[0] {
		case 'Z':
			r.ready++
		case 'G':
			r.wantsData = true
		}
		r.body = int(binary.BigEndian.Uint32(r.head[1:])) - (header - 1)
		r.head = r.head[:0]
	}
}

// hostOptions protects the host's session from settings that clients have made for all sessions.
const hostOptions = "-c event_triggers=off -c session_preload_libraries= -c local_preload_libraries= -c idle_session_timeout=0 " +
	"-c idle_in_transaction_session_timeout=0 -c transaction_timeout=0"

// openHostSession logs in as the superuser that a database is made with, whatever its name is now, to any database that lets it in.
func (e *Engine) openHostSession(ctx context.Context) (*Conn, error) {
	const superuser, usual = 10, "postgres"
	users, databases := []string{usual}, []string{usual, "template1"}
	if e.host.user != "" {
		users = []string{e.host.user, usual}
	}
	var first error
	for range 2 {
		for _, user := range users {
			for _, database := range databases {
				c, err := e.login(ctx, user, database)
				if err == nil {
					e.host.user = user
					return c, nil
				}
				if first == nil {
					first = fmt.Errorf("log in as %s for the host's own statements: %w", user, err)
				}
				if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) {
					return nil, err
				}
			}
		}
		// The role or the database was renamed or dropped: the catalogs' files have the names, as of the last checkpoint.
		files, err := e.files(ctx)
		if err != nil {
			return nil, errors.Join(first, err)
		}
		users, databases = named(files, pgdata.AuthID, superuser), named(files, pgdata.Database, 0)
	}
	return nil, first
}

// files returns a clone of the files after a checkpoint, so that they reflect the catalogs.
func (e *Engine) files(ctx context.Context) (files *memfs.FS, err error) {
	if err := e.checkpoint(ctx); err != nil {
		return nil, err
	}
	err = e.server.locked(func(c *pglite.Cluster) { files = c.Data().Clone() })
	return files, err
}

// named returns the names of a shared catalog's objects, read from the files, newest versions first; oid zero: of all objects.
func named(files *memfs.FS, catalog uint32, oid uint32) []string {
	rows, err := pgdata.Shared(files.ReadFile, catalog)
	if err != nil {
		return nil
	}
	var names []string
	for i := len(rows) - 1; i >= 0; i-- {
		if oid == 0 || rows[i].OID == oid {
			names = append(names, rows[i].Name)
		}
	}
	return names
}

// login opens a session for the host. An error from PostgreSQL is a *pgconn.PgError.
func (e *Engine) login(ctx context.Context, user, database string) (*Conn, error) {
	c, err := e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	front := pgproto3.NewFrontend(c, c)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": user, "database": database, "application_name": "host", "options": hostOptions,
	}})
	err = front.Flush()
	for err == nil {
		var m pgproto3.BackendMessage
		if m, err = front.Receive(); err != nil {
			break
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			if stop() {
				return c, nil
			}
			err = ctx.Err()
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		}
	}
	stop()
	_ = c.Close()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, err
}
