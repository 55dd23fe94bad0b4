// Package engine puts the protocol together. It opens a database from the bucket, lets clients talk to PostgreSQL, makes their commits
// durable before acknowledging them, and closes the database.
//
//	e, err := engine.Open(ctx, engine.Options{Runtime: rt, Store: prefix, Create: true})
//	conn, err := e.Dial(ctx, pglite.ConnectOptions{}) // a net.Conn to a PostgreSQL process of the client's own
//	rows, err := e.Query(ctx, "SELECT 1")             // for the host's own statements
//	err = e.Close(ctx)                                // commits whatever is not yet durable
//
// How a commit becomes durable is a mode:
//
//	log        the default: what PostgreSQL appends to its own log is appended to the commit log, one record for
//	           everything that committed while the last one was under way. A new layer is taken in the background when
//	           a restore would take too long.
//	snapshot   every commit uploads the changes to the data directory as a layer and swaps the manifest to it; commits
//	           that arrive during that share the next one. Simple, and the baseline that the log is measured against.
//
// PostgreSQL does not wait for the bucket at a commit: the process continues, its locks are free, and others see what it has committed.
// Only answers wait, each for what it reports (mark.go).
//
// A replica (OpenReplica) is an engine that commits nothing. Its PostgreSQL is a hot standby, which core/replica feeds with the log.
//
// What an opening does:
//
//	log        lease ──► read the log ──► fence ──► manifest again ──► layer + records ──► PostgreSQL recovers ──► serves
//	           (the log is read, and its base layer fetched, while the lease is being acquired; only what
//	           the manifest names after the fence is restored)
//	snapshot   manifest ──► claim (compare and swap, epoch+1) ──► layer ──► PostgreSQL recovers ──► serves
//
// The fence, or the claim, comes before the restore: whatever a predecessor committed before it is restored; whatever it tries to commit
// afterwards fails.
//
// It survives a crash at any point, a lost reply, and a rival writer (the older one is fenced). If PostgreSQL crashes, it is restarted on
// the files in memory, its clients get ErrCrashed, and nothing acknowledged is lost. Once a commit is fenced or its outcome is unknown, the
// local PostgreSQL may hold data that the bucket lacks: the engine is poisoned, serves nothing more, and must be opened again.
package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/pgdata"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Errors of an engine.
var (
	// ErrNoDatabase: there is no database under this prefix. Create one (Options.Create), or check the prefix.
	ErrNoDatabase = errors.New("no database here")
	// ErrLocked: another writer holds the lease; the error says who and until when (lease.LockedError). Wait, or try again.
	ErrLocked = lease.ErrLocked
	// ErrFenced: another writer has taken over the database. Open it again to take it back; everything acknowledged is safe.
	ErrFenced = errors.New("another writer has the database")
	// ErrUnknown: the outcome of a commit is not known. The engine is poisoned. Open the database again and read, to find out.
	ErrUnknown = store.ErrUnknown
	// ErrPoisoned: an earlier commit was fenced, unknown or failed, or PostgreSQL ended. Open the database again.
	ErrPoisoned = errors.New("the engine must be reopened")
	// ErrClosed: the engine was closed.
	ErrClosed = errors.New("the engine is closed")
	// ErrCrashed: a PostgreSQL process failed, so PostgreSQL is being restarted. Open transactions were rolled back; a COMMIT that was
	// running may have succeeded: connect again, and look.
	ErrCrashed = errors.New("PostgreSQL has crashed")
	// ErrStarting: PostgreSQL is still restarting after a crash. Try again.
	ErrStarting = errors.New("PostgreSQL is starting")
	// ErrVersion: the database belongs to another major version of PostgreSQL, or was written by a newer version of
	// this program. Use the one that wrote it.
	ErrVersion = errors.New("made by another version")
	// ErrMode: the database has a commit log, which mode snapshot does not read. Open it in mode log.
	ErrMode = errors.New("the database has a commit log")
)

// OpenStats says what an opening did and how long its steps took. Steps run concurrently, so their sum may exceed the whole.
type OpenStats struct {
	Created    bool // the database did not exist
	Lease      time.Duration
	Manifest   time.Duration // and, in mode log, reading the records: what is left of it once the lease is held
	Claim      time.Duration // fencing, or swapping the manifest
	Restore    time.Duration // all of the layer: download, decompress, install; it begins while the lease is being acquired
	Runtime    time.Duration // waiting for Options.Load
	Download   time.Duration // summed over goroutines
	Decompress time.Duration // summed over goroutines
	Replay     time.Duration // putting the records' bytes into the files
	Start      time.Duration // PostgreSQL: start and recovery
	Wall       time.Duration
	RawBytes   int64 // of the layer
	Stored     int64
	ReadBytes  int64 // of Stored, how much the opening itself has read; see Stats.WakeBytes
	Records    int   // replayed
	Epoch      uint64
	apart      int64    // of ReadBytes, what did not come from base.Pages
	LeftOut    []string // parameters that PostgreSQL could not start with; see pglite.Instance.LeftOut
}

