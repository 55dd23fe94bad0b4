package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// Latest names the newest state: after the last record in the log at the time of reading.
func Latest() RecoveryTarget { return takeover.Latest() }

// Restored is a database as of some record, as files in memory, ready to be copied elsewhere.
type Restored struct {
	// Files is the data directory. When PostgreSQL starts on it, it recovers as after a crash.
	Files    *memfs.FS
	Manifest manifest.Manifest // as it was read
	Seq      uint64            // number of the last record in the files

	taken layerMoment // the layer they were restored from
}

// Restore restores the files of a database as of some state without starting PostgreSQL. Like OpenAt, it fences no writer, takes no lease
// and writes nothing. clk may be nil: the system clock. Errors: those of OpenAt, except PostgreSQL's.
func Restore(ctx context.Context, st store.Store, at RecoveryTarget, clk clock.Clock) (Restored, error) {
	if clk == nil {
		clk = clock.System()
	}
	return restoreWith(ctx, newOpening(&Options{Store: st, Clock: clk, Logger: slog.New(slog.DiscardHandler)}), at)
}

func restoreWith(ctx context.Context, op *opening, at RecoveryTarget) (Restored, error) {
	p, r, err := op.restoreTo(ctx, at)
	if err == nil {
		_, err = recoverable(r.data, p.Records, op.o.Logger)
	}
	if err == nil {
		err = errors.Join(dropSignals(r.data), dropTemporary(r.data))
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore the files as of %s: %w", at, err)
	}
	return Restored{Files: r.data, Manifest: p.Manifest, Seq: p.Seq, taken: r.taken}, nil
}

// ErrNotEmpty: the prefix for a new database already holds something. ErrNested: the prefix lies inside another database's. In both cases
// name another one.
var (
	ErrNotEmpty = takeover.ErrNotEmpty
	ErrNested   = takeover.ErrNested
)

// NewDatabase makes an independent database from restored files, under an empty prefix: with an id of its own, one full layer and an empty
// log. It keeps earlier states for as long as the original does. It returns the id. If several processes do this at the same prefix
// concurrently, or open a new database there, one wins. clk may be nil: the system clock. Errors: ErrNested, ErrNotEmpty (nothing there
// changed, except for a layer that no manifest names: the next collection deletes it), those of the store.
func NewDatabase(ctx context.Context, st store.Store, from Restored, writer string, clk clock.Clock) (id string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make a database from restored files: %w", err)
		}
	}()
	if clk == nil {
		clk = clock.System()
	}
	return newDatabase(ctx, st, from, writer, clk, func(*base.WriteOptions) {})
}

// newDatabase is NewDatabase; how may change the options the layer is written with.
func newDatabase(ctx context.Context, st store.Store, from Restored, writer string, clk clock.Clock, how func(*base.WriteOptions)) (id string, err error) {
	if err := mayBegin(ctx, st); err != nil {
		return "", err
	}
	o, err := layerOptions(from.Files, false)
	if err != nil {
		return "", err
	}
	o.Clock = clk
	how(&o)
	id = store.NewWriteID()
	o.Database = id
	start := wal.Start(id)
	key := base.Key(start.Epoch, start.Seq) + "-" + id // rivals write under other names
	_, stats, err := base.Write(ctx, st, key, from.Files, o)
	if err != nil {
		return "", err
	}
	_, _, err = manifest.Update(ctx, st, manifest.Options{Writer: writer, Create: true, Clock: clk, Hook: o.Hook}, func(m *manifest.Manifest) error {
		if m.DatabaseID != "" && m.DatabaseID != id {
			return fmt.Errorf("%w: database %s has been created there in the meantime", ErrNotEmpty, m.DatabaseID)
		}
		m.DatabaseID, m.Postgres, m.PGliteSHA256, m.Commits = id, from.Manifest.Postgres, from.Manifest.PGliteSHA256, from.Manifest.Commits
		if kept, said := from.Manifest.Retain(); said {
			m.Keep(kept)
		}
		m.WalStart = start.Seq + 1
		m.Layers = []manifest.Layer{{
			Key: key, Epoch: start.Epoch, Seq: start.Seq, Hash: hex.EncodeToString(start.Hash[:]),
			RawBytes: stats.RawBytes, StoredBytes: stats.StoredBytes, Segments: stats.Segments, Taken: clk.Now(),
		}}
		return nil
	})
	if errors.Is(err, manifest.ErrFenced) { // another process has made a database there and opened it
		err = fmt.Errorf("%w: %w", ErrNotEmpty, err)
	}
	return id, err
}

// mayBegin rejects a prefix that is not empty. Segments left by an interrupted copy do not count: without a layer nothing needs them, every
// copy uses names of its own, and the database's first collection deletes them.
func mayBegin(ctx context.Context, st store.Store) error {
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return err
		}
		if !takeover.Unfinished(a.Key) {
			return occupied(ctx, st, a.Key)
		}
	}
	return takeover.CheckAbove(ctx, st)
}

