// Package pgwire serves PostgreSQL's clients: psql, drivers, pools. Each client gets a PostgreSQL process, which handles all of the
// protocol: it authenticates (pg_hba.conf, SCRAM, each role with its own password), negotiates, answers, cancels. This package looks at no
// SQL.
//
//	srv, err := pgwire.New(pgwire.Options{Backend: pgwire.Engines(keeper)})
//	err = srv.Serve(ctx, listener)             // until ctx ends or Shutdown
//	err = srv.Shutdown(ctx)                    // what runs finishes, then the connections end
//
// The steps of a connection:
//
//	accept       bounds, so that silent connections cannot keep others out; see gate
//	greet        TLS, on request or directly (ALPN); a cancel request gets a process of its own, as PostgreSQL has the keys
//	place        a process, which gets the startup packet unchanged
//	copy         bytes both ways, on a goroutine each. If nothing else needs the processor, the goroutine that reads the client also runs
//	             the process for a moment, and immediately writes its answer (Conn.Ask). A process accepts up to 1 MiB ahead; beyond
//	             that, its client waits. A process whose answers are not read waits for its client (StallTimeout), and delays no other
//	end          the process has ended; or the client has gone, and a running statement is ended after VanishTimeout; or the engine has
//	             ended, and the client is told why
//
// Of a process's answers, only the lengths and four types of messages are read: whether the client is logged in (R), as a superuser or not
// (S), whether the process waits for it (Z), and the SQLSTATE of an error at start-up (E). So an error of the server's own never arrives in
// the middle of a message, the answer to a wrong password is delayed, and clients that are busy when the server ends may finish.
//
// The server's own errors end the connection (FATAL):
//
//	53300   too many connections                     57P01   the database was taken over, or must be opened again
//	57014   not logged in within StartupTimeout      57P02   a PostgreSQL process failed, so all were ended
//	08P01   not a startup packet                     57P03   it cannot be opened now, or the server is shutting down
//	28000   TLS is required                          08007   it is not known whether a commit is durable
//	3D000   there is no database here                53200   a PostgreSQL process has no room in the address space
//	                                                 58000   anything else
//
// TLS ends here, and PostgreSQL does not know about it: hostssl lines in pg_hba.conf match no connection, hostnossl lines match all,
// pg_stat_ssl shows none, and there is no channel binding. Options.RequireTLS does what hostssl would do.
package pgwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// Stats holds figures of a server. The first four count the current connections by what they do, the others are totals.
type Stats struct {
	Startups      int              // not logged in yet
	Idle          int              // waiting for their clients
	InTransaction int              // waiting for their clients within a transaction
	Active        int              // running something
	Refused       int64            // refused connections
	Refusals      map[string]int64 // the same, by reason
	Cancels       int64            // cancel requests passed on
	Vanished      int64            // statements ended because their clients had gone
}

// Clients is the number of connections that are logged in.
func (s Stats) Clients() int { return s.Idle + s.InTransaction + s.Active }

// Server serves clients. Make one with New, end it with Shutdown. It is safe for concurrent use.
type Server struct {
	o      Options
	gate   *gate
	ctx    context.Context // ends when no more connections are accepted
	stop   context.CancelFunc
	counts counts

	mu      sync.Mutex
	clients map[*client]struct{}
	closing bool
	lists   map[net.Listener]struct{}
	wg      sync.WaitGroup
}

// New makes a server. It neither listens nor opens the database. An error says which option is missing or out of range.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{o: o, gate: newGate(&o), clients: map[*client]struct{}{}, lists: map[net.Listener]struct{}{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections until ctx ends, the listener is closed, or the server is shut down (ErrClosed). It may be called for several
// listeners at the same time.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errors.Join(ErrClosed, l.Close())
	}
	s.lists[l] = struct{}{}
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := s.accept(ctx, l)
		if err != nil {
			s.mu.Lock()
			delete(s.lists, l)
			closing := s.closing
			s.mu.Unlock()
			switch {
			case closing:
				return ErrClosed
			case ctx.Err() != nil:
				return ctx.Err()
			}
			return err
		}
		s.admit(conn)
	}
}

// accept waits for the next connection, and retries where the system is briefly out of something, such as file descriptors.
func (s *Server) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	const first, longest = 5 * time.Millisecond, time.Second
	for pause := first; ; pause = min(2*pause, longest) {
		conn, err := l.Accept()
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
			s.o.Logger.Warn("a connection could not be accepted; trying again", "error", err, "pause", pause.String())
			if e := s.o.Clock.Sleep(ctx, pause); e != nil {
				return nil, e
			}
		default:
			return nil, fmt.Errorf("accept a connection: %w", err)
		}
	}
}

// admit serves a connection on a goroutine of its own.
func (s *Server) admit(conn net.Conn) {
	c := &client{o: &s.o, gate: s.gate, raw: conn, conn: conn, counts: &s.counts}
	var err error
	if c.arrival, err = s.gate.arrive(s.ctx, c.interrupt); err != nil {
		_ = conn.Close() // the server shuts down
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		_ = conn.Close()
		s.gate.leave(c.arrival)
		return
	}
	s.clients[c] = struct{}{}
	s.wg.Go(func() {
		defer func() {
			_ = conn.Close()
			s.gate.leave(c.arrival)
			s.mu.Lock()
			delete(s.clients, c)
			s.mu.Unlock()
		}()
		if err := c.serve(s.ctx); err != nil {
			s.o.Logger.Info("connection ended", "remote", conn.RemoteAddr().String(), "error", err)
		}
	})
}

// all returns the current clients.
func (s *Server) all() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*client, 0, len(s.clients))
	for c := range s.clients {
		all = append(all, c)
	}
	return all
}

// cutPatience is how long ending a process may take in Shutdown: PostgreSQL checks its signals many times a second.
const cutPatience = 500 * time.Millisecond

// Shutdown stops accepting, lets running statements finish, ends all connections (57P01), and returns when they have ended. If ctx ends
// before that, running statements are ended too, and Shutdown returns an error. A process that does not end even then ends when the engine
// is closed.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.lists {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.stop()
	for _, c := range s.all() {
		c.end()
	}
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range s.all() {
		c.cut()
	}
	t := s.o.Clock.NewTimer(cutPatience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C():
		s.o.Logger.Warn("a process does not end, so PostgreSQL is ended with it; what was acknowledged is kept")
		for _, c := range s.all() {
			_ = c.raw.Close()
		}
	}
	return ctx.Err()
}

// Stats returns the current figures.
func (s *Server) Stats() Stats {
	st := Stats{Cancels: s.counts.cancels.Load(), Vanished: s.counts.vanished.Load(), Refusals: s.gate.refusalCounts()}
	for _, n := range st.Refusals {
		st.Refused += n
	}
	for _, c := range s.all() {
		switch state(c.state.Load()) {
		case stateStarts:
			st.Startups++
		case stateIdle:
			st.Idle++
		case stateInBlock:
			st.InTransaction++
		case stateActive:
			st.Active++
		}
	}
	return st
}
