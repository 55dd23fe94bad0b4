package pgwire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Connections that log in are apart from those that have: many that say nothing must not keep others out. There are bounds
// for both, and whoever is refused is told why.
//
//	logging in     MaxStartups; one more takes the place of the one that has been at it for the longest time (53300)
//	               StartupTimeout for all of it: TLS, start-up packet, password (57014)
//	logged in      MaxClients; one more gets 53300
//	from within    not counted: whoever dials has bounds of its own

// arrival is a connection that logs in.
type arrival struct {
	conn    net.Conn
	since   time.Duration
	evicted bool // under Server.mu
}

// trusted is a connection from within the process.
type trusted struct{ net.Conn }

// Why connections are refused, as Stats.Refusals has it.
const (
	refusedClients  = "too many clients"
	refusedStartups = "too many at the start-up"
	refusedSlow     = "slow start-up"
	refusedTLS      = "TLS handshake"
	refusedOther    = "other"
)

// refusedCode are the reasons of refusals that SQLSTATEs tell.
func refusedCode(code string) string {
	switch code {
	case "53300":
		return refusedClients
	case "28P01":
		return "password"
	case "28000":
		return "authorization"
	case "08P01":
		return "protocol"
	case "0A000":
		return "not supported"
	case "3D000":
		return "database"
	case "57P01", "57P03", "58000", "08007":
		return "not open"
	}
	return refusedOther
}

// admit serves a connection in a goroutine of its own.
func (s *Server) admit(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		_ = conn.Close()
		return
	}
	a := &arrival{conn: conn, since: s.o.Clock.Monotonic()}
	if _, inside := conn.(trusted); !inside {
		if len(s.arrivals) >= s.o.MaxStartups {
			s.evict()
		}
		s.arrivals[a] = struct{}{}
	}
	s.conns[conn] = struct{}{}
	s.wg.Go(func() {
		defer func() {
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			delete(s.arrivals, a)
			s.mu.Unlock()
		}()
		s.handle(a)
	})
}

// evict has the oldest arrival go; its own goroutine says so. s.mu is held.
func (s *Server) evict() {
	var oldest *arrival
	for a := range s.arrivals {
		if oldest == nil || a.since < oldest.since {
			oldest = a
		}
	}
	oldest.evicted = true
	delete(s.arrivals, oldest)
	_ = oldest.conn.SetReadDeadline(time.Unix(1, 0)) // long ago: its read ends
}

// full says whether there is no place for one more client.
func (s *Server) full() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noPlace()
}

// noPlace is full; s.mu is held.
func (s *Server) noPlace() error {
	if s.taken < s.o.MaxClients {
		return nil
	}
	return failure("53300", "there are %d connections already; this server takes no more (MaxClients)", s.o.MaxClients)
}

// takePlace makes an arrival a client.
func (s *Server) takePlace(c *client) error {
	if _, inside := c.raw.(trusted); inside {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.arrival.evicted {
		return os.ErrDeadlineExceeded // which is told as what it is
	}
	if err := s.noPlace(); err != nil {
		return err
	}
	delete(s.arrivals, c.arrival)
	s.taken++
	c.placed = true
	return nil
}

// givePlace takes it back.
func (s *Server) givePlace(c *client) {
	if !c.placed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
}

// late says why the time for the start-up is over, if it is.
func (s *Server) late(a *arrival, err error) (reason string, why error) {
	s.mu.Lock()
	evicted := a.evicted
	s.mu.Unlock()
	switch {
	case evicted:
		return refusedStartups, failure("53300", "%d connections are logging in, and this one has been at it for the longest time: try again (MaxStartups)", s.o.MaxStartups)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusedSlow, failure("57014", "the connection has not logged in within %v (StartupTimeout)", s.o.StartupTimeout)
	}
	return "", err
}

// refuse tells a client that has not logged in why it will not.
func (c *client) refuse(err error) {
	reason, err := c.srv.late(c.arrival, err)
	if c.shaking { // it understands nothing yet
		c.srv.refuses(cmp.Or(reason, refusedTLS))
		return
	}
	var f *failed
	if !errors.As(err, &f) {
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return
		}
		f = engineFailure(err)
	}
	c.srv.refuses(cmp.Or(reason, refusedCode(f.code)))
	c.srv.o.Logger.Info("connection refused", "remote", c.raw.RemoteAddr().String(), "user", c.user, "sqlstate", f.code, "reason", f.message)
	c.out = f.append(c.out, "FATAL")
	_ = c.flush()
	c.linger()
}

// lingerTimeout is how long what a refused client still sends is read: closing with something unread takes back what was
// said last.
const lingerTimeout = 200 * time.Millisecond

func (c *client) linger() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetReadDeadline(c.clock.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, c.raw, maxStartup)
}

// refuses counts a refusal.
func (s *Server) refuses(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[reason]++
}

// accept waits for the next connection, also where the system has run out of something for a moment.
func (s *Server) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	const first, longest = 5 * time.Millisecond, time.Second
	for pause := first; ; pause = min(2*pause, longest) {
		conn, err := l.Accept()
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			s.o.Logger.Warn("a connection was not accepted; trying again", "error", err, "pause", pause.String())
			if e := s.o.Clock.Sleep(ctx, pause); e != nil {
				return nil, e
			}
		default:
			return nil, fmt.Errorf("accept a connection: %w", err)
		}
	}
}
