// Package pgwire serves an engine to real PostgreSQL clients: psql, drivers, pools.
//
//	srv, err := pgwire.New(pgwire.Options{Source: source, Password: secret})
//	err = srv.Serve(ctx, listener)             // until ctx ends or Shutdown
//	err = srv.Shutdown(ctx)                    // what runs finishes, then the connections end
//
// An engine has one session; clients share it a transaction at a time, in the order in which they come. What belongs to
// a client follows the client:
//
//	prepared statements   names are kept apart; a statement that is gone (DISCARD ALL by somebody) is parsed again
//	SET, RESET            saved when the next client comes, put back when this one does
//	role                  SET SESSION AUTHORIZATION to the client's user; see below
//	LISTEN                every client hears what it listens to, whoever notifies
//	PREPARE (SQL)         taken away and put back like settings
//
// What cannot be shared pins the session to its client as long as it exists: temporary tables, session advisory locks,
// cursors WITH HOLD. The others wait up to Options.TurnTimeout and then get an error (55P03) that names what they wait for.
//
// Answers leave when what they tell of is durable. A commit whose outcome is unknown ends the connection with SQLSTATE
// 08007, a fenced one with 57P01.
//
// Roles are for programs that behave: a client can get at the superuser's rights by RESET SESSION AUTHORIZATION, since
// the session's authenticated user is always the superuser. Do not give connections to people who must not read
// everything.
//
// Survives: clients that vanish in a transaction (rolled back, their state removed), send garbage or half a message
// (closed with an error, bounded memory), or do not read (MaxOutput, StallTimeout). Does not serve: replication,
// GSSAPI, channel binding, encodings other than UTF8, more than one database.
package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
)

// ErrClosed: the server was shut down.
var ErrClosed = errors.New("the server is closed")

// Defaults of Options.
const (
	DefaultMaxClients        = 100
	DefaultMaxStartups       = 100
	DefaultTurnTimeout       = 30 * time.Second
	DefaultIdleInTransaction = time.Minute
	DefaultStallTimeout      = 10 * time.Second
	DefaultStartupTimeout    = 10 * time.Second
	DefaultMaxMessage        = 128 << 20
	DefaultMaxOutput         = 64 << 20
	// Superuser is the role that the database is made with.
	Superuser = "postgres"
)

// Source gives the engine that clients are served from, and opens one if none is open. Errors become the client's.
type Source interface {
	Engine(ctx context.Context) (*engine.Engine, error)
}

// Options of a Server. Source is required.
type Options struct {
	Source Source
	// TLS is offered to clients; nil: it is not. RequireTLS refuses the others.
	TLS        *tls.Config
	RequireTLS bool
	// Password, if not empty, is asked of every client (SCRAM-SHA-256), whatever its user.
	Password string
	// Database is the only one there is; empty: postgres.
	Database string
	// MaxClients bounds the connections that have logged in; one more gets 53300. MaxStartups bounds those that are at it; for
	// one more, the oldest goes. Connections from within the process (Dial) are not counted.
	MaxClients, MaxStartups int
	// TurnTimeout is how long a client waits for another one's transaction, or pin.
	TurnTimeout time.Duration
	// IdleInTransaction is how long a client may say nothing in the middle of a transaction (25P03). Below zero: for ever.
	IdleInTransaction time.Duration
	// StallTimeout is how long a client may read nothing while an answer waits for it.
	StallTimeout time.Duration
	// StartupTimeout is how long a client has to log in.
	StartupTimeout time.Duration
	// MaxMessage bounds a client's message, in bytes. MaxOutput bounds what is kept of an answer that is made faster than
	// its client reads, in bytes; beyond it, the statement waits for its client, up to StallTimeout.
	MaxMessage, MaxOutput int
	Clock                 clock.Clock  // nil: the system's
	Logger                *slog.Logger // nil: dropped
}

