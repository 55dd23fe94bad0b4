package engine

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/pglite"
)

// sink takes a connection's answers, until it breaks.
type sink struct {
	mu     sync.Mutex
	got    bytes.Buffer
	broken error
	heard  chan struct{}
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	n, err := s.got.Write(b)
	select {
	case s.heard <- struct{}{}:
	default:
	}
	return n, err
}

// ready says how many ReadyForQuery it has got.
func (s *sink) ready() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Count(s.got.Bytes(), []byte{'Z', 0, 0, 0, 5})
}

func (s *sink) until(t *testing.T, n int) {
	t.Helper()
	for s.ready() < n {
		select {
		case <-s.heard:
		case <-t.Context().Done():
			t.Fatalf("%d of %d answers", s.ready(), n)
		}
	}
}

func message(t *testing.T, m pgproto3.FrontendMessage) []byte {
	t.Helper()
	b, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// asking is a connection that has logged in, with its answers.
func asking(t *testing.T, e *Engine) (*Conn, *sink, chan error) {
	t.Helper()
	c, err := e.Dial(t.Context(), pglite.ConnectOptions{Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, func() { _ = c.Close() })
	to, ended := &sink{heard: make(chan struct{}, 1)}, make(chan error, 1)
	go func() {
		_, err := c.WriteTo(to)
		ended <- err
	}()
	login := message(t, &pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "postgres"},
	})
	if _, err := c.Write(login); err != nil {
		t.Fatal(err)
	}
	to.until(t, 1)
	return c, to, ended
}

func ask(t *testing.T, c *Conn, to *sink, sql string) {
	t.Helper()
	if _, err := c.Ask(message(t, &pgproto3.Query{String: sql}), to); err != nil {
		t.Fatal(err)
	}
}

// TestAsk: what may leave immediately is there when Ask returns. What waits for the bucket is left to the copying goroutine, and Ask does
// not wait.
func TestAsk(t *testing.T) {
	t.Parallel()
	e, g := onGate(t)
	c, to, ended := asking(t, e)
	ask(t, c, to, "SELECT 1")
	to.until(t, 2)
	quiesce(t, e)
	direct := 0
	const reads = 20
	for i := range reads {
		before := to.ready()
		ask(t, c, to, "SELECT b FROM t WHERE a = 1")
		direct += to.ready() - before
		to.until(t, 3+i)
	}
	if direct < reads/2 {
		t.Errorf("%d of %d reads were answered when Ask returned", direct, reads)
	}

	g.shut()
	ask(t, c, to, "UPDATE t SET b = 1 WHERE a = 1")
	<-g.held
	if n := to.ready(); n != 2+reads {
		t.Errorf("%d answers: one of them is not durable", n)
	}
	g.open()
	to.until(t, 3+reads)

	to.mu.Lock()
	to.broken = net.ErrClosed
	to.mu.Unlock()
	ask(t, c, to, "SELECT 1")
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("who copies hears %v", err)
	}
}
