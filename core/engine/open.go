package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
)

// Open opens the database for writing: it claims it, restores it and starts PostgreSQL. The previous writer, if one
// still runs, is fenced. Errors: ErrNoDatabase, ErrLocked, ErrVersion, ErrMode, ErrFenced (rivals kept claiming it),
// manifest.ErrCorrupt, wal.ErrCorrupt, base.ErrCorrupt, those of the store, of PostgreSQL's start and of the hook. On an
// error nothing is left running, and nothing in the bucket but lease and claim has changed.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	e := newEngine(o)
	if err := e.openTempDisk(); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	defer e.prepare(ctx)()
	began := o.Clock.Monotonic()
	open := e.openLog
	if o.Mode == ModeSnapshot {
		open = e.openSnapshot
	}
	if err := open(ctx); err != nil {
		e.temp.close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := e.setPassword(ctx); err != nil {
		return nil, fmt.Errorf("open the database: %w", errors.Join(err, e.Close(context.WithoutCancel(ctx))))
	}
	e.opened.Wall, e.opened.LeftOut = e.since(began), e.server.cluster.LeftOut()
	return e, nil
}

func (e *Engine) since(began time.Duration) time.Duration { return e.o.Clock.Monotonic() - began }

// prepare has PostgreSQL's start prepared while lease, log and layer are on their way. The function that it returns waits for the end of that,
// which is behind anyway.
func (e *Engine) prepare(ctx context.Context) (wait func()) {
	inner, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if rt, err := e.load(inner); err == nil {
			o := e.o.cluster(nil)
			o.Standby = e.follower != nil
			_ = rt.Prepare(inner, o) // the start by itself tells what is wrong
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// runtime is the loaded PostgreSQL, which may have to be waited for.
func (e *Engine) runtime(ctx context.Context) (*pglite.Runtime, error) {
	at := e.o.Clock.Monotonic()
	rt, err := e.load(ctx)
	if err == nil && e.o.Load != nil {
		e.opened.Runtime += e.since(at)
	}
	return rt, err
}

// load asks for the runtime, once for all who want it.
func (e *Engine) load(ctx context.Context) (*pglite.Runtime, error) {
	e.loading.Lock()
	defer e.loading.Unlock()
	if e.o.Runtime == nil {
		rt, err := e.o.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("load PostgreSQL: %w", err)
		}
		e.o.Runtime = rt
	}
	return e.o.Runtime, nil
}

// beforeCreate is asked before a database is made.
func (e *Engine) beforeCreate(ctx context.Context) (pgliteSHA256 string, err error) {
	var asked errgroup.Group
	if e.o.BeforeCreate != nil {
		asked.Go(func() error { return e.o.BeforeCreate(ctx) })
	}
	rt, err := e.runtime(ctx)
	if err = errors.Join(asked.Wait(), err); err != nil {
		return "", err
	}
	return rt.SHA256(), nil
}

// checkVersion refuses a database of another major version of PostgreSQL.
func (o *Options) checkVersion(m manifest.Manifest) error {
	theirs, _, _ := strings.Cut(m.Postgres, ".")
	ours, _, _ := strings.Cut(pglite.PostgresVersion, ".")
	if theirs != ours {
		return fmt.Errorf("%w: database %s belongs to PostgreSQL %s, this is %s", ErrVersion, m.DatabaseID, m.Postgres, pglite.PostgresVersion)
	}
	return nil
}

// readLayer restores the newest layer that a manifest names.
func (e *Engine) readLayer(ctx context.Context, m manifest.Manifest) (restored, error) {
	layer := m.Layers[len(m.Layers)-1]
	r, err := e.ahead.take(ctx, layer.Key)
	if r.data == nil && err == nil {
		r, err = e.fetchLayer(ctx, layer)
	}
	if err != nil {
		return r, fmt.Errorf("restore layer %s: %w", layer.Key, err)
	}
	e.opened.Restore, e.opened.Download, e.opened.Decompress = r.stats.Wall, r.stats.Download, r.stats.Decompress
	e.opened.RawBytes, e.opened.Stored = r.stats.RawBytes, r.stats.StoredBytes
	return r, e.o.Hook.Fire(ctx, point.RestoreAfterBase)
}

// blame names the server parameters that a start which failed was given: PostgreSQL tells of a file that is not there, and not
// which of them asked for it.
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

// startNew starts a new database: from the files that initdb makes. prepare gets them before PostgreSQL writes to them.
func (e *Engine) startNew(ctx context.Context, prepare func(*memfs.FS)) error {
	rt, err := e.runtime(ctx)
	if err != nil {
		return err
	}
	data, err := rt.Template(ctx, memfs.Options{Now: e.o.Clock.Now})
	if err != nil {
		return err
	}
	prepare(data)
	return e.startOn(ctx, data, nil)
}
