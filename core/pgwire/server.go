// Package pgwire is the listener for PostgreSQL's clients: psql, drivers, pools. Each gets a process of PostgreSQL, which does everything
// that is said in the protocol: it authenticates (pg_hba.conf, SCRAM, each role by its own password), negotiates, answers, cancels.
// No SQL is looked at here.
//
//	srv, err := pgwire.New(pgwire.Options{Backend: pgwire.Engines(keeper)})
//	err = srv.Serve(ctx, listener)             // until ctx ends or Shutdown
//	err = srv.Shutdown(ctx)                    // what runs finishes, then the connections end
//
// What it does, in the order in which a connection meets it:
//
//	accept       bounds, which keep those who say nothing from keeping others out; see gate
//	greet        TLS, on request or at once (ALPN); a cancel request becomes a process of its own, for PostgreSQL has the keys
//	place        the process, and the start-up packet for it as it came
//	copy         bytes both ways, a goroutine each; but where nobody else needs the processor, the one that reads the client also runs
//	             the process for a moment, and writes what it answers at once (Conn.Ask). A process takes a mebibyte ahead; beyond it, its client waits. One that is not
//	             read waits for its client (StallTimeout), and nobody waits for it
//	end          the process's; or its client's, whose statement is ended after VanishTimeout; or the engine's, in which case the
//	             client is told why
//
// Of a process's answers only the lengths and three types of messages are followed: whether the client has been let in (R), whether
// the process waits for it (Z), and the SQLSTATE of an error at the start-up (E). So an error of the server's own never comes in the
// middle of a message, a wrong password is answered late, and whoever is busy when the server ends may finish.
//
// Errors of the server's own end the connection (FATAL):
//
//	53300   too many connections                     57P01   the database was taken over, or has to be opened again
//	57014   not logged in within StartupTimeout      57P02   a process of PostgreSQL failed, so all were ended
//	08P01   no start-up packet                       57P03   it cannot be opened now, or the server is shutting down
//	28000   TLS is required                          08007   it is not known whether a commit is durable
//	3D000   there is no database here                58000   anything else
//
// TLS ends here, and PostgreSQL knows nothing of it: lines of pg_hba.conf that begin with hostssl match nobody, hostnossl all,
// pg_stat_ssl shows none, and there is no channel binding. Options.RequireTLS is what hostssl would be.
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

// Stats is what a server is doing. The first four are connections now, by what they do.
type Stats struct {
	Startups      int              // they have not been let in yet
	Idle          int              // they wait for their clients
	InTransaction int              // likewise, in the middle of a transaction
	Active        int              // they run something
	Refused       int64            // connections, so far
	Refusals      map[string]int64 // the same, by reason
	Cancels       int64            // cancel requests that were passed on
	Vanished      int64            // statements that were ended because their clients had gone
}

// Clients are all that have logged in.
func (s Stats) Clients() int { return s.Idle + s.InTransaction + s.Active }

// Server serves clients. Its methods may be called from any goroutine.
type Server struct {
	o      Options
	gate   *gate
	ctx    context.Context // ends when nobody is taken any more
	stop   context.CancelFunc
	counts counts

	mu      sync.Mutex
	clients map[*client]struct{}
	closing bool
	lists   map[net.Listener]struct{}
	wg      sync.WaitGroup
}

// New makes a server.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{o: o, gate: newGate(&o), clients: map[*client]struct{}{}, lists: map[net.Listener]struct{}{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections until ctx ends, the listener is closed, or the server is shut down (ErrClosed).
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

// admit serves a connection in a goroutine of its own.
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

// all are the clients there are.
func (s *Server) all() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*client, 0, len(s.clients))
	for c := range s.clients {
		all = append(all, c)
	}
	return all
}

// cutPatience is what ending a process may take, at the end: PostgreSQL looks at its signals many times a second.
const cutPatience = 500 * time.Millisecond

// Shutdown takes nobody any more, lets statements that run finish, ends all connections (57P01), and returns when they have ended. When ctx
// ends before that, what runs is ended too. A process that does not end even then is the engine's, which is to be closed next.
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
		s.o.Logger.Warn("a process does not end: PostgreSQL is ended with it; what was acknowledged is kept")
		for _, c := range s.all() {
			_ = c.raw.Close()
		}
	}
	return ctx.Err()
}

// Stats says what the server is doing.
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
