package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/pglite"
)

// run carries bytes both ways until the process has ended.
func (c *client) run() error {
	asked := make(chan error, 1)
	go func() { asked <- c.requests() }()
	_, err := io.Copy(answers{c}, c.backend)
	c.over.Store(c.gone == nil)
	if c.gone != nil {
		_ = c.raw.Close() // the other goroutine takes care of the process
		return errors.Join(fmt.Errorf("write to the client: %w", c.gone), <-asked)
	}
	if f := c.why.Load(); f != nil {
		err = f
	} else if errors.Is(err, net.ErrClosed) {
		err = nil // the client has gone
	}
	if err != nil {
		f := engineFailure(err)
		if c.in(stateStarts) {
			c.refused = f.code
		}
		c.say(f)
	}
	if c.refused != "" {
		c.gate.countRefusal(c.refusalReason(refusedCode(c.refused)))
	}
	c.linger(func() { err = errors.Join(err, <-asked) })
	return err
}

// requests copies what the client sends to the process, and returns when the process has ended.
func (c *client) requests() error {
	err := c.forward()
	switch {
	case errors.Is(err, pglite.ErrHungUp):
		<-c.backend.Done()
		c.drain()
		return c.backend.Close()
	case errors.Is(err, errGone):
		_ = c.raw.Close() // there is no reader either
	default:
		c.endFor(c.blame(err))
	}
	_ = c.backend.Close()
	t := c.o.Clock.NewTimer(c.o.VanishTimeout)
	defer t.Stop()
	select {
	case <-c.backend.Done():
		return nil
	case <-t.C():
	}
	c.counts.vanished.Add(1)
	c.backend.Terminate()
	<-c.backend.Done()
	return fmt.Errorf("the client's statement was ended %v after it had disconnected: %w", c.o.VanishTimeout, err)
}

// Sizes, in bytes, of the buffer for what a client sends: small as long as it sends little.
const (
	smallRequest = 4 << 10
	largeRequest = 64 << 10
)

// forward copies from the client to the process until the client goes (errGone), its time is up, the process has ended (pglite.ErrHungUp),
// or a write to the process fails.
func (c *client) forward() error {
	b := make([]byte, smallRequest)
	for {
		n, err := c.conn.Read(b)
		if n > 0 {
			if !c.in(stateStarts) {
				c.state.Store(uint32(stateActive))
			}
			if err := c.give(b[:n], n < len(b)); err != nil {
				return err
			}
			switch {
			case n == len(b):
				b = make([]byte, largeRequest)
			case n < smallRequest && len(b) > smallRequest:
				b = make([]byte, smallRequest)
			}
		}
		switch {
		case err == nil:
		case c.over.Load():
			return pglite.ErrHungUp
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return gone(err)
		case c.in(stateStarts) || c.why.Load() != nil:
			return err
		default:
			_ = c.raw.SetReadDeadline(time.Time{}) // it logged in just in time
		}
	}
}

// give writes to the process what the client has sent. If that is all for now (all), and the connection is a real one, whose kernel buffers
// what the client has not read yet, it also writes an answer that is ready immediately.
func (c *client) give(b []byte, all bool) (err error) {
	if _, buffered := c.raw.(syscall.Conn); all && buffered && !c.in(stateStarts) {
		_, err = c.backend.Ask(b, answers{c})
	} else {
		_, err = c.backend.Write(b)
	}
	return err
}

// answers is the client as a writer for the process's answers.
type answers struct{ c *client }

// stallChunk is how many bytes a client must read within StallTimeout.
const stallChunk = 1 << 20

// Write implements io.Writer.
func (a answers) Write(p []byte) (int, error) {
	c := a.c
	wrong, first := false, -1
	c.frames.follow(p, func(m message) {
		starts := c.in(stateStarts)
		wrong = c.met(m) || wrong
		if starts && m.kind == kindReady {
			first = m.at
		}
	})
	if wrong {
		c.delay()
	}
	if first < 0 {
		return c.write(p)
	}
	// A notice may come between any two messages; clients show one immediately if it comes before the first ReadyForQuery.
	done, err := c.write(p[:first])
	if err == nil {
		_, err = c.write(c.warning())
	}
	if err != nil {
		return done, err
	}
	n, err := c.write(p[first:])
	return done + n, err
}

// write sends bytes to the client, which must take some of them every StallTimeout.
func (c *client) write(p []byte) (done int, err error) {
	for done < len(p) {
		if now := c.o.Clock.Now(); c.writable.Before(now.Add(c.o.StallTimeout)) && !c.in(stateStarts) {
			c.writable = now.Add(2 * c.o.StallTimeout)
			_ = c.raw.SetWriteDeadline(c.writable)
		}
		n, err := c.conn.Write(p[done:min(len(p), done+stallChunk)])
		done += n
		if err != nil {
			c.gone = err
			return done, err
		}
	}
	return done, nil
}

// warning is a notice for a superuser about settings that PostgreSQL could not start with; empty: there are none.
func (c *client) warning() []byte {
	b, ok := c.backend.(interface{ LeftOut() []string })
	if !ok || !c.super || len(b.LeftOut()) == 0 {
		return nil
	}
	notice := pgproto3.NoticeResponse{
		Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000",
		Message: "PostgreSQL could not start with the configured values of " + strings.Join(b.LeftOut(), ", ") + ", and has started without them",
		Detail:  "The server's log says why. The file postgresql.auto.conf is as it was.", Hint: "ALTER SYSTEM RESET, or ALTER SYSTEM SET another value, and restart.",
	}
	out, err := notice.Encode(nil)
	if err != nil {
		return nil // only for a text of gigabytes
	}
	return out
}

// met records what a message of the process means. wrong: the client's password was wrong.
func (c *client) met(m message) (wrong bool) {
	switch body := m.body; m.kind {
	case kindAuthentication:
		if c.known || len(body) < 4 {
			return false
		}
		if binary.BigEndian.Uint32(body) != 0 { // AuthenticationOk
			c.gate.asked(c.arrival)
			return false
		}
		c.known = true
		if err := c.gate.entered(c.arrival); err != nil {
			return false // the goroutine that reads the client is about to end the connection
		}
		c.limit(time.Time{})
	case kindReady:
		if len(body) == 1 {
			c.ready(body[0])
		}
	case kindParameter:
		if c.in(stateStarts) {
			name, value, _ := bytes.Cut(body, []byte{0})
			c.super = c.super || string(name) == "is_superuser" && bytes.HasPrefix(value, []byte("on\x00"))
		}
	case kindError:
		if c.in(stateStarts) {
			c.refused = errorCode(body)
			return !c.known && c.refused == "28P01"
		}
	}
	return false
}

// ready records that the process waits for its client.
func (c *client) ready(transaction byte) {
	now := stateIdle
	if transaction != 'I' {
		now = stateInBlock
	}
	c.state.Store(uint32(now))
	if c.ends.Load() {
		c.backend.Terminate()
	}
}

// authDelay is how long the answer to a wrong password is delayed.
const authDelay = time.Second

// delay delays the answer to a wrong password. The process ends in that time, and its place becomes free.
func (c *client) delay() {
	t := c.o.Clock.NewTimer(authDelay)
	defer t.Stop()
	select {
	case <-c.backend.Done():
		c.gate.startAgain(c.arrival)
	case <-t.C():
		return
	}
	select {
	case <-c.arrival.gone:
	case <-t.C():
	}
}