// CommitStats says what a commit did, and how long it took. Times are zero where a step was not needed.
type CommitStats struct {
	Checkpoint  time.Duration
	Clone       time.Duration // of the files: the only step that statements wait for
	Compress    time.Duration // summed over goroutines
	Upload      time.Duration // summed over goroutines
	Layer       time.Duration // compressing and uploading, elapsed
	ManifestCAS time.Duration
	Wall        time.Duration
	RawBytes    int64
	StoredBytes int64
}

// Engine is an open database. Make one with Open, OpenAt or OpenReplica, end it with Close. It is safe for concurrent use.
type Engine struct {
	o         Options
	commits   committer
	follower  *follower  // the committer of a replica; nil: this engine is not a replica's
	recovered pgdata.LSN // end of the log of the restored files
	server    server
	host      hostSession
	opened    OpenStats
	runtime   *pglite.Runtime
	pages     *base.Pages              // fetches pages that are away; nil: all are in memory
	readers   readers                  // readers of pages
	use       atomic.Pointer[base.Use] // of the newest layer restored or taken; nil: none
	temp      *tempDisk                // for temporary files of queries; nil: they are in memory

	unlogged unlogged
	logBytes atomic.Int64 // written to pg_wal since the opening
	logSize  logSize
	answers  answerCounts

	closing chan struct{}         // full while a Close or Abandon runs
	ended   chan struct{}         // closed when nothing of it runs any more
	over    sync.Once             // closes ended
	gone    context.Context       // ends when Abandon is called: a Close that is under way stops waiting
	abandon context.CancelFunc    // ends gone
	closed  atomic.Bool           // it is closed, or being closed
	poison  atomic.Pointer[error] // why the engine was poisoned; nil: it was not
	halted  atomic.Bool           // PostgreSQL was ended; Close makes durable what was captured
	failed  chan struct{}         // closed when the engine is poisoned
}

// committer makes PostgreSQL's writes durable. There is one for each mode.
type committer interface {
	// mayServe is called before a client's bytes reach PostgreSQL: may this engine still serve?
	mayServe(ctx context.Context) error
	// mark returns what an answer waits for. The answering process calls it under the cluster's lock; see sight.
	mark(p *pglite.Process, inBlock bool) mark
	// waitFor waits until what an answer reports is durable, and proves that the answer is not stale. committed: the answer had to wait for
	// a commit.
	waitFor(ctx context.Context, at mark) (committed bool, err error)
	// mayLeave says whether waitFor and backpressure would return without waiting; it is also false if that is not known.
	mayLeave(at mark) bool
	// backpressure holds back clients that commit faster than layers are taken.
	backpressure(ctx context.Context)
	// idle says whether everything is durable, including what no answer waits for.
	idle() bool
	// force makes everything durable.
	force(ctx context.Context) (CommitStats, error)
	// last says what the last commit did; zero in a mode where commits share records.
	last() CommitStats
	// started reports, under the cluster's lock, that PostgreSQL accepts clients; again: after a crash.
	started(c *pglite.Cluster, again bool)
	// reached returns how far PostgreSQL must recover after a crash, as records whose last operation it must reach. No process runs.
	reached() []wal.Record
	// close ends the committer: once what is pending is durable, or, with abandon, immediately.
	close(ctx context.Context, abandon bool) error
}

func newEngine(o Options) *Engine {
	gone, abandon := context.WithCancel(context.Background())
	return &Engine{o: o, closing: make(chan struct{}, 1), ended: make(chan struct{}), gone: gone, abandon: abandon, failed: make(chan struct{}), host: newHostSession()}
}

// Opened returns the statistics of the opening.
func (e *Engine) Opened() OpenStats { return e.opened }

// serves returns why the engine no longer serves; nil: it does.
func (e *Engine) serves() error {
	switch {
	case e.closed.Load():
		return ErrClosed
	case e.poison.Load() != nil:
		return e.poisoned()
	case e.halted.Load():
		return ErrClosed
	}
	return nil
}

