package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// Latest names the state after the last record that there is when it is read.
func Latest() At { return takeover.Latest() }

// Restored is a database as it was after some record, in files: to be copied elsewhere.
type Restored struct {
	// Files are the data directory. PostgreSQL recovers when it starts on them, as after a crash.
	Files    *memfs.FS
	Manifest manifest.Manifest // as it was read
	Seq      uint64            // of the last record in the files
}

// Restore restores the files of a state of a database without starting PostgreSQL. As with OpenAt, nobody is fenced, no
// lease is taken, nothing is written. clk may be nil: the system's. Errors: those of OpenAt, less PostgreSQL's.
func Restore(ctx context.Context, st store.Store, at At, clk clock.Clock) (Restored, error) {
	if clk == nil {
		clk = clock.System()
	}
	e := newEngine(Options{Store: st, Clock: clk, Logger: slog.New(slog.DiscardHandler)})
	p, files, err := e.restorePast(ctx, at)
	if err == nil {
		_, err = e.recoverable(files, p.Records)
	}
	if err == nil {
		err = dropSignals(files)
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore the files as of %s: %w", at, err)
	}
	return Restored{Files: files, Manifest: p.Manifest, Seq: p.Seq}, nil
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
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("%w: it holds %s", ErrNotEmpty, a.Key)
	}
	if err := takeover.CheckPlace(ctx, st); err != nil {
		return "", err
	}
	o, err := layerOptions(from.Files, false)
	if err != nil {
		return "", err
	}
	o.Clock = clk
	id = store.NewWriteID()
	start := wal.Start(id)
	key := base.Key(start.Epoch, start.Seq) + "-" + id // rivals write to other names
	_, stats, err := base.Write(ctx, st, key, from.Files, o)
	if err != nil {
		return "", err
	}
	_, _, err = manifest.Update(ctx, st, manifest.Options{Writer: writer, Create: true, Clock: clk}, func(m *manifest.Manifest) error {
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
