package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"blobpglite/core/clock"
)

// backend is the client's end of a PostgreSQL process.
type backend interface {
	net.Conn
	Cancel()               // interrupts what it is running: 57014
	Terminate()            // ends it, whatever it is running
	Done() <-chan struct{} // closed when it has ended
	HoldAnswers(bool)      // whether answers wait until they are durable
}

// session is a connection for requests, one at a time.
type session struct {
	*pgconn.PgConn
	conn     *watched
	backend  backend
	database string
	opened   time.Duration // when, by Clock.Monotonic
	// While the session is idle: taken is closed when a request takes it, or it is given up; limit is when it is ended.
	taken chan struct{}
	limit clock.Timer
}

// cancelPatience is how long a canceled statement may keep running (EXCEPTION WHEN query_canceled) before its session is ended.
const cancelPatience = 500 * time.Millisecond

// connector opens sessions.
type connector struct {
	config *pgconn.Config
	clock  clock.Clock
	dial   func(ctx context.Context) (backend, error)
	// user is the role of the sessions; empty: the superuser that the database was made with, which may have been renamed. seen is its last
	// known name; if a login under that name fails, superuser returns the current one.
	user      string
	superuser func(ctx context.Context) (string, error)
	seen      *atomic.Pointer[string]
}

// firstUser is the superuser's name in a new database.
const firstUser = "postgres"

func newConnector(clk clock.Clock, user string, dial func(context.Context) (backend, error), superuser func(context.Context) (string, error)) (connector, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 sslmode=disable connect_timeout=0")
	if err != nil {
		return connector{}, err
	}
	config.Password = ""
	// JSON is UTF-8, whatever the database's or the role's setting. RESET returns to the values in the startup packet.
	config.RuntimeParams = map[string]string{"client_encoding": "UTF8", "application_name": "http"}
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.Fallbacks = nil
	c := connector{config: config, clock: clk, dial: dial, user: user, superuser: superuser, seen: &atomic.Pointer[string]{}}
	first := firstUser
	c.seen.Store(&first)
	return c, nil
}

// notOpen is the reason why a request got no session. Nothing of the request has run.
type notOpen struct{ err error }

func (n *notOpen) Error() string { return n.err.Error() }
func (n *notOpen) Unwrap() error { return n.err }

// errOneConnection: the driver tried to open a second connection, to send a cancel request. backend.Cancel does that instead.
var errOneConnection = errors.New("a session has one connection")

// open opens a session of a database.
func (c connector) open(ctx context.Context, database string) (*session, error) {
	if c.user != "" {
		return c.login(ctx, c.user, database)
	}
	const noRole = "28000"
	var err error
	for range 3 {
		user := *c.seen.Load()
		var s *session
		var name string
		s, err = c.login(ctx, user, database)
		pg := (*pgconn.PgError)(nil)
		switch {
		case err == nil:
			name, err = s.superuser(ctx)
		case errors.As(err, &pg) && pg.Code == noRole:
			name, err = c.superuser(ctx)
		}
		if err == nil && s != nil && name == user {
			return s, nil
		}
		if s != nil {
			s.close()
		}
		if err != nil {
			return nil, &notOpen{err}
		}
		c.seen.Store(&name)
	}
	return nil, &notOpen{errRenamed}
}

// errRenamed: each time, the superuser was renamed between the query for its name and the login.
var errRenamed = errors.New("log in as the superuser: the role is being renamed; try again")

// superuserName selects the name of the superuser that the database was made with, by its oid, which never changes.
const superuserName = "SELECT rolname FROM pg_catalog.pg_roles WHERE oid OPERATOR(pg_catalog.=) '10'::pg_catalog.oid"

// errNoSuperuser: the catalogs were changed by hand.
var errNoSuperuser = errors.New("there is no role of oid 10, the superuser that the database was made with")

// superuser returns the superuser's name, queried in this session.
func (s *session) superuser(ctx context.Context) (string, error) {
	results, err := s.Exec(ctx, superuserName).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errNoSuperuser
	}
	return string(results[0].Rows[0][0]), nil
}

// login opens a session as a role. Error: notOpen.
func (c connector) login(ctx context.Context, user, database string) (*session, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, &notOpen{err}
	}
	conn.HoldAnswers(false) // a login acknowledges nothing
	s := &session{conn: &watched{Conn: conn}, backend: conn, database: database, opened: c.clock.Monotonic()}
	config := c.config.Copy()
	config.User, config.Database = user, database
	dialled := false
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		if dialled {
			return nil, errOneConnection
		}
		dialled = true
		return s.conn, nil
	}
	config.BuildContextWatcherHandler = func(*pgconn.PgConn) ctxwatch.Handler { return canceller{s, c.clock} }
	if s.PgConn, err = pgconn.ConnectConfig(ctx, config); err != nil {
		_ = conn.Close()
		return nil, &notOpen{err}
	}
	return s, nil
}

// canceller interrupts a session's statement when its request is given up.
type canceller struct {
	s     *session
	clock clock.Clock
}

// HandleCancel implements ctxwatch.Handler.
func (c canceller) HandleCancel(context.Context) {
	c.s.backend.Cancel()
	_ = c.s.backend.SetDeadline(c.clock.Now().Add(cancelPatience))
}

// HandleUnwatchAfterCancel implements ctxwatch.Handler. It does nothing: the session will be ended, as a cancel may arrive late.
func (c canceller) HandleUnwatchAfterCancel() {}

// ended says whether the session's process has ended.
func (s *session) ended() bool {
	select {
	case <-s.backend.Done():
		return true
	default:
		return s.IsClosed()
	}
}

// close ends the session and a running statement.
func (s *session) close() {
	if s.IsClosed() { // the driver has given it up, but does not wait for its end
		s.cut()
		<-s.CleanupDone()
		return
	}
	if s.IsBusy() {
		s.cut()
	}
	ctx, cancel := context.WithTimeout(context.Background(), resetTimeout)
	defer cancel()
	_ = s.Close(ctx)
}

// cut ends the process while it runs a statement. It may be called from any goroutine.
func (s *session) cut() {
	s.backend.Terminate()
	_ = s.backend.Close()
}

// resetTimeout is how long cleaning a session may take; after that it is ended instead.
const resetTimeout = 10 * time.Second

// reset restores the session to its state after login, as far as PostgreSQL can.
func (s *session) reset() error {
	s.backend.HoldAnswers(false)
	ctx, cancel := context.WithTimeout(context.Background(), resetTimeout)
	defer cancel()
	if s.TxStatus() != 'I' {
		if _, err := s.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			return fmt.Errorf("roll back the transaction that a request left open: %w", err)
		}
	}
	// DISCARD ALL resets everything except the seed of random(): without a new one, the next request's values could be predicted.
	seed := strconv.FormatFloat(2*rand.Float64()-1, 'f', -1, 64)
	for _, sql := range []string{"DISCARD ALL", "SELECT pg_catalog.setseed(" + seed + ")"} {
		if _, err := s.Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("clean a session: %w", err)
		}
	}
	if s.TxStatus() != 'I' {
		return errors.New("clean a session: it is still in a transaction")
	}
	s.conn.copyIn, s.conn.copyOut = false, false
	return nil
}
