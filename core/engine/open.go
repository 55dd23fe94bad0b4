package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// Open opens the database for writing: it claims it, restores it and starts PostgreSQL. A previous writer that still runs is fenced. ctx
// bounds the opening only. Errors: ErrNoDatabase, ErrLocked, ErrVersion, ErrMode, ErrFenced (rivals kept claiming it), ErrRecovery,
// manifest.ErrCorrupt, wal.ErrCorrupt, base.ErrCorrupt, those of the store, of PostgreSQL's start and of the hook. After an error nothing
// is left running, and nothing in the bucket has changed except the lease and the claim.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	e := newEngine(o)
	if err := e.openTempDisk(); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	op := newOpening(&e.o)
	defer op.prepare(ctx, false)()
	began := o.Clock.Monotonic()
	open := e.openLog
	if o.Mode == ModeSnapshot {
		open = e.openSnapshot
	}
	if err := open(ctx, op); err != nil {
		e.temp.close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := e.setPassword(ctx); err != nil {
		return nil, fmt.Errorf("open the database: %w", errors.Join(err, e.Close(context.WithoutCancel(ctx))))
	}
	op.stats.Wall, op.stats.LeftOut = op.since(began), e.server.cluster.LeftOut()
	e.opened = op.stats
	return e, nil
}

// checkVersion rejects a database of another major version of PostgreSQL.
func (o *Options) checkVersion(m manifest.Manifest) error {
	theirs, _, _ := strings.Cut(m.Postgres, ".")
	ours, _, _ := strings.Cut(pglite.PostgresVersion, ".")
	if theirs != ours {
		return fmt.Errorf("%w: database %s was made by PostgreSQL %s, and this is %s", ErrVersion, m.DatabaseID, m.Postgres, pglite.PostgresVersion)
	}
	return nil
}

// blame adds the given server parameters to the error of a failed start: PostgreSQL reports a missing file, but not which parameter
// required it.
func (o *Options) blame(err error) error {
	if len(o.Settings) == 0 {
		return err
	}
	var given []string
	for _, name := range slices.Sorted(maps.Keys(o.Settings)) {
		given = append(given, name+"="+o.Settings[name])
	}
	return fmt.Errorf("PostgreSQL was given %s: %w", strings.Join(given, ", "), err)
}

// startNew starts a new database on the files that initdb makes. It calls prepare with them before PostgreSQL writes to them.
func (e *Engine) startNew(ctx context.Context, op *opening, prepare func(*memfs.FS)) error {
	rt, err := op.runtime(ctx)
	if err != nil {
		return err
	}
	data, err := rt.Template(ctx, memfs.Options{Now: e.o.Clock.Now})
	if err != nil {
		return err
	}
	prepare(data)
	return e.startOn(ctx, op, data, nil)
}