// occupied says what a non-empty prefix holds (among other objects, key), and what to do.
func occupied(ctx context.Context, st store.Store, key string) error {
	_, err := st.Get(ctx, manifest.Key)
	o, layer := base.ParseObject(key)
	switch {
	case err == nil:
		return fmt.Errorf("%w: it contains a database: choose an empty one", ErrNotEmpty)
	case !errors.Is(err, store.ErrNotFound):
		return err
	case layer && o.ID != "":
		return fmt.Errorf("%w: it contains %s, from a copy that lacks only its manifest: run pgserve adopt to continue from it, or choose an empty one", ErrNotEmpty, key)
	}
	return fmt.Errorf("%w: it contains %s: choose an empty one", ErrNotEmpty, key)
}

// BranchOptions are options of Branch. The zero value copies what is durable now.
type BranchOptions struct {
	At     RecoveryTarget // the state to copy
	Writer string         // who makes the branch, for people who read the manifest
	Clock  clock.Clock
	Hook   point.Hook // nil: none
	// Progress is called, by several goroutines, with how many of the objects that hold pages have been copied. Nil: no reports.
	Progress func(done, total int)
}

// Branched describes a new branch and its source.
type Branched struct {
	ID   string            // of the new database
	From manifest.Manifest // as it was read
	Seq  uint64            // number of the branch's last record
}

const (
	// branchTries bounds how often a branch starts over because a collection deleted what it was copying.
	branchTries = 3
	// branchCache is the Cache with which a branch reads: a layer of up to half that size is read whole.
	branchCache = 2 * eagerBytes
)

// Branch makes an independent database, under the prefix to, from a state of the one under from, as Restore and NewDatabase together would,
// but without reading the pages. The segments that hold them are copied within the store's service if it can do that (store.Copier),
// otherwise one after the other through this process. Only the index, the files other than tables and indexes, and the log are read.
// Damaged segments are copied as they are. The manifest is written last; until then the prefix holds no database, and only a branch can
// make one there.
//
// The branch names none of its parent's objects. A collection knows only the layers of its own manifest, so if two databases shared an
// object, no collection could tell when to delete it.
//
// Errors: those of Restore and NewDatabase.
func Branch(ctx context.Context, to, from store.Store, o BranchOptions) (b Branched, err error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.At == (RecoveryTarget{}) {
		o.At = Latest()
	}
	for range branchTries {
		b, err = branchOnce(ctx, to, from, o)
		if !errors.Is(err, store.ErrNotFound) || errors.Is(err, ErrNoDatabase) {
			break
		}
	}
	if err != nil {
		return Branched{}, fmt.Errorf("branch: %w", err)
	}
	return b, nil
}

func branchOnce(ctx context.Context, to, from store.Store, o BranchOptions) (Branched, error) {
	pages, err := base.NewPages(from, base.PagesOptions{Clock: o.Clock})
	if err != nil {
		return Branched{}, err
	}
	defer pages.Close()
	op := newOpening(&Options{Store: from, Clock: o.Clock, Cache: branchCache, Logger: slog.New(slog.DiscardHandler)})
	op.pages = pages
	r, err := restoreWith(ctx, op, o.At)
	if err != nil {
		return Branched{}, err
	}
	var done atomic.Int64
	total := r.taken.layer.Use().Segments
	id, err := newDatabase(ctx, to, r, o.Writer, o.Clock, func(w *base.WriteOptions) {
		w.Share, w.Since, w.Pages, w.Hook = r.taken.layer, r.taken.moment, pages, o.Hook
		w.Rewrite = "" // only replaying the log has changed files
		w.Copy = func(ctx context.Context, source, key string) (int64, error) {
			size, err := copyObject(ctx, to, key, from, source, o.Clock)
			if n := int(done.Add(1)); err == nil && o.Progress != nil {
				o.Progress(n, total)
			}
			return size, err
		}
	})
	return Branched{ID: id, From: r.Manifest, Seq: r.Seq}, err
}

// copyObject copies one object, and retries while the outcome is unknown.
func copyObject(ctx context.Context, to store.Store, key string, from store.Store, source string, clk clock.Clock) (size int64, err error) {
	const tries, firstPause = 5, 100 * time.Millisecond
	id, pause := store.NewWriteID(), firstPause
	for n := 1; ; n++ {
		a, err := store.Copy(ctx, to, key, from, source, id)
		if err == nil || n == tries || !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrThrottled) {
			return a.Size, err
		}
		if err := clk.Sleep(ctx, pause); err != nil {
			return 0, err
		}
		pause *= 2
	}
}