// poisoned is the error that every operation of a poisoned engine returns.
func (e *Engine) poisoned() error { return fmt.Errorf("%w: %w", ErrPoisoned, *e.poison.Load()) }

// fail poisons the engine. It may be called from any goroutine.
func (e *Engine) fail(err error) error {
	if errors.Is(err, wal.ErrFenced) || errors.Is(err, manifest.ErrFenced) || errors.Is(err, lease.ErrLost) {
		err = fmt.Errorf("%w: %w", ErrFenced, err)
	}
	if e.poison.CompareAndSwap(nil, &err) {
		close(e.failed)
		e.server.kill()
	}
	return err
}

// Failed is closed when the engine is poisoned.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

// Err returns why the engine is poisoned; nil: it is not.
func (e *Engine) Err() error {
	if p := e.poison.Load(); p != nil {
		return *p
	}
	return nil
}

// Commit makes everything durable that PostgreSQL has written. It commits no transaction: a restore shows nothing of an open one. If
// everything is durable already it does nothing, unless force is set, which in mode snapshot uploads a layer anyway. Errors: ErrFenced,
// ErrUnknown, ErrPoisoned, ErrClosed, the context's.
func (e *Engine) Commit(ctx context.Context, force bool) (CommitStats, error) {
	if err := e.serves(); err != nil {
		return CommitStats{}, err
	}
	if e.commits.idle() && !force {
		return CommitStats{}, nil
	}
	// A commit that has begun is finished, even if its caller no longer waits.
	stats, err := e.commits.force(context.WithoutCancel(ctx))
	if err != nil {
		return stats, e.refused(ctx, err)
	}
	return stats, nil
}

// LastCommit returns what the last commit did; zero in mode log, where commits share records.
func (e *Engine) LastCommit() CommitStats { return e.commits.last() }

// LogBytes is how many bytes PostgreSQL has written to its log since the opening.
func (e *Engine) LogBytes() int64 { return e.logBytes.Load() }

// Halt ends PostgreSQL immediately, whatever it runs, including what cannot be canceled: for a process that must end soon. Call Close
// afterwards: it makes the log durable as always, so nothing acknowledged is lost. The next opening rolls running transactions back. After
// Halt, everything but Close fails with ErrClosed.
func (e *Engine) Halt() {
	e.halted.Store(true)
	e.server.kill()
}

// Close makes everything durable, releases the lease, and ends PostgreSQL, even after an error. Clients that are still connected get
// ErrClosed. When ctx ends, or Abandon is called, what is not yet durable is lost, as after a crash. A second call waits until the first
// one has ended, or until its own ctx ends.
func (e *Engine) Close(ctx context.Context) error {
	select {
	case e.closing <- struct{}{}: // tried first: if ctx has already ended, the engine is still closed, and what is pending is lost
	default:
		select {
		case e.closing <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("close the database, which another call is closing: %w", ctx.Err())
		}
	}
	if e.closed.Swap(true) {
		<-e.closing
		return e.awaitEnd(ctx)
	}
	defer func() { <-e.closing }()
	waits, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.gone, cancel)()
	err := e.commits.close(waits, e.poison.Load() != nil)
	if err != nil && e.gone.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("close the database, which has been abandoned in the meantime: %w", err)
	}
	e.stopped() // nothing is lost: what is durable is in the bucket
	return err
}

// awaitEnd waits until the call that ends the engine, which may be an Abandon, has ended it. Error: the context's.
func (e *Engine) awaitEnd(ctx context.Context) error {
	select {
	case <-e.ended:
		return nil
	default:
	}
	select {
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the database, which another call is closing: %w", ctx.Err())
	}
}

// Abandon ends the engine like a crash: nothing more becomes durable. Unlike a crash it tries for two seconds to release the lease, so that
// the next writer need not wait for it. Otherwise it waits for no answer from the bucket: a Close that does is cut short, and leaves the
// lease to expire.
func (e *Engine) Abandon() {
	closed := e.closed.Swap(true)
	e.abandon()
	e.server.kill()
	e.closing <- struct{}{} // a Close that was under way ends first, soon
	defer func() { <-e.closing }()
	if !closed {
		_ = e.commits.close(context.Background(), true)
	}
	e.stopped()
}

// stopped ends PostgreSQL, waits until none of it runs, and frees its files.
func (e *Engine) stopped() {
	e.server.kill()
	e.server.watching.Wait() // from now on no other cluster is started
	e.server.discard()
	e.temp.close()
	if e.pages != nil {
		e.pages.Close()
	}
	e.over.Do(func() { close(e.ended) })
}
