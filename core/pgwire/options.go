package pgwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
)

// Defaults of Options.
const (
	DefaultMaxClients     = 100
	DefaultMaxStartups    = 250 // each a socket and some kilobytes
	DefaultReserved       = 3   // PostgreSQL's superuser_reserved_connections
	DefaultStartupTimeout = 10 * time.Second
	// DefaultStallTimeout is long, because a client that does not read (a pager, a slow disk) only delays its own process.
	DefaultStallTimeout = 5 * time.Minute
	// DefaultVanishTimeout lets short statements end as they would elsewhere: a client may send one and leave.
	DefaultVanishTimeout = time.Second
)

// Backend starts a PostgreSQL process for each client.
type Backend interface {
	// Dial starts a process, which expects the startup packet next, and opens the database if necessary. Its error is sent to the client.
	Dial(ctx context.Context, o pglite.ConnectOptions) (Conn, error)
}

// Conn is the connection to a client's process; *engine.Conn is one. One goroutine may read while another one writes. Read returns answers
// when what they acknowledge is durable, and io.EOF when the process has ended normally, having sent the reason. Any other error is sent to
// the client.
type Conn interface {
	io.ReadWriteCloser
	// Terminate ends the process as pg_terminate_backend does, whatever it is running.
	Terminate()
	// Done is closed when the process has ended.
	Done() <-chan struct{}
	// Ask is a Write that may run the process on the caller's goroutine, and then writes to w the part of its answer that is ready without
	// waiting. Another goroutine copies the rest to w; the two never write at the same time.
	Ask(b []byte, w io.Writer) (int, error)
}

// Options are options of a Server. Backend is required. Zero bounds and time limits mean their defaults.
type Options struct {
	Backend Backend
	// TLS is offered to clients; nil: there is none. RequireTLS refuses connections without it.
	TLS        *tls.Config
	RequireTLS bool
	// MaxClients bounds the connections that have a process; Reserved more are for superusers, and a further one gets 53300. MaxStartups
	// bounds those that have not sent a startup packet; for a further one, the oldest is ended.
	MaxClients, Reserved, MaxStartups int
	// StartupTimeout is how long a client has for TLS and its startup packet, and again for its password.
	StartupTimeout time.Duration
	// StallTimeout is how long, at least, a client may read nothing while an answer is waiting for it; after that the connection ends.
	StallTimeout time.Duration
	// VanishTimeout is how long a statement may keep running after its client has gone.
	VanishTimeout time.Duration
	Clock         clock.Clock  // nil: the system clock
	Logger        *slog.Logger // nil: log messages are dropped
}

func (o *Options) fill() error {
	if o.Backend == nil {
		return errors.New("serve clients: set Backend")
	}
	if o.RequireTLS && o.TLS == nil {
		return errors.New("serve clients: RequireTLS needs TLS, with a certificate")
	}
	for _, d := range []struct {
		value *time.Duration
		std   time.Duration
	}{{&o.StartupTimeout, DefaultStartupTimeout}, {&o.StallTimeout, DefaultStallTimeout}, {&o.VanishTimeout, DefaultVanishTimeout}} {
		if *d.value == 0 {
			*d.value = d.std
		}
	}
	for _, d := range []struct {
		name  string
		value *int
		std   int
	}{
		{"MaxClients", &o.MaxClients, DefaultMaxClients}, {"Reserved", &o.Reserved, DefaultReserved},
		{"MaxStartups", &o.MaxStartups, DefaultMaxStartups},
	} {
		if *d.value == 0 {
			*d.value = d.std
		}
		if *d.value < 0 {
			return fmt.Errorf("serve clients: %s is %d: it must not be negative", d.name, *d.value)
		}
	}
	if o.TLS != nil && !slices.Contains(o.TLS.NextProtos, alpn) {
		o.TLS = o.TLS.Clone()
		o.TLS.NextProtos = append(o.TLS.NextProtos, alpn)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// alpn is PostgreSQL's protocol name in TLS.
const alpn = "postgresql"
