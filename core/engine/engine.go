// Package engine is the protocol in order and nothing else: it opens a database from the bucket, runs statements, makes
// them durable before it acknowledges them, and closes.
//
//	e, err := engine.Open(ctx, engine.Options{Runtime: rt, Store: prefix, Create: true})
//	err = e.Exec(ctx, messages, client)      // wire messages in, answers out, durable before the answer leaves
//	rows, err := e.Query(ctx, "SELECT 1")    // for the host's own statements
//	err = e.Close(ctx)                       // commits what is not yet durable
//
// How a commit becomes durable is a mode:
//
//	log        the default: what PostgreSQL appends to its own log is appended to the commit log, one record for
//	           everything that committed while the last one was under way. A new layer is taken in the background when
//	           a restore would take too long.
//	snapshot   every commit uploads the whole data directory as a layer and swaps the manifest to it. Crude, and the
//	           baseline that the log is measured against.
//
// What an opening does:
//
//	log        lease ──► read the log ──► fence ──► manifest again ──► layer + records ──► PostgreSQL recovers ──► serves
//	           (the log is read, and the layer that it follows is fetched, beside the lease; what is restored is only what
//	           the manifest names after the fence)
//	snapshot   manifest ──► claim (compare and swap, epoch+1) ──► layer ──► PostgreSQL recovers ──► serves
//
// The fence, or the claim, comes before the restore: what a predecessor committed until then is in what is restored;
// what it tries afterwards fails.
//
// Survives: a crash at any point, a lost reply, a rival writer (the older one is fenced). Once a commit is fenced or its
// outcome is unknown, the local PostgreSQL may hold what the bucket lacks: the engine is poisoned, serves nothing more,
// and has to be opened again.
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
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Errors of an engine.
var (
	// ErrNoDatabase: there is no database under this prefix. Create one (Options.Create), or check the prefix.
	ErrNoDatabase = errors.New("no database here")
	// ErrLocked: another writer holds the lease; the error says who and until when (lease.LockedError). Wait, or try again.
	ErrLocked = lease.ErrLocked
	// ErrFenced: another writer has taken the database over. Open it again if wanted; what was acknowledged is safe.
	ErrFenced = errors.New("another writer has the database")
	// ErrUnknown: the outcome of a commit is not known. The client must find out by reading; the engine is poisoned.
	ErrUnknown = store.ErrUnknown
	// ErrPoisoned: an earlier commit was fenced, unknown or failed, or PostgreSQL ended. Open the database again.
	ErrPoisoned = errors.New("the engine must be opened again")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("the engine is closed")
	// ErrVersion: the database belongs to another major version of PostgreSQL, or was written by a newer version of
	// this program. Use the one that wrote it.
	ErrVersion = errors.New("made by another version")
	// ErrMode: the database has a commit log, which mode snapshot does not read. Open it in mode log.
	ErrMode = errors.New("the database has a commit log")
)

// Mode says how commits become durable.
type Mode string

// The modes.
const (
	ModeLog      Mode = "log"
	ModeSnapshot Mode = "snapshot"
)

// Durability says when an answer leaves, in mode log.
type Durability string

// The durabilities.
const (
	// Strict: when everything that it tells of is in the bucket. A crash loses nothing.
	Strict Durability = "strict"
	// Interval: at once; the log is flushed every FlushInterval, and before an answer if that much has passed. A crash
	// loses at most that much of running time.
	Interval Durability = "interval"
	// Sleep: at once; the log is flushed when nothing has run for IdleFlush, and at Close. A crash loses what came since.
	Sleep Durability = "sleep"
)

// ReadMode says, in mode log, what proves that an answer is not old: a writer that was taken over holds data that its
// successor may have changed. Commits need no such proof, for a successor's fence stops them.
type ReadMode string

