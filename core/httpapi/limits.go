package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// Every phase of a request has a time limit. Connections and statements have bounds of their own, separate from the wire protocol's. Every
// refusal is answered.
//
//	connection that sends nothing   HeaderTimeout, and 408; earlier, and 503, when MaxConns is reached: the longest silent goes first
//	header                          HeaderTimeout, and 408
//	body                            BodyTimeout, and 408
//	statement                       MaxRequests at a time, otherwise 503
//	answer that is not read         StallTimeout for each stallChunk
//	between requests                IdleTimeout, or earlier when MaxConns is reached

// Server returns an HTTP server with these time limits. Serve listeners wrapped by Limit, so that the bounds hold.
func (a *API) Server() *http.Server {
	return &http.Server{
		Handler: a, ReadHeaderTimeout: a.o.HeaderTimeout, IdleTimeout: a.o.IdleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: nil,
		// net/http offers no other way from a request to its connection.
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
}

// begin takes one of the MaxRequests places for statements, or immediately fails with a 503.
func (a *API) begin() (done func(), err error) {
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots }, nil
	default:
		b := &badRequest{
			status: http.StatusServiceUnavailable, sqlstate: "53300", reason: refusedBusy,
			text: fmt.Sprintf("%d requests are being served, which is the limit (MaxRequests): try again", a.o.MaxRequests),
		}
		return nil, b
	}
}

// body reads a request's body, within BodyTimeout.
func (a *API) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.o.MaxRequest))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refuseAs(refusedSize, http.StatusRequestEntityTooLarge, "the request is larger than %d bytes", large.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, refuseAs(refusedSlow, http.StatusRequestTimeout, "the request's body did not arrive within %v", a.o.BodyTimeout)
	case err != nil:
		return nil, bad(http.StatusBadRequest, "the request's body could not be read: %v", err)
	}
	_ = control.SetReadDeadline(time.Time{}) // the statement may take longer
	return body, nil
}

// paced is an answer whose client must read stallChunk bytes per StallTimeout, or is disconnected.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	clock   clock.Clock
	stall   time.Duration
}

// stallChunk is how many bytes a client must read within StallTimeout.
const stallChunk = 1 << 20

// Unwrap lets http.ResponseController through.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *paced) WriteHeader(status int) {
	p.due()
	p.ResponseWriter.WriteHeader(status)
}

func (p *paced) Write(b []byte) (n int, err error) {
	for {
		p.due()
		m, err := p.ResponseWriter.Write(b[:min(len(b), stallChunk)])
		n, b = n+m, b[m:]
		if err != nil || len(b) == 0 {
			return n, err
		}
	}
}

func (p *paced) due() { _ = p.control.SetWriteDeadline(p.clock.Now().Add(p.stall)) }

// connKey finds a request's connection in its context.
type connKey struct{}

// Limit returns a listener with at most MaxConns connections. A further connection replaces the one that has been silent for longest,
// before its first request or between two; if all are working, it is refused with 503.
func (a *API) Limit(l net.Listener) net.Listener {
	return &limiter{Listener: l, a: a, open: map[*conn]struct{}{}}
}

type limiter struct {
	net.Listener
	a        *API
	mu       sync.Mutex
	open     map[*conn]struct{}
	refusing int
}

// conn is a connection of a limiter. limiter.mu guards its fields.
type conn struct {
	net.Conn
	l       *limiter
	working bool
	evicted bool
	fresh   bool          // no request has arrived yet
	bytes   int           // received since the last request
	since   time.Duration // when it fell silent
}

// Accept returns the next admitted connection.
func (l *limiter) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, l: l, fresh: true, since: l.a.o.Clock.Monotonic()}
		gone, ok := l.admit(c)
		if gone != nil {
			l.a.guard.refused.WithLabelValues(refusedConnections).Inc()
			go gone.evict()
		}
		if ok {
			return c, nil
		}
		l.refuse(raw)
	}
}

// admit gives a connection a place, if necessary that of a silent one, gone.
func (l *limiter) admit(c *conn) (gone *conn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.a.o.MaxConns {
		for o := range l.open {
			if !o.working && (gone == nil || o.since < gone.since) {
				gone = o
			}
		}
		if gone == nil {
			return nil, false
		}
		gone.evicted = true
		delete(l.open, gone)
	}
	l.open[c] = struct{}{}
	return gone, true
}

const (
	maxRefusing   = 64 // connections being refused at a time that may take a moment to read it
	refuseTimeout = 500 * time.Millisecond
)

// refuse answers a connection for which there is no place, and closes it.
func (l *limiter) refuse(raw net.Conn) {
	l.a.guard.refused.WithLabelValues(refusedConnections).Inc()
	l.mu.Lock()
	linger := l.refusing < maxRefusing
	if linger {
		l.refusing++
	}
	l.mu.Unlock()
	l.say(raw, http.StatusServiceUnavailable, l.full())
	if !linger {
		_ = raw.Close()
		return
	}
	go func() {
		// Read what the client still sends: closing with unread data would reset the connection and lose the answer.
		if half, ok := raw.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_ = raw.SetReadDeadline(l.a.o.Clock.Now().Add(refuseTimeout))
		_, _ = io.Copy(io.Discard, raw)
		_ = raw.Close()
		l.mu.Lock()
		l.refusing--
		l.mu.Unlock()
	}()
}

func (l *limiter) full() string {
	return fmt.Sprintf("there are %d connections already (MaxConns)", l.a.o.MaxConns)
}

// say writes an answer where there is no request.
func (l *limiter) say(raw net.Conn, status int, text string) {
	var body errorBody
	body.Error.Message, body.Outcome = text, "failed"
	if status == http.StatusServiceUnavailable {
		body.Error.SQLState = "53300"
	}
	b, err := json.Marshal(body)
	if err != nil {
		return // a text is JSON
	}
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n", status, http.StatusText(status), len(b))
	if status == http.StatusServiceUnavailable {
		head += "Retry-After: " + strconv.Itoa(int(DefaultRetryAfter/time.Second)) + "\r\n"
	}
	_ = raw.SetWriteDeadline(l.a.o.Clock.Now().Add(refuseTimeout))
	_, _ = raw.Write(append([]byte(head+"\r\n"), b...))
}

// evict ends a silent connection. One that has never sent a request is told why.
func (c *conn) evict() {
	c.l.mu.Lock()
	fresh := c.fresh
	c.l.mu.Unlock()
	if fresh {
		c.l.say(c.Conn, http.StatusServiceUnavailable, c.l.full()+", and this one has been silent the longest")
	}
	_ = c.Conn.Close()
}

// begin records that a request has arrived; false: the connection has just been refused.
func (c *conn) begin() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.evicted {
		return false
	}
	c.working, c.fresh = true, false
	return true
}

// end records that the request has been answered.
func (c *conn) end() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.working, c.bytes, c.since = false, 0, c.l.a.o.Clock.Monotonic()
}

// Read implements net.Conn. It answers a request that began but stalled with 408: net/http would only close the connection.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.mu.Lock()
	c.bytes += n
	late := errors.Is(err, os.ErrDeadlineExceeded) && !c.working && !c.evicted && (c.fresh || c.bytes > 0)
	if late {
		c.evicted = true
	}
	c.l.mu.Unlock()
	if late {
		c.l.a.guard.refused.WithLabelValues(refusedSlow).Inc()
		c.l.say(c.Conn, http.StatusRequestTimeout, fmt.Sprintf("no request has arrived within %v", c.l.a.o.HeaderTimeout))
	}
	return n, err
}

// Close closes the connection and frees its place.
func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
