package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"blobpglite/core/clock"
	"blobpglite/core/keeper"
	"blobpglite/core/pglite"
)

// Defaults of Options.
const (
	DefaultMaxRequest = 16 << 20 // bytes
	DefaultRetryAfter = 2 * time.Second
	// DefaultMaxRequests is more than Cloud Run gives an instance (its default is 80).
	DefaultMaxRequests   = 100
	DefaultMaxConns      = 512
	DefaultHeaderTimeout = 10 * time.Second
	DefaultBodyTimeout   = 30 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute
	DefaultStallTimeout  = 10 * time.Second
	// DefaultMaxSessions is what a small machine has memory for: a session takes about 3 MB, plus what its statement needs. With durability
	// strict a request that writes keeps its session until its record is stored, so this also bounds throughput.
	DefaultMaxSessions = 64
	// DefaultSessionTimeout is how long a request waits for a session.
	DefaultSessionTimeout = 30 * time.Second
	// DefaultIdleSession is less than the 5 s that DROP DATABASE and CREATE DATABASE wait for others to leave.
	DefaultIdleSession = 3 * time.Second
)

// Options are options of New. Keeper is required. Zero bounds and time limits mean their defaults; negative ones are rejected.
type Options struct {
	// Keeper opens the database and provides its engine.
	Keeper *keeper.Keeper
	// Token, if not empty, is required as a bearer token for everything except the page at / and its files, /healthz and /livez.
	Token string
	// User is the role of the requests' sessions; empty: the superuser that the database was made with, whatever its name is now.
	User string
	// Database is the one for requests that name none; empty: postgres.
	Database string
	// Hosts are the names allowed in a Host header, besides localhost and addresses of this machine. AnyHost accepts every name: for a
	// service behind something that checks who may call it.
	Hosts   []string
	AnyHost bool
	// MaxRequest bounds a request's body, in bytes.
	MaxRequest int64
	// MaxRequests bounds concurrent statements and batches, including those waiting for a session; one more gets 503.
	MaxRequests int
	// MaxSessions bounds the sessions, each a PostgreSQL process. A request waits for one up to SessionTimeout, then gets 503. A session
	// that was not used for IdleSession is ended.
	MaxSessions                 int
	SessionTimeout, IdleSession time.Duration
	// MaxConns bounds the connections of a listener wrapped by Limit.
	MaxConns int
	// HeaderTimeout is how long a request's header may take, BodyTimeout its body, IdleTimeout how long a connection may be idle between
	// requests, StallTimeout how long a client may read nothing while an answer is waiting for it.
	HeaderTimeout, BodyTimeout, IdleTimeout, StallTimeout time.Duration
	// Process returns, for /metrics.json, steps of the process's own start, and how long they took or how long after the start they were
	// done. Nil: none.
	Process func() map[string]time.Duration
	// Health returns additional fields for the answer of /healthz. Nil: none.
	Health func() map[string]any
	// Routes are additional patterns, such as "POST /promote". They also require the token.
	Routes map[string]http.HandlerFunc
	// Registry holds the metrics; nil: a new one.
	Registry *prometheus.Registry
	Clock    clock.Clock  // nil: the system clock
	Logger   *slog.Logger // nil: log messages are dropped
}

// bounds replaces zero values with defaults, and rejects negative ones.
func (o *Options) bounds() error {
	for _, d := range []struct {
		name  string
		value *time.Duration
		std   time.Duration
	}{
		{"HeaderTimeout", &o.HeaderTimeout, DefaultHeaderTimeout}, {"BodyTimeout", &o.BodyTimeout, DefaultBodyTimeout},
		{"IdleTimeout", &o.IdleTimeout, DefaultIdleTimeout}, {"StallTimeout", &o.StallTimeout, DefaultStallTimeout},
		{"SessionTimeout", &o.SessionTimeout, DefaultSessionTimeout}, {"IdleSession", &o.IdleSession, DefaultIdleSession},
	} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve HTTP: %s is %v: it must not be negative", d.name, *d.value)
		}
	}
	for _, d := range []struct {
		name  string
		value *int
		std   int
	}{
		{"MaxRequests", &o.MaxRequests, DefaultMaxRequests}, {"MaxConns", &o.MaxConns, DefaultMaxConns},
		{"MaxSessions", &o.MaxSessions, DefaultMaxSessions},
	} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve HTTP: %s is %d: it must not be negative", d.name, *d.value)
		}
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = DefaultMaxRequest
	}
	if o.MaxRequest < 0 {
		return fmt.Errorf("serve HTTP: MaxRequest is %d: it must not be negative", o.MaxRequest)
	}
	return nil
}

// dial starts a process for a session.
func (o *Options) dial(ctx context.Context) (backend, error) {
	e, err := o.Keeper.Engine(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// superuser asks the host's own session for the superuser's name.
func (o *Options) superuser(ctx context.Context) (string, error) {
	e, err := o.Keeper.Engine(ctx)
	if err != nil {
		return "", err
	}
	results, err := e.Query(ctx, superuserName)
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errNoSuperuser
	}
	return results[0].Rows[0][0], nil
}
