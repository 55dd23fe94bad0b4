// Package engine is the protocol in order and nothing else: it opens a database from the bucket, runs statements, makes
// them durable before it acknowledges them, and closes.
//
//	e, err := engine.Open(ctx, engine.Options{Runtime: rt, Store: prefix, Create: true})
//	err = e.Exec(ctx, messages, client)      // wire messages in, answers out, durable before the answer leaves
//	rows, err := e.Query(ctx, "SELECT 1")    // for the host's own statements
//	err = e.Close(ctx)                       // commits what is not yet durable
//
// How a commit becomes durable is a mode. There is one so far:
//
//	snapshot   every commit uploads the whole data directory as a layer and swaps the manifest to it. Crude, and the
//	           baseline that everything else is measured against.
//
// What an opening does in this mode:
//
//	manifest ──► claim (compare and swap, epoch+1) ──► layer ──► files in memory ──► PostgreSQL recovers ──► serves
//
// The claim comes before the restore: what a predecessor committed until then is in the manifest that the swap
// replaced; what it tries afterwards fails, because it no longer is the manifest's writer.
//
// Survives: a crash at any point (the manifest names the last complete layer), a lost reply, a rival writer (the older
// one is fenced). Once a commit is fenced or its outcome is unknown, the local PostgreSQL may hold what the bucket
// lacks: the engine is poisoned, serves nothing more, and has to be opened again.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// Errors of an engine.
var (
	// ErrNoDatabase: there is no database under this prefix. Create one (Options.Create), or check the prefix.
	ErrNoDatabase = errors.New("no database here")
	// ErrFenced: another writer has taken the database over. Open it again if wanted; what was acknowledged is safe.
	ErrFenced = manifest.ErrFenced
	// ErrUnknown: the outcome of a commit is not known. The client must find out by reading; the engine is poisoned.
	ErrUnknown = store.ErrUnknown
	// ErrPoisoned: an earlier commit was fenced, unknown or failed, or PostgreSQL ended. Open the database again.
	ErrPoisoned = errors.New("the engine must be opened again")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("the engine is closed")
	// ErrVersion: the database belongs to another major version of PostgreSQL, or was written by a newer version of
	// this program. Use the one that wrote it.
	ErrVersion = errors.New("made by another version")
)

// Mode says how commits become durable.
type Mode string

// ModeSnapshot uploads the whole data directory at each commit.
const ModeSnapshot Mode = "snapshot"

// Options of Open. Runtime and Store are required.
type Options struct {
	Runtime *pglite.Runtime
	// Store holds the database: a view of one prefix, which belongs to it alone.
	Store store.Store
	// Create makes the database if there is none.
	Create bool
	// Mode of commits; empty: ModeSnapshot.
	Mode Mode
	// Writer names this process, for people who read the manifest.
	Writer string
	// MaxBytes bounds the data directory; beyond it PostgreSQL reports a full disk (53100). Zero: no bound.
	MaxBytes int64
	// MemoryLimit, Settings and StatementTimeout are the instance's; see pglite.InstanceOptions.
	MemoryLimit      int64
	Settings         map[string]string
	StatementTimeout time.Duration

	Clock  clock.Clock  // nil: the system's
	Hook   point.Hook   // nil: none
	Logger *slog.Logger // nil: dropped
}

// OpenStats says what an opening did and how long it took.
type OpenStats struct {
	Created    bool // the database did not exist
	Manifest   time.Duration
	Claim      time.Duration
	Restore    time.Duration // all of the layer: download, decompress, install
	Download   time.Duration // summed over the goroutines that were at it
	Decompress time.Duration // likewise
	Start      time.Duration // PostgreSQL: start and recovery
	Wall       time.Duration
	RawBytes   int64 // of the layer
	Stored     int64
}

// Engine is an open database. Its methods may be called from any goroutine; statements take turns.
type Engine struct {
	o       Options
	turn    chan struct{} // holds one token: whoever has it owns the instance
	in      *pglite.Instance
	commits committer
	opened  OpenStats

	logBytes atomic.Int64 // written to pg_wal since the opening

	// Under the turn:
	dirty  bool // something was synced that is not durable yet
	last   CommitStats
	poison error // why the engine serves nothing any more
	closed bool
}

// committer makes what PostgreSQL has written durable.
type committer interface {
	// commit makes everything that the instance has written durable. ErrFenced and ErrUnknown as above.
	commit(ctx context.Context, in *pglite.Instance) (CommitStats, error)
}

