package pgwire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
)

const (
	header    = 5        // of a message: its type and its length
	readAhead = 64 << 10 // bytes of messages that are read while the ones before are worked on
	early     = 1 << 20  // an extended query's messages are run before its Sync when there are this many bytes
)

// client is one connection that has logged in. Its fields belong to its own goroutine, but for those that say otherwise.
type client struct {
	srv       *Server
	arrival   *arrival
	placed    bool     // it has a place among MaxClients
	shaking   bool     // in the TLS handshake
	raw, conn net.Conn // conn is raw, or TLS on it
	clock     clock.Clock
	ctx       context.Context // ends when the connection does
	cancelCtx context.CancelCauseFunc
	id        uint32
	secret    []byte
	user      string   // as it logged in
	whose     string   // likewise, or firstRole: to whom RESET SESSION AUTHORIZATION goes back
	leftOut   []string // parameters that PostgreSQL could not start with
	acts      string   // SESSION AUTHORIZATION, as saved
	session   *session

	reader  *bufio.Reader // of the connection; while there is a watch, the watch's
	readErr error         // why nothing more can be read
	batch   []byte        // messages not yet looked at
	out     []byte        // answers not yet written to conn

	stage atomic.Uint32 // what the goroutine is doing, for the lookout
	since atomic.Int64  // by the monotonic clock
	late  atomic.Bool   // it has been silent in a transaction for too long

	unit    []byte       // messages to run, translated
	begins  bool         // they only begin a transaction
	uses    hints        // what they may do to the session
	asks    bool         // they end with a Flush: the client waits for what has been answered
	named   []string     // what may be custom settings' names in them
	expect  []expected   // the answers to the Parse and Close messages among them
	turn    *engine.Turn // nil: not held
	status  byte         // of the last ReadyForQuery: I, T or E
	answers answers

	statements map[string]*statement // prepared, by the client's name
	names      names
	portals    map[string]hints // of this unit or transaction
	// What another client saves and puts back when it comes: it belongs to whoever has the turn.
	startupSettings map[string]string
	settings        map[string]string // as saved
	custom          map[string]bool   // names with a dot that may be settings
	role            string            // SET ROLE; empty: none
	prepared        []string          // PREPARE statements, as SQL
	dirty           hints             // what has to be saved before another client comes

	wanted []string // channels that texts of this transaction listen to
	pinned string   // what pins the session to this client; empty: nothing

	channels map[string]bool        // LISTEN; under session.mu
	pin      atomic.Pointer[string] // pinned, for others

	mu      sync.Mutex
	notices []byte                  // notifications for this client; under mu
	watch   *watch                  // nil: nobody reads ahead; under mu
	giveUp  context.CancelCauseFunc // of a wait for the turn; nil: there is none; under mu
	ending  chan struct{}           // closed: finish and go
	endOnce sync.Once
}

// end asks the client to go when what it runs is finished. It may be called from any goroutine.
func (c *client) end() {
	c.endOnce.Do(func() { close(c.ending) })
	c.poke()
}

// serve is the life of a client after the start-up.
func (c *client) serve() (err error) {
	c.mu.Lock()
	c.reader = bufio.NewReaderSize(source{c}, readAhead)
	c.mu.Unlock()
	defer func() {
		c.cancelCtx(net.ErrClosed)
		c.leave()
		_ = c.raw.Close()
		c.enter(stageStart)
		c.unwatch()
	}()
	for {
		kind, body, message, err := c.next()
		if err != nil {
			return c.farewell(err)
		}
		if kind == 'X' {
			return nil
		}
		if err := c.handle(kind, body, message); err != nil {
			return c.farewell(err)
		}
	}
}

// farewell tells the client why its connection ends, if it still is there.
func (c *client) farewell(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	var ne net.Error
	if errors.Is(err, net.ErrClosed) || errors.As(err, &ne) {
		return err
	}
	var gone hungUp
	if errors.As(context.Cause(c.ctx), &gone) && !errors.Is(err, engine.ErrUnknown) && !errors.As(err, new(*failed)) {
		return fmt.Errorf("%w (%w)", gone.err, err)
	}
	c.out = engineFailure(err).append(c.out, "FATAL")
	return errors.Join(err, c.flush())
}

