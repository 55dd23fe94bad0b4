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
	DefaultMaxRequest = 16 << 20
	DefaultRetryAfter = 2 * time.Second
	// DefaultMaxRequests is more than Cloud Run gives an instance (its default is 80).
	DefaultMaxRequests   = 100
	DefaultMaxConns      = 512
	DefaultHeaderTimeout = 10 * time.Second
	DefaultBodyTimeout   = 30 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute
	DefaultStallTimeout  = 10 * time.Second
	// DefaultMaxSessions is what a small machine has memory for: a session at work has some 3 MB, and what its statement needs. In
	// strict a request that writes has its session while the record is on its way, so the bound is one of throughput too.
	DefaultMaxSessions = 64
	// DefaultSessionTimeout is how long a request waits for a session.
	DefaultSessionTimeout = 30 * time.Second
	// DefaultIdleSession is less than the 5 s for which DROP DATABASE and CREATE DATABASE wait for others to leave.
	DefaultIdleSession = 3 * time.Second
)

// Options of New. Dial and Keeper are required.
type Options struct {
	// Keeper has the database.
	Keeper *keeper.Keeper
	// Token, if not empty, is asked for as a bearer token at /sql and the metrics.
	Token string
	// User of the requests' sessions; empty: the superuser that the database was made with, whatever it is called now.
	User string
	// Database of requests that name none; empty: postgres.
	Database string
	// Hosts are the names by which the service may be asked (Host), besides localhost and addresses of this machine's own.
	// AnyHost lets all names through: where somebody else sees to who may come.
	Hosts   []string
	AnyHost bool
	// MaxRequest bounds a request's body, in bytes.
	MaxRequest int64
	// MaxRequests bounds the statements, or batches, at a time, those that wait for a session included; one more gets 503.
	MaxRequests int
	// MaxSessions bounds the sessions, a process of PostgreSQL each: requests wait for one, up to SessionTimeout, and then get 503.
	// One that nobody has used for IdleSession is ended.
	MaxSessions                 int
	SessionTimeout, IdleSession time.Duration
	// MaxConns bounds the connections of a listener that Limit has made.
	MaxConns int
	// HeaderTimeout is how long a request's header may take, BodyTimeout its body, IdleTimeout how long a connection may do
	// nothing between requests, StallTimeout how long a client may read nothing while an answer waits for it.
	HeaderTimeout, BodyTimeout, IdleTimeout, StallTimeout time.Duration
	// Process tells of the process's own start, for /metrics.json: steps and how long after its start they were done, or how
	// long they took. Nil: nothing.
	Process func() map[string]time.Duration
	// Health tells more of the service's state in the answer of /healthz. Nil: nothing.
	Health func() map[string]any
	// Routes are further patterns, such as "POST /promote", for who has the token.
	Routes map[string]http.HandlerFunc
	// Registry has the metrics; nil: one of its own.
	Registry *prometheus.Registry
	Clock    clock.Clock  // nil: the system's
	Logger   *slog.Logger // nil: dropped
}

// bounds fills in what is not given, and refuses what makes no sense.
func (o *Options) bounds() error {
	for _, d := range []struct {
		value *time.Duration
		std   time.Duration
	}{
		{&o.HeaderTimeout, DefaultHeaderTimeout}, {&o.BodyTimeout, DefaultBodyTimeout}, {&o.IdleTimeout, DefaultIdleTimeout},
		{&o.StallTimeout, DefaultStallTimeout}, {&o.SessionTimeout, DefaultSessionTimeout}, {&o.IdleSession, DefaultIdleSession},
	} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve HTTP: a time limit of %v", *d.value)
		}
	}
	for _, d := range []struct {
		value *int
		std   int
	}{{&o.MaxRequests, DefaultMaxRequests}, {&o.MaxConns, DefaultMaxConns}, {&o.MaxSessions, DefaultMaxSessions}} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve HTTP: a bound of %d", *d.value)
		}
	}
	if o.MaxRequest == 0 {
		o.MaxRequest = DefaultMaxRequest
	}
	if o.MaxRequest < 0 {
		return fmt.Errorf("serve HTTP: requests of %d bytes", o.MaxRequest)
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

// superuser asks the host's own session what the superuser is called.
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