// CommitStats says what a commit did. Times are zero where a step was not needed.
type CommitStats struct {
	Checkpoint  time.Duration
	Clone       time.Duration // of the files, on the live instance: all that statements wait for
	Compress    time.Duration // summed over the goroutines that were at it
	Upload      time.Duration // likewise
	Layer       time.Duration // compressing and uploading, by the clock
	ManifestCAS time.Duration
	Wall        time.Duration
	RawBytes    int64
	StoredBytes int64
}

func (o *Options) fill() error {
	switch {
	case o.Runtime == nil:
		return errors.New("open a database: no runtime given")
	case o.Store == nil:
		return errors.New("open a database: no store given")
	case o.Mode == "":
		o.Mode = ModeSnapshot
	case o.Mode != ModeSnapshot:
		return fmt.Errorf("open a database: there is no commit mode %q; use %q", o.Mode, ModeSnapshot)
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Writer == "" {
		o.Writer = "writer"
	}
	o.Writer += "/" + store.NewWriteID() // unique, so that a writer recognises its own manifest
	return nil
}

// Opened says how the opening went.
func (e *Engine) Opened() OpenStats { return e.opened }

// take makes the caller the owner of the instance.
func (e *Engine) take(ctx context.Context) error {
	select {
	case <-e.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case e.closed:
		e.give()
		return ErrClosed
	case e.poison != nil:
		defer e.give()
		return fmt.Errorf("%w: %w", ErrPoisoned, e.poison)
	}
	return nil
}

func (e *Engine) give() { e.turn <- struct{}{} }

// Exec runs frontend messages and writes PostgreSQL's answers to w once everything they tell of is durable. It is
// atomic for the client: no other client's messages come in between. Errors: those of pglite.Instance.Exec,
// ErrFenced, ErrUnknown, ErrPoisoned, ErrClosed.
func (e *Engine) Exec(ctx context.Context, messages []byte, w io.Writer) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	return e.exec(ctx, messages, w)
}

// Query runs SQL by the simple protocol and returns the results as text, durable like Exec's. A SQL error is a
// *pgconn.PgError.
func (e *Engine) Query(ctx context.Context, sql string) ([]pglite.Result, error) {
	if err := e.take(ctx); err != nil {
		return nil, err
	}
	defer e.give()
	return e.query(ctx, sql)
}

// Commit makes everything durable that PostgreSQL has written, also within an open transaction, of which a restore
// then shows nothing. Where nothing was written since the last commit it does nothing, unless force is set.
func (e *Engine) Commit(ctx context.Context, force bool) (CommitStats, error) {
	if err := e.take(ctx); err != nil {
		return CommitStats{}, err
	}
	defer e.give()
	if !e.dirty && !force {
		return CommitStats{}, nil
	}
	return e.commit(ctx)
}

// Cancel interrupts the statement that runs, if one does: it answers with SQLSTATE 57014.
func (e *Engine) Cancel() { e.in.Cancel() }

// Close commits what is not durable and ends the instance. After an error of the commit the instance has ended too.
func (e *Engine) Close(ctx context.Context) error {
	if err := e.take(ctx); err != nil {
		if errors.Is(err, ErrClosed) || errors.Is(err, ErrPoisoned) {
			return nil
		}
		return err
	}
	defer e.give()
	var err error
	if e.dirty {
		_, err = e.commit(ctx)
	}
	e.closed = true
	e.in.Kill() // nothing is lost: what is durable is in the bucket
	return err
}

// Abandon ends the instance as a crash would: nothing more is committed.
func (e *Engine) Abandon() {
	e.in.Kill()
	<-e.turn
	e.closed = true
	e.give()
}

// fail poisons the engine.
func (e *Engine) fail(err error) error {
	if e.poison == nil {
		e.poison = err
		e.in.Kill()
	}
	return err
}

// watch marks the engine dirty when PostgreSQL syncs a file: at each commit it syncs the log once, before the
// answer leaves.
func (e *Engine) watch(data *memfs.FS) {
	data.SetHooks(memfs.Hooks{
		Sync: func(string, bool) { e.dirty = true },
		Write: func(name string, _ int64, p []byte) {
			if strings.HasPrefix(name, "/pg_wal/") {
				e.logBytes.Add(int64(len(p)))
			}
		},
	})
}

// LogBytes is how much PostgreSQL has written to its log since the opening. It may be called while a statement runs.
func (e *Engine) LogBytes() int64 { return e.logBytes.Load() }

// LastCommit says what the last commit did; zero if there was none.
func (e *Engine) LastCommit() CommitStats {
	<-e.turn
	defer e.give()
	return e.last
}
