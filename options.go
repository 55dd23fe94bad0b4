package blobpglite

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/store/location"
)

// Durability says what the success of a commit means.
type Durability = engine.Durability

// The durabilities.
const (
	// Strict: it is in the store. A crash loses nothing.
	Strict = engine.Strict
	// Interval: it will be within Options.FlushInterval. A crash loses at most that much of running time.
	Interval = engine.Interval
	// Sleep: it will be when nothing has run for Options.IdleFlush, or at Close. A crash loses what came since.
	Sleep = engine.Sleep
)

// Clock is what time is read from and waited for.
type Clock = clock.Clock

// Defaults of Options.
const (
	DefaultMaxConns       = 16
	DefaultCache          = 256 << 20 // bytes
	DefaultAcquireTimeout = 40 * time.Second
	DefaultRetain         = manifest.DefaultRetain
)

// None, as a duration of Options: none at all, where zero means the default.
const None = -1

// Options of a database. The zero value is the default, and what Open uses.
type Options struct {
	// Durability of commits; empty: Strict. FlushInterval (200 ms) and IdleFlush (1 s) belong to Interval and Sleep.
	Durability               Durability
	FlushInterval, IdleFlush time.Duration

	// MaxConns bounds the connections of SQL and Pool together; zero: DefaultMaxConns. User and Database are theirs; empty: postgres.
	MaxConns       int
	User, Database string

	// NoCreate refuses to make a database where there is none (ErrNoDatabase).
	NoCreate bool
	// At, if it is not zero, opens the database as it was then, as far back as is kept, to read it: no lease is taken and nothing is
	// written, so it may be done beside a writer. What a transaction writes all the same (READ WRITE) ends with the DB.
	At time.Time
	// Retain is how far back a new database keeps earlier states for At and Branch; zero: DefaultRetain, None: not at all. It belongs to the
	// database: an existing one goes on as it is, and `pgserve retain` changes it.
	Retain time.Duration

	// AcquireTimeout is how long Open waits for another writer's lease; zero: DefaultAcquireTimeout, None: not at all. LeaseTTL is how
	// long this writer may be silent before another one may take over; zero: 30 s.
	AcquireTimeout, LeaseTTL time.Duration
	// Name is what others are told who meet this writer's lease; empty: the machine's name, the program's, and the process's number.
	Name string

	// Cache is how much of the database's files is kept in memory, in bytes, at least 48 MiB; zero: DefaultCache, None: all of it, read by Open.
	// A larger database is read from the store as it is used.
	Cache int64
	// MaxBytes bounds the data directory: beyond it, PostgreSQL reports a full disk (53100). MemoryLimit bounds PostgreSQL's memory. In bytes;
	// zero: none, and 2 GiB.
	MaxBytes, MemoryLimit int64
	// StatementTimeout is PostgreSQL's for all who do not set their own; zero: none. Settings are server parameters.
	StatementTimeout time.Duration
	Settings         map[string]string

	// Runtime is a loaded PostgreSQL that several databases share; nil: the DB loads its own, with Extensions, and lets go of it in Close.
	Runtime *Runtime
	// Extensions are those that are published as npm packages of their own, such as vector (pgvector). Bundled ones need no word.
	Extensions []string
	// Endpoint is the URL of another service that speaks like Cloud Storage, for gs://; empty: STORAGE_EMULATOR_HOST, or the real one.
	Endpoint string

	Logger *slog.Logger // nil: dropped
	Clock  Clock        // nil: the system's
}

// Runtime is a loaded PostgreSQL, of some 60 MB, ready to be started any number of times.
type Runtime struct{ rt *pglite.Runtime }

// NewRuntime loads PostgreSQL, with extensions as in Options. The first call on a machine fetches and compiles it.
func NewRuntime(ctx context.Context, extensions ...string) (*Runtime, error) {
	rt, err := pglite.NewRuntime(ctx, pglite.Options{Extensions: extensions})
	if err != nil {
		return nil, fmt.Errorf("load PostgreSQL: %w", err)
	}
	return &Runtime{rt}, nil
}

// Close releases it. Every DB that uses it must have been closed.
func (r *Runtime) Close() error {
	if r == nil || r.rt == nil {
		return nil
	}
	return r.rt.Close()
}

// fill completes the options, and refuses what makes no sense.
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
			return fmt.Errorf("%w: %s is %v: it cannot be below zero", ErrInvalid, d.name, *d.value)
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
		return fmt.Errorf("%w: MaxConns is %d: from 1 to %d", ErrInvalid, o.MaxConns, mostConns)
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
	mostConns = 2000 // of a machine with 6 GB for them
	dialled   = 32   // connections by Dial, besides
)

// processName names this process, for people.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return host + "/" + filepath.Base(os.Args[0]) + "[" + strconv.Itoa(os.Getpid()) + "]"
}

// place opens the store that a URL names.
func (o *Options) place(ctx context.Context, url string, create bool) (location.Store, error) {
	at, err := location.Parse(url)
	if err != nil {
		return nil, err
	}
	return at.Open(ctx, location.Options{Endpoint: o.Endpoint, Create: create})
}
