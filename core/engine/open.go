package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// maxClaims bounds how often an opening tries to become the writer against rivals that open at the same time.
const maxClaims = 8

// Open opens the database for writing: it claims it, restores it and starts PostgreSQL. The previous writer, if one
// still runs, is fenced. Errors: ErrNoDatabase, ErrVersion, ErrFenced (rivals kept claiming it), manifest.ErrCorrupt,
// base.ErrCorrupt, those of the store, of PostgreSQL's start and of the hook. On an error nothing is left running, and
// nothing in the bucket but the claim has changed.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	e := &Engine{o: o, turn: make(chan struct{}, 1)}
	began := o.Clock.Monotonic()
	m, err := e.claim(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := e.start(ctx, m); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	e.opened.Wall = e.since(began)
	e.give()
	return e, nil
}

func (e *Engine) since(began time.Duration) time.Duration { return e.o.Clock.Monotonic() - began }

// claim makes this engine the manifest's writer, under the next epoch, and returns the manifest.
func (e *Engine) claim(ctx context.Context) (manifest.Manifest, error) {
	for range maxClaims {
		at := e.o.Clock.Monotonic()
		seen, _, err := manifest.Load(ctx, e.o.Store)
		switch {
		case errors.Is(err, store.ErrNotFound) && !e.o.Create:
			return seen, fmt.Errorf("%w: %w", ErrNoDatabase, err)
		case errors.Is(err, store.ErrNotFound):
			e.opened.Created = true
		case errors.Is(err, manifest.ErrNewer):
			return seen, fmt.Errorf("%w: %w", ErrVersion, err)
		case err != nil:
			return seen, err
		default:
			e.opened.Created = false
			if err := e.o.checkVersion(seen); err != nil {
				return seen, err
			}
		}
		e.opened.Manifest = e.since(at)
		at = e.o.Clock.Monotonic()
		m, err := e.claimFrom(ctx, seen)
		e.opened.Claim = e.since(at)
		if errors.Is(err, errRival) || errors.Is(err, manifest.ErrFenced) {
			continue
		}
		if err == nil {
			err = e.o.Hook.Fire(ctx, point.RestoreAfterManifest)
		}
		return m, err
	}
	return manifest.Manifest{}, fmt.Errorf("%w: %d rivals claimed it meanwhile; try again", ErrFenced, maxClaims)
}

// errRival means that somebody else has claimed the database since the manifest was read.
var errRival = errors.New("claimed by a rival")

// claimFrom swaps the manifest from seen to one of the next epoch with this writer.
func (e *Engine) claimFrom(ctx context.Context, seen manifest.Manifest) (manifest.Manifest, error) {
	o := manifest.Options{
		Epoch: seen.Epoch + 1, Writer: e.o.Writer, Create: e.o.Create, Hook: e.o.Hook, Clock: e.o.Clock,
	}
	m, _, err := manifest.Update(ctx, e.o.Store, o, func(m *manifest.Manifest) error {
		if m.Epoch != seen.Epoch && m.Writer != e.o.Writer {
			return errRival
		}
		if m.DatabaseID == "" {
			m.DatabaseID = store.NewWriteID()
			m.Postgres, m.PGliteSHA256 = pglite.PostgresVersion, e.o.Runtime.SHA256()
		}
		return nil
	})
	return m, err
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

// start restores the layer that the manifest names and starts PostgreSQL on it; without a layer the database is new.
func (e *Engine) start(ctx context.Context, m manifest.Manifest) error {
	s := &snapshots{o: &e.o, epoch: m.Epoch}
	e.commits = s
	if len(m.Layers) == 0 {
		return e.startNew(ctx)
	}
	layer := m.Layers[len(m.Layers)-1]
	data := memfs.New(memfs.Options{Now: e.o.Clock.Now})
	at := e.o.Clock.Monotonic()
	stats, err := base.Read(ctx, e.o.Store, layer.Key, data, base.ReadOptions{Clock: e.o.Clock})
	if err != nil {
		return fmt.Errorf("restore layer %s: %w", layer.Key, err)
	}
	e.opened.Restore, e.opened.Download, e.opened.Decompress = e.since(at), stats.Download, stats.Decompress
	e.opened.RawBytes, e.opened.Stored = stats.RawBytes, stats.StoredBytes
	if err := e.o.Hook.Fire(ctx, point.RestoreAfterBase); err != nil {
		return err
	}
	s.seq, s.commits = layer.Seq, m.Commits
	s.kept = []keptLayer{{layer.Key, stats.Parts}}
	at = e.o.Clock.Monotonic()
	e.in, err = e.o.Runtime.Start(ctx, e.o.instance(data))
	e.opened.Start = e.since(at)
	if err != nil {
		return err
	}
	e.watch(e.in.Data())
	return nil
}

// startNew starts a new database: from the image of the template, or where server parameters were given, which an
// image has fixed, from its files.
func (e *Engine) startNew(ctx context.Context) (err error) {
	at := e.o.Clock.Monotonic()
	defer func() { e.opened.Start = e.since(at) }()
	if len(e.o.Settings) == 0 {
		img, err := e.o.Runtime.TemplateImage(ctx)
		if err != nil {
			return err
		}
		at = e.o.Clock.Monotonic()
		if e.in, err = e.o.Runtime.StartImage(ctx, img, e.o.instance(nil)); err != nil {
			return err
		}
	} else {
		data, err := e.o.Runtime.Template(ctx, memfs.Options{Now: e.o.Clock.Now})
		if err != nil {
			return err
		}
		if e.in, err = e.o.Runtime.Start(ctx, e.o.instance(data)); err != nil {
			return err
		}
	}
	e.watch(e.in.Data())
	return nil
}

// instance are the options of the instance on these files.
func (o *Options) instance(data *memfs.FS) pglite.InstanceOptions {
	return pglite.InstanceOptions{
		Data: data, DataLimit: o.MaxBytes, MemoryLimit: o.MemoryLimit, Settings: o.Settings, StatementTimeout: o.StatementTimeout, Clock: o.Clock,
		Log: func(line string) { o.Logger.Info("postgres", "line", line) },
	}
}
