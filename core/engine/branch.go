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

// Restored is a database as it was after some record, as files in memory, to be copied elsewhere.
type Restored struct {
	// Files are the data directory. When PostgreSQL starts on them, it recovers as after a crash.
	Files    *memfs.FS
	Manifest manifest.Manifest // as it was read
	Seq      uint64            // of the last record in the files

	taken layerMoment // the layer that they were restored from
}

// Restore restores the files of a state of a database without starting PostgreSQL. As with OpenAt, nobody is fenced, no
// lease is taken, nothing is written. clk may be nil: the system's. Errors: those of OpenAt, except PostgreSQL's.
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

// ErrNotEmpty: the prefix for a new database already holds something. ErrNested: the prefix lies inside another database's.
// Name another one.
var (
	ErrNotEmpty = takeover.ErrNotEmpty
	ErrNested   = takeover.ErrNested
)

// NewDatabase makes an independent database from restored files, under an empty prefix: with an id of its own, one full layer and an
// empty log. It keeps earlier states for as long as the original. It returns the id. If several processes do this at one prefix at the
// same time, or open a new database there, one wins. clk may be nil: the system's. Errors: ErrNested, ErrNotEmpty (nothing there was
// changed but for a layer that nobody names: the next collection deletes it), those of the store.
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

// newDatabase is NewDatabase; how may change the options with which the layer is written.
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
	key := base.Key(start.Epoch, start.Seq) + "-" + id // rivals write to other names
	_, stats, err := base.Write(ctx, st, key, from.Files, o)
	if err != nil {
		return "", err
	}
	_, _, err = manifest.Update(ctx, st, manifest.Options{Writer: writer, Create: true, Clock: clk, Hook: o.Hook}, func(m *manifest.Manifest) error {
		if m.DatabaseID != "" && m.DatabaseID != id {
			return fmt.Errorf("%w: database %s was made there meanwhile", ErrNotEmpty, m.DatabaseID)
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
	if errors.Is(err, manifest.ErrFenced) { // somebody has made a database there and opened it
		err = fmt.Errorf("%w: %w", ErrNotEmpty, err)
	}
	return id, err
}

// mayBegin refuses a prefix that is not empty. Segments left by an interrupted copy are no obstacle: without a layer nothing needs them,
// every copy uses names of its own, and the first collection of the database deletes them.
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

// occupied says what a prefix that is not empty holds, key among it, and what to do.
func occupied(ctx context.Context, st store.Store, key string) error {
	_, err := st.Get(ctx, manifest.Key)
	o, layer := base.ParseObject(key)
	switch {
	case err == nil:
		return fmt.Errorf("%w: it holds a database: name an empty one", ErrNotEmpty)
	case !errors.Is(err, store.ErrNotFound):
		return err
	case layer && o.ID != "":
		return fmt.Errorf("%w: it holds %s, of a copy that only lacks its manifest: pgserve adopt goes on from it, or name an empty one", ErrNotEmpty, key)
	}
	return fmt.Errorf("%w: it holds %s: name an empty one", ErrNotEmpty, key)
}

// BranchOptions of Branch. The zero value copies what is durable now.
type BranchOptions struct {
	At     RecoveryTarget // which state
	Writer string         // who makes the branch, for people who read the manifest
	Clock  clock.Clock
	Hook   point.Hook // nil: none
	// Progress is told how many of the objects that hold pages have been copied, by several goroutines. Nil: it is not reported.
	Progress func(done, total int)
}

// Branched describes a new branch and its source.
type Branched struct {
	ID   string            // of the new database
	From manifest.Manifest // as it was read
	Seq  uint64            // of the last record that the branch holds
}

const (
	// branchTries bounds how often a branch starts again because what it was copying was collected meanwhile.
	branchTries = 3
	// branchCache is the Cache of a branch's reading: a layer of up to half of it is read as a whole.
	branchCache = 2 * eagerBytes
)

// Branch makes an independent database, under the prefix to, from a state of the one under from, as Restore and NewDatabase together would.
// But pages are not read: the segments that hold them are copied within the store's service if it can do that (store.Copier), else one
// after the other through this process. Only the index, the files outside of tables and indexes, and the log are read. Damaged segments
// are copied as they are. The manifest is written last; until then the prefix holds no database, and only a branch can make one there.
//
// The branch names no object of its parent's: a collection knows only the layers of its own manifest, so if two databases needed an
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
		w.Rewrite = "" // no file was changed except by replaying the log
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

// copyObject copies one object, and repeats that while the outcome is unknown.
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
