package blobpglite

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/store/location"
)

// Durability says what a successful commit guarantees.
type Durability = engine.Durability

// The durabilities.
const (
	// Strict: the commit is in the store. A crash loses nothing.
	Strict = engine.Strict
	// Interval: the commit will be in the store within Options.FlushInterval. A crash loses at most that much running time.
	Interval = engine.Interval
	// Sleep: the commit will be in the store when nothing has run for Options.IdleFlush, or at Close. A crash loses every commit since
	// the last of these.
	Sleep = engine.Sleep
)

// Clock is the source of time and of timers, which tests replace.
type Clock = clock.Clock

// Defaults of Options.
const (
	DefaultMaxConns       = 16
	DefaultCache          = 256 << 20 // bytes
	DefaultAcquireTimeout = 40 * time.Second
	DefaultRetain         = manifest.DefaultRetain
)

// None, as a duration in Options, means none at all, where zero means the default.
const None = -1

// Options of a database. The zero value is the default, and what Open uses.
type Options struct {
	// Durability of commits; empty: Strict. FlushInterval applies to Interval (zero: 200 ms), IdleFlush to Sleep (zero: 1 s).
	Durability               Durability
	FlushInterval, IdleFlush time.Duration

	// MaxConns bounds the connections of SQL and Pool together; zero: DefaultMaxConns, at most 2000. User and Database are the role and
	// database of these connections; empty: postgres.
	MaxConns       int
	User, Database string

	// NoCreate: return ErrNoDatabase where there is no database, instead of creating one.
	NoCreate bool
	// At, if not zero, opens the database read-only as it was at that time, if that state is still kept. It takes no lease and writes
	// nothing to the store, so a writer may run at the same time. Anything a READ WRITE transaction writes anyway is gone after Close.
	At time.Time
	// Retain is how far back a new database keeps earlier states for At and Branch; zero: DefaultRetain, None: not at all. It is a property
	// of the database: opening an existing one does not change it; `pgserve retain` does.
	Retain time.Duration

	// AcquireTimeout is how long Open waits for another writer's lease; zero: DefaultAcquireTimeout, None: not at all. LeaseTTL is how
	// long this writer may be silent before another one may take over; zero: 30 s.
	AcquireTimeout, LeaseTTL time.Duration
	// Name is this writer's name in the lease, which a LockedError shows to others; empty: machine, program and process id.
	Name string

	// Cache is how much of the database's files is kept in memory, in bytes, at least 48 MiB; zero: DefaultCache, None: all of it, read by
	// Open. What does not fit is read from the store when needed.
	Cache int64
	// MaxBytes bounds the data directory: beyond it, PostgreSQL reports a full disk (53100); zero: no bound. MemoryLimit bounds
	// PostgreSQL's memory; zero: 2 GiB. Both are in bytes.
	MaxBytes, MemoryLimit int64
	// StatementTimeout is PostgreSQL's statement_timeout for sessions that do not set their own; zero: none. Settings are server parameters.
	StatementTimeout time.Duration
	Settings         map[string]string

	// Runtime is a loaded PostgreSQL that several databases share; nil: the DB loads its own, with Extensions, and releases it in Close.
	Runtime *Runtime
	// Extensions lists extensions published as npm packages of their own, such as vector (pgvector). Bundled ones need not be listed.
	Extensions []string
	// Endpoint is the base URL of a Cloud Storage emulator, for gs://; empty: STORAGE_EMULATOR_HOST, else the real service.
	Endpoint string

	Logger *slog.Logger // nil: log messages are dropped
	Clock  Clock        // nil: the system clock
}

// Runtime is a loaded PostgreSQL, of about 60 MB, which any number of databases can share. It is safe for concurrent use.
type Runtime struct {
	rt *pglite.Runtime

	mu     sync.Mutex
	users  int // databases that use it
	closed bool
}

// NewRuntime loads PostgreSQL, with extensions as in Options.Extensions. The first call on a machine downloads and compiles it.
func NewRuntime(ctx context.Context, extensions ...string) (*Runtime, error) {
	rt, err := pglite.NewRuntime(ctx, pglite.Options{Extensions: extensions})
	if err != nil {
		return nil, fmt.Errorf("load PostgreSQL: %w", err)
	}
	return &Runtime{rt: rt}, nil
}

// Close releases the runtime. Every DB that uses it must be closed first: as long as one is open, Close does nothing and returns
// ErrInvalid. A second Close does nothing.
func (r *Runtime) Close() error {
	if r == nil || r.rt == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users > 0 {
		return fmt.Errorf("close the runtime: %w: %d databases that use it are still open: close them first", ErrInvalid, r.users)
	}
	if r.closed {
		return nil
	}
	r.closed = true
	return r.rt.Close()
}

// use keeps the runtime from being closed until release.
func (r *Runtime) use() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("%w: Runtime has been closed", ErrInvalid)
	}
	r.users++
	return nil
}

func (r *Runtime) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users--
}

// fill replaces zero values with defaults, and rejects invalid values.
func (o *Options) fill() error {
	for _, d := range []struct {
		name    string
		value   *time.Duration
		std     time.Duration
		canNone bool
	}{
		{"FlushInterval", &o.FlushInterval, engine.DefaultFlushInterval, false}, {"IdleFlush", &o.IdleFlush, engine.DefaultIdleFlush, false},
		{"Retain", &o.Retain, DefaultRetain, true}, {"AcquireTimeout", &o.AcquireTimeout, DefaultAcquireTimeout, true},
		{"LeaseTTL", &o.LeaseTTL, 0, false}, {"StatementTimeout", &o.StatementTimeout, 0, false},
	} {
		switch {
		case *d.value == 0:
			*d.value = d.std
		case *d.value == None && d.canNone:
			*d.value = 0
		case *d.value < 0:
			return fmt.Errorf("%w: %s is %v: it must not be negative", ErrInvalid, d.name, *d.value)
		}
	}
	switch o.Cache {
	case 0:
		o.Cache = DefaultCache
	case None:
		o.Cache = 0
	}
	if o.MaxConns == 0 {
		o.MaxConns = DefaultMaxConns
	}
	if o.MaxConns < 0 || o.MaxConns > mostConns {
		return fmt.Errorf("%w: MaxConns is %d: it must be from 1 to %d", ErrInvalid, o.MaxConns, mostConns)
	}
	if o.Runtime != nil && o.Runtime.rt == nil {
		return fmt.Errorf("%w: Runtime was not made by NewRuntime", ErrInvalid)
	}
	if o.User == "" {
		o.User = "postgres"
	}
	if o.Database == "" {
		o.Database = "postgres"
	}
	if o.Name == "" {
		o.Name = processName()
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

const (
	mostConns = 2000 // about 6 GB of processes
	dialled   = 32   // further connections, for Dial
)

// processName is a readable name for this process.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return host + "/" + filepath.Base(os.Args[0]) + "[" + strconv.Itoa(os.Getpid()) + "]"
}

// place opens the store named by a URL.
func (o *Options) place(ctx context.Context, url string, create bool) (location.Store, error) {
	at, err := location.Parse(url)
	if err != nil {
		return nil, err
	}
	return at.Open(ctx, location.Options{Endpoint: o.Endpoint, Create: create})
}
