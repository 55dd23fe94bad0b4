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

// client is a connection from its first byte to its last. Two goroutines work for it: one reads the client and gives what comes to its
// process, one reads the process and gives the answers to the client. Who of them writes to the client has the turn to read the process.
type client struct {
	o       *Options
	gate    *gate
	arrival *arrival
	raw     net.Conn
	conn    net.Conn // raw, or TLS on it

	backend Conn
	ends    atomic.Bool            // it is to go when what it runs has ended
	over    atomic.Bool            // the process has ended, and its last answer has been read
	why     atomic.Pointer[failed] // the server's own reason to end it; the first counts
	state   atomic.Uint32          // a state
	counts  *counts

	// Of who writes to the client: see Conn.Ask.
	frames   frames
	known    bool   // AuthenticationOk has come
	super    bool   // it is a superuser's
	refused  string // SQLSTATE of an error before the first ReadyForQuery
	writable time.Time
	gone     error // of writing to the client
}

// counts are of all clients of a server.
type counts struct{ cancels, vanished atomic.Int64 }

// state is what a client's session is doing.
type state uint32

const (
	stateStarts  state = iota // it has not been let in yet
	stateIdle                 // it waits for its client
	stateInBlock              // likewise, in a transaction
	stateActive               // it runs something
)

func (c *client) in(s state) bool { return state(c.state.Load()) == s }

// limit sets when the client must have sent something, unless the connection has been told to go already.
func (c *client) limit(deadline time.Time) {
	_ = c.raw.SetReadDeadline(deadline)
	if c.gate.isEvicted(c.arrival) || c.why.Load() != nil {
		c.interrupt()
	}
}

// interrupt ends a wait for the client.
func (c *client) interrupt() { _ = c.raw.SetReadDeadline(time.Unix(1, 0)) } // long ago

// refusalReason is the reason of a refusal, if the time was over, or another one.
func (c *client) refusalReason(reason string) string {
	switch f := c.why.Load(); {
	case c.gate.isEvicted(c.arrival):
		return refusedStartups
	case f != nil && f.code == "57014":
		return refusedSlow
	}
	return reason
}

// blame is what the client is told when reading it, or something for it, has failed. Nil: it has gone.
func (c *client) blame(err error) *failed {
	if f := c.why.Load(); f != nil {
		return f
	}
	switch {
	case c.gate.isEvicted(c.arrival):
		return errEvicted
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.endFor(failure("57014", "the connection has not logged in within %v (StartupTimeout)", c.o.StartupTimeout))
	case errors.Is(err, errGone):
		return nil
	}
	return engineFailure(err)
}

// endFor notes the server's own reason to end the connection, unless there is one, and returns what counts.
func (c *client) endFor(why *failed) *failed {
	c.why.CompareAndSwap(nil, why)
	return c.why.Load()
}

// say tells the client the end, if a message can begin here. Only the goroutine that writes to the client may.
func (c *client) say(f *failed) {
	if c.frames.whole() && c.gone == nil {
		_ = c.raw.SetWriteDeadline(c.o.Clock.Now().Add(c.o.StallTimeout))
		_, _ = c.conn.Write(f.fatal())
	}
}

// lingerTimeout is how long what a client still sends is read after the end: closing with something unread takes back what was said
// last.
const lingerTimeout = 200 * time.Millisecond

// linger ends the connection: it says that nothing more comes, and reads for a moment.
func (c *client) linger(drain func()) {
	_ = c.raw.SetDeadline(clock.System().Now().Add(lingerTimeout)) // real time, whatever the clock that limits are measured by
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

// end has the client go when what it runs has ended. It may be called from any goroutine.
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

// cut ends what the client runs. It may be called from any goroutine.
func (c *client) cut() {
	if !c.in(stateStarts) {
		c.backend.Terminate()
	}
}