// The read modes.
const (
	// ReadLease: this process's own monotonic clock. Inside the lease, less a margin of a tenth, it answers without asking;
	// one that has run out is renewed first. No request; an answer is old only if a clock runs wrong by more than the margin,
	// or the process is stopped between its look at the clock and the answer.
	ReadLease ReadMode = "lease"
	// ReadStrict: the bucket, after the statement has run and before its answer leaves. The name where a successor's fence
	// would stand is asked for; that it is absent proves that nobody had taken over. One GET for each answer (38 ms in the same
	// region; beside the record, if the answer waits for one); no clock is believed. A bucket that cannot be asked costs
	// the answer, not the engine.
	ReadStrict ReadMode = "strict"
)

// Defaults of Options.
const (
	DefaultFlushInterval = 200 * time.Millisecond
	DefaultIdleFlush     = time.Second
)

// Options of Open. Store, and Runtime or Load, are required.
type Options struct {
	Runtime *pglite.Runtime
	// Load gives the runtime where it is still being loaded: it is asked for when PostgreSQL is to start, while lease, log
	// and layer are on their way. It may be asked again after an error.
	Load func(context.Context) (*pglite.Runtime, error)
	// Store holds the database: a view of one prefix, which belongs to it alone.
	Store store.Store
	// Create makes the database if there is none; BeforeCreate, if it is not nil, is asked before, and its error is Open's.
	Create       bool
	BeforeCreate func(context.Context) error
	// Mode of commits; empty: ModeLog.
	Mode Mode
	// Durability in mode log; empty: Strict. FlushInterval and IdleFlush belong to the other two; zero: the defaults.
	Durability               Durability
	FlushInterval, IdleFlush time.Duration
	// ReadMode, in mode log; empty: ReadLease.
	ReadMode ReadMode
	// LeaseTTL is how long the writer may be silent before another one may take over; zero: the lease's default.
	// AcquireTimeout is how long an opening waits for another writer's lease; zero: not at all.
	LeaseTTL, AcquireTimeout time.Duration
	// CommitDeadline is how long one append may stay undecided before the engine gives up (ErrUnknown); zero: the log's.
	CommitDeadline time.Duration
	// RestoreBudget is what replaying the log may add to a restore before a new layer is taken: then commits wait for the
	// layer. Zero: about as much as the layer itself takes, and up to four times of that while writes do not pause, so
	// that no more than an eighth of the time is spent on layers. Below zero: no layer is taken.
	RestoreBudget time.Duration
	// RecordTime is what a restore is reckoned to take for each record; zero: by how long appends take, and no more than
	// Cloud Storage needs.
	RecordTime time.Duration
	// Retain is how far back, in mode log, layers and records are kept, so that an earlier state can be restored (OpenAt), of
	// a database that is made, or of which that has never been said. Otherwise the manifest says it (manifest.SetRetain), and
	// another time given here changes nothing. Zero: nothing is said.
	Retain time.Duration
	// Writer names this process, for people who read the manifest; Address is where it can be asked.
	Writer, Address string
	// Process is an id of this process, made at random when it began (store.NewWriteID), if it has one engine on the store at
	// a time: then an engine does not wait for the lease of the one before it, which failed and could not give it back.
	Process string
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
	Lease      time.Duration
	Manifest   time.Duration // and, in mode log, reading the records: what is left of it when the lease is there
	Claim      time.Duration // fencing, or swapping the manifest
	Restore    time.Duration // all of the layer: download, decompress, install; it begins beside the lease
	Runtime    time.Duration // waiting for Options.Load
	Download   time.Duration // summed over the goroutines that were at it
	Decompress time.Duration // likewise
	Replay     time.Duration // putting the records' bytes into the files
	Start      time.Duration // PostgreSQL: start and recovery
	Wall       time.Duration
	RawBytes   int64 // of the layer
	Stored     int64
	Records    int // replayed
	Epoch      uint64
	LeftOut    []string // parameters that PostgreSQL could not start with, see pglite.Instance.LeftOut
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

// Engine is an open database. Its methods may be called from any goroutine; statements take turns.
type Engine struct {
	o       Options
	turn    chan struct{} // holds one token: whoever has it owns the instance
	in      *pglite.Instance
	commits committer
	opened  OpenStats
	ahead   ahead // while it opens
	closed  bool  // under the turn

	unlogged  unlogged
	freezeAge uint32 // autovacuum_freeze_max_age

	logBytes atomic.Int64          // written to pg_wal since the opening
	poison   atomic.Pointer[error] // why the engine serves nothing any more
	halted   atomic.Bool           // PostgreSQL was ended; what has been captured becomes durable at Close
	failed   chan struct{}         // closed when there is a poison
}

// committer makes what PostgreSQL has written durable. There is one for each mode.
type committer interface {
	// begin is asked before statements run: may this engine still serve?
	begin(ctx context.Context) error
	// durable says whether everything is durable that an answer has to wait for.
	durable() bool
	// idle says whether nothing at all is left to be made durable, that included which no answer waits for.
	idle() bool
	// settle is called under the turn when statements have run. It returns what their answer has to wait for, outside
	// of the turn (nil: nothing), and whether that is something they have written.
	settle(ctx context.Context) (wait func(context.Context) error, commits bool, err error)
	// yield is called by a client that keeps its turn when its statements have run: what others want to do between two
	// transactions, and wait for the turn for, is done in it.
	yield(ctx context.Context)
	// throttle holds back who commits faster than layers are taken. It waits for nothing that needs the turn.
	throttle(ctx context.Context)
	// catchUp makes everything durable in the middle of a statement, under the turn. Mode snapshot cannot: there an answer
	// that PostgreSQL gives before it takes COPY data leaves early.
	catchUp(ctx context.Context) error
	// force makes everything durable, under the turn.
	force(ctx context.Context) (CommitStats, error)
	// last says what the last commit did that was one by itself; zero in a mode where commits share records.
	last() CommitStats
	// close ends the committer: after what is pending is durable, or at once if the engine is given up.
	close(ctx context.Context, give bool) error
}

func (o *Options) fill() error {
	switch {
	case o.Runtime == nil && o.Load == nil:
		return errors.New("open a database: no runtime given")
	case o.Store == nil:
		return errors.New("open a database: no store given")
	}
	if err := pglite.CheckSettings(o.Settings); err != nil {
		return fmt.Errorf("open a database: %w", err)
	}
	if o.Mode == "" {
		o.Mode = ModeLog
	}
	if o.Durability == "" {
		o.Durability = Strict
	}
	if o.ReadMode == "" {
		o.ReadMode = ReadLease
	}
	switch {
	case o.Mode != ModeSnapshot && o.Mode != ModeLog:
		return fmt.Errorf("open a database: there is no commit mode %q; use %q or %q", o.Mode, ModeLog, ModeSnapshot)
	case o.Durability != Strict && o.Durability != Interval && o.Durability != Sleep:
		return fmt.Errorf("open a database: there is no durability %q; use %q, %q or %q", o.Durability, Strict, Interval, Sleep)
	}
	if o.ReadMode != ReadLease && o.ReadMode != ReadStrict {
		return fmt.Errorf("open a database: there is no read mode %q; use %q or %q", o.ReadMode, ReadLease, ReadStrict)
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	if o.IdleFlush == 0 {
		o.IdleFlush = DefaultIdleFlush
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
	if o.Process != "" {
		o.Writer += "/" + o.Process
	}
	o.Writer += "/" + store.NewWriteID() // unique, so that a writer recognises its own objects
	return nil
}

// process is what the writers of this process begin with.
func (o *Options) process() string {
	if o.Process == "" {
		return ""
	}
	return o.Writer[:strings.LastIndexByte(o.Writer, '/')]
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
	err := e.serves()
	if err != nil {
		e.give()
	}
	return err
}

// serves says why the engine serves nothing any more. The caller has the turn.
func (e *Engine) serves() error {
	switch {
	case e.closed:
		return ErrClosed
	case e.poison.Load() != nil:
		return e.poisoned()
	case e.halted.Load():
		return ErrClosed
	}
	return nil
}

func (e *Engine) give() { e.turn <- struct{}{} }

// poisoned is the error of everything that is asked of a poisoned engine.
func (e *Engine) poisoned() error { return fmt.Errorf("%w: %w", ErrPoisoned, *e.poison.Load()) }

// fail poisons the engine. It may be called from any goroutine.
func (e *Engine) fail(err error) error {
	if errors.Is(err, wal.ErrFenced) || errors.Is(err, manifest.ErrFenced) || errors.Is(err, lease.ErrLost) {
		err = fmt.Errorf("%w: %w", ErrFenced, err)
	}
	if e.poison.CompareAndSwap(nil, &err) {
		close(e.failed)
		e.in.Kill()
	}
	return err
}

// Failed is closed when the engine is poisoned: whoever has its turn should give it up, so that it can be closed.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

// Err says why the engine is poisoned; nil while it is not.
func (e *Engine) Err() error {
	if p := e.poison.Load(); p != nil {
		return *p
	}
	return nil
}

// Exec runs frontend messages and writes PostgreSQL's answers to w once everything they tell of is durable. Its
// messages run without another client's in between. Errors: those of pglite.Instance.Exec, ErrFenced, ErrUnknown,
// ErrPoisoned, ErrClosed.
func (e *Engine) Exec(ctx context.Context, messages []byte, w io.Writer) error {
	return e.exec(ctx, messages, w)
}

// Query runs SQL by the simple protocol and returns the results as text, durable like Exec's. A SQL error is a
// *pgconn.PgError.
func (e *Engine) Query(ctx context.Context, sql string) ([]pglite.Result, error) {
	return e.query(ctx, sql)
}

// Commit makes everything durable that PostgreSQL has written, also within an open transaction, of which a restore
// then shows nothing. Where everything is durable it does nothing, unless force is set: in mode snapshot it then
// uploads all the same.
func (e *Engine) Commit(ctx context.Context, force bool) (CommitStats, error) {
	if err := e.take(ctx); err != nil {
		return CommitStats{}, err
	}
	defer e.give()
	if e.commits.idle() && !force {
		return CommitStats{}, nil
	}
	// Once begun, a commit is not given up half way because a client has gone.
	stats, err := e.commits.force(context.WithoutCancel(ctx))
	if err != nil {
		return stats, e.fail(fmt.Errorf("commit: %w", err))
	}
	return stats, nil
}

// LastCommit says what the last commit did; in mode log, where commits share records, it is zero.
func (e *Engine) LastCommit() CommitStats {
	<-e.turn
	defer e.give()
	return e.commits.last()
}

// LogBytes is how much PostgreSQL has written to its log since the opening. It may be called while a statement runs.
func (e *Engine) LogBytes() int64 { return e.logBytes.Load() }

// Cancel interrupts the statement that runs, if one does: it answers with SQLSTATE 57014.
func (e *Engine) Cancel() { e.in.Cancel() }

// Halt ends PostgreSQL, whatever it runs, also what does not let itself be cancelled: for who is to end and must not wait for it.
// Nothing that was acknowledged is lost, for Close, which is to follow, makes the log durable as ever; what still ran is as after
// a crash: the next opening rolls it back. Until then everything else gets ErrClosed.
func (e *Engine) Halt() {
	e.halted.Store(true)
	e.in.Kill()
}

// Close makes everything durable, gives the lease back, and ends the instance. After an error the instance has ended
// too.
func (e *Engine) Close(ctx context.Context) error {
	<-e.turn
	defer e.give()
	if e.closed {
		return nil
	}
	e.closed = true
	err := e.commits.close(ctx, e.poison.Load() != nil)
	e.in.Kill() // nothing is lost: what is durable is in the bucket
	return err
}

// Abandon ends the instance as a crash would: nothing more is committed, the lease is kept until it runs out.
func (e *Engine) Abandon() {
	e.in.Kill()
	<-e.turn
	defer e.give()
	if !e.closed {
		e.closed = true
		_ = e.commits.close(context.Background(), true)
	}
}
