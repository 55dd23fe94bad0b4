package interleave

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

// Limit is how long an answer that waits for no lock may take.
const Limit = 10 * time.Second

// outcome is how reading came to its end.
type outcome int

const (
	answered outcome = iota
	waits            // the server says that it waits for a lock
	gone             // the connection has ended
	silent           // nothing came within the limit
)

// conn is one connection, read and written by the goroutine that runs the schedule.
type conn struct {
	raw    net.Conn
	wire   *pgproto3.Frontend
	limit  time.Duration
	clk    clock.Clock
	words  *words
	pid    uint32
	secret []byte
	status byte // of the transaction, according to the last ReadyForQuery
	// skipping: after an error without a Sync the server skips input until there is one.
	skipping   bool
	got        []string              // the messages of the answer being read
	told       []string              // the notifications that came with it
	parameters map[string]string     // what the server has reported about them
	row        func(values [][]byte) // gets every row; nil: dropped
}

// parameters returns the parameters of every connection. A schedule learns about waits from the notices about locks.
func parameters(name string) map[string]string {
	return map[string]string{
		"user": "postgres", "database": "postgres", "application_name": name, "client_min_messages": "log", "log_lock_waits": "on",
		"deadlock_timeout": "5ms", "TimeZone": "UTC", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "search_path": `"$user", public`,
		"client_encoding": "UTF8",
	}
}

// dial makes a connection, after reading the server's welcome into got.
func dial(ctx context.Context, address, name string, limit time.Duration, w *words) (*conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect as %s: %w", name, err)
	}
	c := &conn{raw: raw, wire: pgproto3.NewFrontend(raw, raw), limit: limit, clk: clock.System(), words: w, parameters: map[string]string{}}
	err = c.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: parameters(name)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect as %s: %w", name, err), raw.Close())
	}
	if how := c.read(ready); how != answered {
		text := c.answer()
		return nil, errors.Join(fmt.Errorf("connect as %s: %w: the server has not taken the connection: %s", name, errNoAnswer, text), raw.Close())
	}
	w.know(c.pid, name)
	return c, nil
}

// errNoAnswer: the server says nothing, or has hung up, where it must answer.
var errNoAnswer = errors.New("no answer")

// send sends messages together.
func (c *conn) send(list ...pgproto3.FrontendMessage) error {
	for _, m := range list {
		c.wire.Send(m)
	}
	_ = c.raw.SetWriteDeadline(c.clk.Now().Add(c.limit))
	return c.wire.Flush()
}

// ask sends messages and reads the answer. Where the server skips input, a Sync goes first.
func (c *conn) ask(until ending, list ...pgproto3.FrontendMessage) outcome {
	skipped := c.skipping
	if skipped {
		list = append([]pgproto3.FrontendMessage{&pgproto3.Sync{}}, list...)
	}
	if err := c.send(list...); err != nil {
		return gone
	}
	if skipped {
		if how := c.read(ready); how != answered {
			return how
		}
	}
	return c.read(until)
}

// stillWaiting is PostgreSQL's notice after deadlock_timeout.
var stillWaiting = regexp.MustCompile(`^process \d+ still waiting for`)

// read reads messages until the answer is complete.
func (c *conn) read(until ending) outcome {
	_ = c.raw.SetReadDeadline(c.clk.Now().Add(c.limit))
	for {
		m, err := c.wire.Receive()
		if err != nil {
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				return silent
			}
			return gone
		}
		switch m := m.(type) {
		case *pgproto3.BackendKeyData:
			c.pid, c.secret = m.ProcessID, append([]byte(nil), m.SecretKey...)
			continue
		case *pgproto3.NotificationResponse:
			c.told = append(c.told, c.words.of(m))
			continue
		case *pgproto3.ParameterStatus:
			if told, ok := c.parameters[m.Name]; ok && told == m.Value {
				c.words.repeated++
				continue
			}
			c.parameters[m.Name] = m.Value
		}
		c.got = append(c.got, c.words.of(m))
		switch m := m.(type) {
		case *pgproto3.NoticeResponse:
			if stillWaiting.MatchString(m.Message) {
				return waits
			}
		case *pgproto3.ReadyForQuery:
			c.status, c.skipping = m.TxStatus, false
			if until == ready {
				return answered
			}
		case *pgproto3.ErrorResponse:
			if until == flushed {
				c.skipping = true
				return answered
			}
		case *pgproto3.CommandComplete, *pgproto3.CopyInResponse:
			if until == flushed {
				return answered
			}
		case *pgproto3.DataRow:
			if c.row != nil {
				c.row(m.Values)
			}
		}
	}
}

// answer returns what was read since the last call, in words.
func (c *conn) answer() string {
	text := join(append(c.told, c.got...))
	c.got, c.told = nil, nil
	return text
}

// vanish closes our half without a word, as the end of a process would, and keeps the other one to see the server's end.
func (c *conn) vanish() error {
	half, ok := c.raw.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("vanish: %T cannot be half closed", c.raw)
	}
	return half.CloseWrite()
}

// drain reads until the server has closed the connection, which it does when the process has ended and left nothing.
func (c *conn) drain() error {
	_ = c.raw.SetReadDeadline(c.clk.Now().Add(c.limit))
	if _, err := io.Copy(io.Discard, c.raw); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the server has not ended the session: %w", errNoAnswer, err)
	}
	return nil
}

func (c *conn) close() { _ = c.raw.Close() }