// readMessages reads one message, and those behind it that have arrived already. Body reads from r too: what follows the
// first message's header.
func readMessages(r *bufio.Reader, body io.Reader, limit int) ([]byte, error) {
	head, err := r.Peek(header)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size, err := messageSize(head, limit)
	if err != nil {
		return nil, err
	}
	var batch []byte
	if size > readAhead {
		// Memory grows with what really comes, not with what a length promises.
		var b bytes.Buffer
		if _, err := io.CopyN(&b, body, int64(size)); err != nil {
			return nil, fmt.Errorf("in the middle of a message of %d bytes: %w", size, err)
		}
		return b.Bytes(), nil
	}
	for {
		at := len(batch)
		batch = slices.Grow(batch, size)[:at+size]
		if _, err := io.ReadFull(body, batch[at:]); err != nil {
			return batch[:at], fmt.Errorf("in the middle of a message of %d bytes: %w", size, err)
		}
		if r.Buffered() < header {
			return batch, nil
		}
		head, _ = r.Peek(header)
		if size, err = messageSize(head, limit); err != nil || size > r.Buffered() || len(batch)+size > readAhead {
			return batch, err
		}
	}
}

// messageSize is the size of a message with its header.
func messageSize(head []byte, limit int) (int, error) {
	n := binary.BigEndian.Uint32(head[1:header])
	if n < header-1 {
		return 0, failure("08P01", "message %q with length %d", head[0], n)
	}
	if uint64(n) > uint64(limit) {
		return 0, failure("54000", "a message of %d bytes; this server takes %d at most (MaxMessage)", n, limit)
	}
	return int(n) + 1, nil
}

// next is the next message: its type, its body, and all of it. It waits for the client, and meanwhile passes on
// notifications and looks at the time.
func (c *client) next() (kind byte, body, message []byte, err error) {
	if len(c.batch) == 0 {
		if c.batch, err = c.wait(); err != nil {
			return 0, nil, nil, err
		}
	}
	n := int(binary.BigEndian.Uint32(c.batch[1:])) + 1
	message, c.batch = c.batch[:n:n], c.batch[n:]
	return message[0], message[header:], message, nil
}

func (c *client) wait() ([]byte, error) {
	inBlock := c.turn != nil && c.pinned == ""
	if inBlock {
		c.enter(stageInBlock)
	} else {
		c.enter(stageReads)
	}
	c.unwatch()
	defer c.busy()
	for {
		if err := c.interrupted(); err != nil {
			return nil, err
		}
		if !inBlock { // notifications come between transactions
			c.takeNotices()
		}
		if len(c.out) > 0 { // the client may be waiting for it, before it sends more
			if err := c.flush(); err != nil {
				return nil, err
			}
		}
		batch, err := readMessages(c.reader, rest{c}, c.srv.o.MaxMessage)
		switch {
		case len(batch) > 0:
			return batch, nil // what is wrong behind it is met again
		case errors.Is(err, errPoked):
			continue
		case err != nil && c.interrupted() == nil:
			c.readErr = err
			if !errors.As(err, new(*failed)) {
				c.cancelCtx(hungUp{err})
			}
		}
		return nil, err
	}
}

// hungUp is why a client's context ends when its connection does.
type hungUp struct{ err error }

func (h hungUp) Error() string { return h.err.Error() }
func (h hungUp) Unwrap() error { return h.err }

// interrupted says why the wait for the client is over, if it is.
func (c *client) interrupted() error {
	if c.late.Load() {
		return failure("25P03", "in a transaction and silent for %v (IdleInTransaction): it is rolled back", c.srv.o.IdleInTransaction)
	}
	select {
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	case <-c.session.engine.Failed():
		return fmt.Errorf("%w: %w", engine.ErrPoisoned, c.session.engine.Err())
	case <-c.ending:
		return failure("57P01", "the server is shutting down")
	default:
		return nil
	}
}

// takeNotices moves notifications to the output.
func (c *client) takeNotices() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, c.notices...)
	c.notices = nil
}

// notify leaves a notification for the client. It may be called from any goroutine, and never waits.
func (c *client) notify(message []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.notices)+len(message) > c.srv.o.MaxOutput {
		c.end() // it has not read for a long time
		return
	}
	c.notices = append(c.notices, message...)
	c.poke()
}

// Write takes answers, which are kept until flush. If there are too many, the client has to read some first.
func (c *client) Write(p []byte) (int, error) {
	if len(c.out)+len(p) > c.srv.o.MaxOutput {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// flush writes to the client what is kept for it, which must take some of it every StallTimeout.
func (c *client) flush() error {
	b := c.out
	for len(b) > 0 {
		_ = c.raw.SetWriteDeadline(c.clock.Now().Add(c.srv.o.StallTimeout))
		n, err := c.conn.Write(b[:min(len(b), stallChunk)])
		b = b[n:]
		if err != nil {
			c.out = c.out[:0]
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("the client has read nothing for %v: %w", c.srv.o.StallTimeout, err)
			}
			return err
		}
	}
	if cap(c.out) > maxKept {
		c.out = nil
	}
	c.out = c.out[:0]
	return nil
}

const (
	stallChunk = 1 << 20 // what a client has to read within StallTimeout
	maxKept    = 1 << 20 // of an empty buffer's capacity
)
