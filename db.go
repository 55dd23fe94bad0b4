package blobpglite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"blobpglite/core/engine"
	"blobpglite/core/keeper"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/location"
	"blobpglite/core/store/mem"
)

// memURL is the URL of a database in memory.
const memURL = "mem:"

// DB is an open database. Make one with Open. It is safe for concurrent use. The zero value is a closed database.
type DB struct {
	keeper  *keeper.Keeper // nil: it was never opened
	pool    *pgxpool.Pool
	store   location.Store  // nil: in memory
	runtime *pglite.Runtime // its own; nil: the caller's is used
	shared  *Runtime        // the caller's; nil: it has its own
	closed  atomic.Bool

	mu  sync.Mutex
	sql *sql.DB
}

// Open opens the database at a URL (see the package documentation), and creates it if there is none. It returns when PostgreSQL
// accepts connections. ctx bounds the opening only. Errors: ErrInvalid, ErrLocked, ErrDenied, ErrUnavailable, ErrNested, ErrNotEmpty,
// ErrVersion, ErrCorrupt, ctx's. Nothing is left running after an error.
func Open(ctx context.Context, url string) (*DB, error) { return Options{}.Open(ctx, url) }

// Open is like the function Open, with options. Further errors: ErrNoDatabase with NoCreate or At, ErrBeyondRetention with At.
func (o Options) Open(ctx context.Context, url string) (_ *DB, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open %s: %w", url, err)
		}
	}()
	if err := o.fill(); err != nil {
		return nil, err
	}
	db := &DB{}
	defer func() {
		if err != nil {
			// Close makes the keeper end an opening that is still under way.
			err = errors.Join(err, db.Close(context.WithoutCancel(ctx)))
		}
	}()
	var st store.Store
	if url == memURL {
		if !o.At.IsZero() || o.NoCreate {
			return nil, fmt.Errorf("%w: a database in memory is always new: leave out At and NoCreate", ErrInvalid)
		}
		st = mem.New(mem.Options{Clock: o.Clock})
	} else {
		if db.store, err = o.place(ctx, url, !o.NoCreate && o.At.IsZero()); err != nil {
			return nil, absent(err)
		}
		st = db.store
	}
	if err := db.begin(ctx, &o, st); err != nil {
		return nil, err
	}
	if _, err := db.keeper.Engine(ctx); err != nil {
		return nil, err
	}
	return db, nil
}

// absent turns "not found" into ErrNoDatabase: a folder without a store has no database.
func absent(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrNoDatabase, err)
	}
	return err
}

// begin sets up everything except the engine.
func (db *DB) begin(ctx context.Context, o *Options, st store.Store) (err error) {
	rt := (*pglite.Runtime)(nil)
	if o.Runtime != nil {
		if err := o.Runtime.use(); err != nil {
			return err
		}
		rt, db.shared = o.Runtime.rt, o.Runtime
	} else {
		own, err := NewRuntime(ctx, o.Extensions...)
		if err != nil {
			return err
		}
		rt, db.runtime = own.rt, own.rt
	}
	options := o.engine(rt, st)
	db.keeper, err = keeper.New(keeper.Options{Clock: o.Clock, Logger: o.Logger, Open: func(ctx context.Context) (*engine.Engine, error) {
		if !o.At.IsZero() {
			return engine.OpenAt(ctx, options, engine.RecoveryTarget{Time: o.At})
		}
		return engine.Open(ctx, options)
	}})
	if err != nil {
		return err
	}
	db.pool, err = db.newPool(o)
	return err
}

// engine returns the engine's options.
func (o *Options) engine(rt *pglite.Runtime, st store.Store) engine.Options {
	e := engine.Options{
		Runtime: rt, Store: st, Create: !o.NoCreate,
		Durability: o.Durability, FlushInterval: o.FlushInterval, IdleFlush: o.IdleFlush, Retain: o.Retain,
		LeaseTTL: o.LeaseTTL, AcquireTimeout: o.AcquireTimeout, Writer: o.Name, Process: store.NewWriteID(),
		MaxClients: o.MaxConns + dialled, MaxBytes: o.MaxBytes, MemoryLimit: o.MemoryLimit, Cache: o.Cache,
		Settings: o.Settings, StatementTimeout: o.StatementTimeout, Clock: o.Clock, Logger: o.Logger,
	}
	if p, ok := st.(location.Store); ok {
		e.BeforeCreate = p.Probe // checks once, before a database is created, that the store keeps its promises
	}
	return e
}