func (o *Options) fill() error {
	if o.Source == nil {
		return errors.New("serve clients: no source of engines given")
	}
	if o.RequireTLS && o.TLS == nil {
		return errors.New("serve clients: TLS is required, and there is no certificate")
	}
	for _, d := range []struct {
		value *time.Duration
		std   time.Duration
	}{
		{&o.TurnTimeout, DefaultTurnTimeout}, {&o.IdleInTransaction, DefaultIdleInTransaction},
		{&o.StallTimeout, DefaultStallTimeout}, {&o.StartupTimeout, DefaultStartupTimeout},
	} {
		if *d.value == 0 {
			*d.value = d.std
		}
	}
	for _, d := range []struct {
		value *int
		std   int
	}{{&o.MaxClients, DefaultMaxClients}, {&o.MaxStartups, DefaultMaxStartups}, {&o.MaxMessage, DefaultMaxMessage}, {&o.MaxOutput, DefaultMaxOutput}} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve clients: a bound of %d", *d.value)
		}
	}
	if o.Database == "" {
		o.Database = "postgres"
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Stats is what a server is doing.
type Stats struct {
	Clients   int              // logged in
	Startups  int              // logging in
	Waiting   int              // for their turn
	Refused   int64            // connections, so far
	Refusals  map[string]int64 // the same, by reason
	Pinned    string           // what pins the session to a client; empty: nothing
	Switches  int64            // how often the session changed its client
	Cancelled int64            // cancel requests that hit
}

// Server serves clients. Its methods may be called from any goroutine.
type Server struct {
	o        Options
	verifier *verifier // nil: no password
	ctx      context.Context
	stop     context.CancelFunc

	mu       sync.Mutex
	clients  map[uint32]*client
	conns    map[net.Conn]struct{} // all, those that log in included
	arrivals map[*arrival]struct{} // those that log in
	taken    int                   // places of clients, those that wait for the database to be opened included
	refusals map[string]int64
	nextID   uint32
	session  *session // on the engine that is served now
	closing  bool
	lists    map[net.Listener]struct{}
	wg       sync.WaitGroup

	stirred, asleep atomic.Bool   // of the lookout: something has happened; it sleeps
	wake            chan struct{} // one token: it is to wake up
	looked          chan struct{} // closed when it has ended; nil: it was never needed; under mu

	waiting             atomic.Int64
	switches, cancelled atomic.Int64
}

// New makes a server.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{
		o: o, clients: map[uint32]*client{}, conns: map[net.Conn]struct{}{}, arrivals: map[*arrival]struct{}{}, refusals: map[string]int64{},
		lists: map[net.Listener]struct{}{}, wake: make(chan struct{}, 1),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if o.Password != "" {
		v, err := newVerifier(o.Password)
		if err != nil {
			return nil, err
		}
		s.verifier = v
	}
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

// Dial opens a connection from within the process. It needs no password and no TLS. Superuser is there the role that the
// database was made with, whatever it is called now.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	theirs, ours := net.Pipe()
	s.admit(trusted{ours})
	return theirs, nil
}

// cancelPatience is what a statement that was cancelled may take to end, at the end: PostgreSQL looks at a cancel many times a
// second, and only what handles it (EXCEPTION WHEN query_canceled) goes on.
const cancelPatience = 500 * time.Millisecond

// Shutdown lets running transactions' statements finish, ends all connections, and returns when they have. When ctx ends
// before that, what runs is cancelled. What does not let itself be cancelled is ended with PostgreSQL (Engine.Halt), which loses
// nothing that was acknowledged; the engine is to be closed then, as ever.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for l := range s.lists {
		_ = l.Close()
	}
	for _, c := range s.clients {
		c.end()
	}
	for conn := range s.conns {
		if !s.isClient(conn) {
			_ = conn.Close() // it has not logged in
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		s.end()
		return nil
	case <-ctx.Done():
	}
	s.stop()
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	on := s.session
	s.mu.Unlock()
	patience := clock.System().NewTimer(cancelPatience)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C():
		if on != nil {
			s.o.Logger.Warn("what runs does not let itself be cancelled: PostgreSQL is ended; what was acknowledged is kept")
			on.engine.Halt()
		}
		<-done
	}
	s.end()
	return ctx.Err()
}

// end ends what the server itself runs, when its clients have gone.
func (s *Server) end() {
	s.stop()
	s.mu.Lock()
	looked := s.looked
	s.mu.Unlock()
	if looked != nil {
		<-looked
	}
}

// isClient says whether a connection is that of a client that has logged in. s.mu is held.
func (s *Server) isClient(conn net.Conn) bool {
	for _, c := range s.clients {
		if c.raw == conn {
			return true
		}
	}
	return false
}

// Stats says what the server is doing.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Clients: len(s.clients), Startups: len(s.arrivals), Waiting: int(s.waiting.Load()), Refusals: maps.Clone(s.refusals),
		Switches: s.switches.Load(), Cancelled: s.cancelled.Load(),
	}
	for _, n := range s.refusals {
		st.Refused += n
	}
	if s.session != nil {
		st.Pinned = s.session.pinnedBy()
	}
	return st
}

// register gives a client its number and its session.
func (s *Server) register(c *client, e *engine.Engine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	if s.session == nil || s.session.engine != e {
		s.session = newSession(s, e)
	}
	for {
		s.nextID++
		if _, taken := s.clients[s.nextID]; !taken && s.nextID != 0 {
			break
		}
	}
	c.id, c.session = s.nextID, s.session
	c.names.prefix = fmt.Sprintf("%s%d.", namePrefix, c.id)
	s.clients[c.id] = c
	if s.looked == nil {
		s.looked = make(chan struct{})
		go s.look()
	}
	return nil
}

func (s *Server) unregister(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c.id)
}

// sharers are the other clients on a session.
func (s *Server) sharers(on *session) []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*client
	for _, c := range s.clients {
		if c.session == on {
			all = append(all, c)
		}
	}
	return all
}

// cancel serves a cancel request: it hits what that client runs, and nobody else.
func (s *Server) cancel(id uint32, secret []byte) {
	s.mu.Lock()
	c := s.clients[id]
	s.mu.Unlock()
	if c != nil && c.hasSecret(secret) && c.session.cancel(c) {
		s.cancelled.Add(1)
	}
}
