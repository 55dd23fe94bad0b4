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

// Latest names the state after the last record that there is when it is read.
func Latest() RecoveryTarget { return takeover.Latest() }

// Restored is a database as it was after some record, in files: to be copied elsewhere.
type Restored struct {
	// Files are the data directory. PostgreSQL recovers when it starts on them, as after a crash.
	Files    *memfs.FS
	Manifest manifest.Manifest // as it was read
	Seq      uint64            // of the last record in the files

	taken taken // the layer that they were restored from
}

// Restore restores the files of a state of a database without starting PostgreSQL. As with OpenAt, nobody is fenced, no
// lease is taken, nothing is written. clk may be nil: the system's. Errors: those of OpenAt, less PostgreSQL's.
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

// ErrNotEmpty: there is something under the prefix that a new database was to get. ErrNested: the prefix lies inside another
// database's. Name another one.
var (
	ErrNotEmpty = takeover.ErrNotEmpty
	ErrNested   = takeover.ErrNested
)

// NewDatabase makes a database of its own from restored files, under an empty prefix: its own id, one full layer, an empty
// log; it keeps earlier states for as long as the one it came from. It returns the id. Of several who do this to one prefix at a time, or open a new database there, one wins. Errors:
// ErrNested, ErrNotEmpty (nothing there was changed, but for a layer that nobody names: the next collection deletes it), those of the
// store.
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

// newDatabase is NewDatabase with more to say of how the layer is written.
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

// mayBegin refuses a prefix that is not empty. Segments that a copy has left which was given up are in nobody's way: without a layer nothing
// needs them, each copy writes to names of its own, and the first collection of the database deletes them.
func mayBegin(ctx context.Context, st store.Store) error {
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return err
		}
		if !takeover.Unfinished(a.Key) {
			return fmt.Errorf("%w: it holds %s", ErrNotEmpty, a.Key)
		}
	}
	return takeover.CheckAbove(ctx, st)
}

// BranchOptions of Branch. The zero value is a copy of what is durable now.
type BranchOptions struct {
	At     RecoveryTarget // which state
	Writer string         // who does it, for people who read the manifest
	Clock  clock.Clock
	Hook   point.Hook // nil: none
	// Progress hears how many of the objects that hold pages were copied, from several goroutines. Nil: nobody.
	Progress func(done, total int)
}

// Branched says what a branch was made of.
type Branched struct {
	ID   string            // of the new database
	From manifest.Manifest // as it was read
	Seq  uint64            // of the last record that is in it
}

const (
	// branchTries bounds how often a branch begins anew, because what it copies was collected meanwhile.
	branchTries = 3
	// branchCache is what decides how a branch reads: a layer of up to half of it as a whole.
	branchCache = 2 * eagerBytes
)

// Branch makes a database of its own of a state of another one, as NewDatabase does of what Restore restores. But pages are not brought here:
// the segments that hold them are copied within the store's service, where it can do that (store.Copier), else one after the other through
// this process; what is read are the index, the files outside of tables and indexes, and the log. What is damaged is copied as it is.
// Until the manifest stands, which comes last, the prefix holds no database, and none can be made there but by a branch.
//
// The branch names nothing of its parent's: a collection knows the layers of its own manifest only, so nobody could delete what two need.
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
		w.Rewrite = "" // nothing has changed it but the log
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

// copyObject copies one object, again and again while its outcome is not known.
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