// newPool makes the pool, without opening a connection. It overrides PGHOST, PGOPTIONS and the like, which are meant for other servers.
func (db *DB) newPool(o *Options) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig("host=blobpglite port=5432 user=u dbname=d sslmode=disable connect_timeout=0")
	if err != nil {
		return nil, fmt.Errorf("make the pool: %w; check PGSERVICE, PGPASSFILE and the like in the environment, which are read, too", err)
	}
	c := &config.ConnConfig.Config
	c.User, c.Database, c.Password, c.Fallbacks = o.User, o.Database, "", nil
	c.RuntimeParams = map[string]string{"application_name": o.Name}
	c.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	c.DialFunc = db.Dial
	config.MaxConns = int32(o.MaxConns)
	config.MinConns, config.MinIdleConns = 0, 0
	return pgxpool.NewWithConfig(context.Background(), config)
}

// Dial opens a connection to a new PostgreSQL process, which expects a startup packet first. It is for drivers other than pgx, and for
// proxies. It has the signature of a driver's dial function; network and address are ignored. If the database was taken over, or the
// outcome of a commit was unknown, Dial opens the database again first. ctx bounds the dialing only. Errors: ErrClosed, those of Open.
func (db *DB) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if db.keeper == nil || db.closed.Load() {
		return nil, ErrClosed
	}
	e, err := db.keeper.Engine(ctx)
	if errors.Is(err, keeper.ErrClosed) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, err
	}
	conn, err := e.Dial(ctx, pglite.ConnectOptions{Trusted: true})
	if errors.Is(err, engine.ErrClosed) {
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Pool returns the database as a pgx pool. It belongs to the DB: do not close it. After Close the pool is closed.
func (db *DB) Pool() *pgxpool.Pool {
	if db.pool != nil {
		return db.pool
	}
	config, err := pgxpool.ParseConfig("host=blobpglite")
	if err != nil {
		return nil // the PG* variables of the environment cannot be parsed
	}
	config.ConnConfig.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, ErrClosed }
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err == nil {
		pool.Close()
	}
	return pool
}

// SQL returns the database for database/sql, over the same pool. It is always the same *sql.DB and belongs to the DB: do not close it.
// After Close its methods fail.
func (db *DB) SQL() *sql.DB {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.sql == nil {
		if db.pool == nil {
			db.sql = sql.OpenDB(closedConnector{})
		} else {
			db.sql = stdlib.OpenDBFromPool(db.pool)
		}
		if db.closed.Load() || db.pool == nil {
			_ = db.sql.Close()
		}
	}
	return db.sql
}

// Close waits until the connections of SQL and Pool are returned, makes everything durable, releases the lease so that the next writer need
// not wait, and ends PostgreSQL. If ctx ends first, running statements are ended too, and Close returns an error. With Strict, nothing
// acknowledged is lost then; with Interval and Sleep, whatever was not yet durable is lost. The next writer may then have to wait until the
// lease expires. A second Close does nothing.
func (db *DB) Close(ctx context.Context) error {
	if db.closed.Swap(true) {
		return nil
	}
	var errs []error
	db.mu.Lock()
	if db.sql != nil {
		errs = append(errs, db.sql.Close())
	}
	db.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if db.pool != nil {
			db.pool.Close()
		}
	}()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	if db.keeper != nil {
		if err := db.keeper.Close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close the database: %w", err))
		}
	}
	if err := ctx.Err(); err != nil && len(errs) == 0 {
		select {
		case <-drained: // everything went well, just in time
		default:
			errs = append(errs, fmt.Errorf("close the database: statements that were still running were ended: %w", err))
		}
	}
	if db.runtime != nil {
		errs = append(errs, db.runtime.Close())
	}
	if db.shared != nil {
		db.shared.release()
	}
	if db.store != nil {
		errs = append(errs, db.store.Close())
	}
	return errors.Join(errs...)
}

var _ pgconn.DialFunc = (*DB)(nil).Dial
