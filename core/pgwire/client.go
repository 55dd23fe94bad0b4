package pgwire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
)

// client is a connection, from accept to close. Two goroutines serve it: one copies from the client to its process, the other from the
// process to the client. The first one may also write answers (Conn.Ask); while it does, it is the one that reads the process.
type client struct {
	o       *Options
	gate    *gate
	arrival *arrival
	raw     net.Conn
	conn    net.Conn // raw, or TLS on it

	backend Conn
	ends    atomic.Bool            // end the connection when the running statement has ended
	over    atomic.Bool            // the process has ended, and its last answer has been read
	why     atomic.Pointer[failed] // the server's own reason to end the connection; the first one counts
	state   atomic.Uint32          // a state
	counts  *counts

	// For the goroutine that writes to the client; see Conn.Ask.
	frames   frames
	known    bool   // AuthenticationOk has arrived
	super    bool   // the role is a superuser
	refused  string // SQLSTATE of an error before the first ReadyForQuery
	writable time.Time
	gone     error // from writing to the client
}

// counts are totals over all clients of a server.
type counts struct{ cancels, vanished atomic.Int64 }

// state is what a client's session is doing.
type state uint32

const (
	stateStarts  state = iota // not logged in yet
	stateIdle                 // waits for its client
	stateInBlock              // waits for its client, in a transaction
	stateActive               // runs something
)

func (c *client) in(s state) bool { return state(c.state.Load()) == s }

// limit sets the deadline for the client's next bytes; a connection that must already end is interrupted.
func (c *client) limit(deadline time.Time) {
	_ = c.raw.SetReadDeadline(deadline)
	if c.gate.isEvicted(c.arrival) || c.why.Load() != nil {
		c.interrupt()
	}
}

// interrupt ends a read from the client, by a deadline in the past.
func (c *client) interrupt() { _ = c.raw.SetReadDeadline(time.Unix(1, 0)) }

// refusalReason is the reason of a refusal for Stats.Refusals: reason, unless the connection was evicted or timed out.
func (c *client) refusalReason(reason string) string {
	switch f := c.why.Load(); {
	case c.gate.isEvicted(c.arrival):
		return refusedStartups
	case f != nil && f.code == "57014":
		return refusedSlow
	}
	return reason
}

// blame is what the client is told after reading from it, or serving it, has failed. Nil: the client has gone.
func (c *client) blame(err error) *failed {
	if f := c.why.Load(); f != nil {
		return f
	}
	switch {
	case c.gate.isEvicted(c.arrival):
		return errEvicted
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.endFor(failure("57014", "the client did not log in within %v (StartupTimeout)", c.o.StartupTimeout))
	case errors.Is(err, errGone):
		return nil
	}
	return engineFailure(err)
}

// endFor records the server's own reason to end the connection, unless there already is one, and returns the one that counts.
func (c *client) endFor(why *failed) *failed {
	c.why.CompareAndSwap(nil, why)
	return c.why.Load()
}

// say sends a fatal error, if the last message is complete. Only the goroutine that writes to the client may call it.
func (c *client) say(f *failed) {
	if c.frames.whole() && c.gone == nil {
		_ = c.raw.SetWriteDeadline(c.o.Clock.Now().Add(c.o.StallTimeout))
		_, _ = c.conn.Write(f.fatal())
	}
}

// lingerTimeout is how long the client's bytes are still read at the end: closing with unread bytes would reset the connection, and lose
// the last message.
const lingerTimeout = 200 * time.Millisecond

// linger ends the connection: it closes the sending half, and reads for a moment.
func (c *client) linger(drain func()) {
	_ = c.raw.SetDeadline(clock.System().Now().Add(lingerTimeout)) // real time, even if Options.Clock is not
	if secure, ok := c.conn.(*tls.Conn); ok {
		_ = secure.CloseWrite()
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		_ = c.raw.Close()
	}
	drain()
	_ = c.raw.Close()
}

func (c *client) drain() { _, _ = io.CopyN(io.Discard, c.raw, maxStartup) }

// end ends the connection as soon as no statement runs. It may be called from any goroutine.
func (c *client) end() {
	c.ends.Store(true)
	switch {
	case c.in(stateStarts):
		c.endFor(failure("57P03", "the server is shutting down"))
		c.interrupt()
	case !c.in(stateActive):
		c.backend.Terminate()
	}
}

// cut ends the process, whatever it is running. It may be called from any goroutine.
func (c *client) cut() {
	if !c.in(stateStarts) {
		c.backend.Terminate()
	}
}
