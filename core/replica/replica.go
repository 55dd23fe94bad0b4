// Package replica keeps a database open for reading, and follows its writer: a hot standby whose log comes from the bucket.
//
//	r, err := replica.New(replica.Options{Engine: engine.Options{Load: load, Store: st}, Poll: time.Second})
//	k, err := keeper.New(keeper.Options{Open: r.Open})                // and listeners on top, as for a writer
//	err = r.Close(ctx)                                                // after the keeper's Close
//
// It takes no lease, fences no writer and writes nothing: it makes only GETs and lists. What it shows is what the log held at some moment,
// all of it durable, as nothing else is in the bucket.
//
//	opening    manifest ──► newest layer, records after it ──► PostgreSQL recovers all of that ──► serves
//	following  the next name of the log ──► absent: nothing new. Present: its bytes go into pg_wal, recovery is woken, and it
//	           continues with the names after it, many at a time
//
// It looks every Poll, but only while it is in use, or was within Idle: an unused replica makes no requests. The first statement after such
// a rest waits for a look, and so does every statement if the last look is longer ago than MaxLag.
//
// The absence of a name does not prove that nothing was written: the log may have been collected past it. So it also reads the manifest
// from time to time, and after each rest. A replica moves when its next records are gone, when its pages are gone, or when it has replayed
// more than fits into its cache: it opens the newest layer in a second engine, brings that to at least the same place, and only then ends
// the sessions of the first one (engine.ErrMoved).
//
// It survives a writer that dies and its successor's fence, a fence of an opener that was stalled (it carries nothing; the manifest tells),
// a bucket that does not answer (it keeps serving what it has, unless MaxLag says otherwise), and a PostgreSQL that crashes (it comes back
// no older). It does not survive a damaged or missing record. It stays at the last good one and reports that (Status.Stopped), until there
// is a newer layer.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/pgdata"
)

// Defaults of Options.
const (
	DefaultPoll      = time.Second
	DefaultIdle      = time.Minute
	DefaultWaitLimit = 10 * time.Second
)

// Bounds of Options.Poll.
const (
	LeastPoll = 10 * time.Millisecond
	MostPoll  = 10 * time.Minute
)

// manifestEvery is how often the manifest is read while names are absent; more often if the log is kept for less than four times that.
const manifestEvery = 10 * time.Second

var (
	// ErrStale: the bucket could not be read, and the replica's data is older than Options.MaxLag. Try again later, or ask the writer.
	ErrStale = engine.ErrStale
	// ErrMissing: a record of the log is missing although later ones exist. The log is damaged: see Status.Stopped.
	ErrMissing = errors.New("a record of the log is missing")
	// ErrClosed: the replica was closed.
	ErrClosed = errors.New("the replica is closed")
)

// Options are options of New. In Engine, Store and either Runtime or Load are required.
type Options struct {
	// Engine holds the options for the engines it opens. Those about commits, leases and layers are ignored.
	Engine engine.Options
	// Poll is how often it looks for news while in use, from LeastPoll to MostPoll; zero: DefaultPoll.
	Poll time.Duration
	// MaxLag is how long ago the last look may be when a statement begins. If it is longer ago, the statement waits for one, and is
	// rejected if that fails (ErrStale). Zero: statements wait only after a rest or a few missed polls, and run even if the look fails.
	MaxLag time.Duration
	// Idle is how long it keeps looking after the last statement; zero: DefaultIdle.
	Idle time.Duration
	// WaitLimit bounds the wait for a position, or for a look; zero: DefaultWaitLimit.
	WaitLimit time.Duration
}

// Status says how far a replica has got.
type Status struct {
	Open     bool          // an engine serves
	Seq      uint64        // number of the last replayed record
	Epoch    uint64        // of that record's writer
	Position pgdata.LSN    // place in PostgreSQL's log after what has been replayed
	Behind   time.Duration // time since it last had everything that was durable: it may lag by that much
	Stopped  string        // why it cannot follow the log further; empty: it can
	Trouble  string        // why the last look failed; empty: it did not
	Layer    string        // the layer it began with
	Looks    int64         // at the log
	Records  int64         // replayed since the process began, except at openings
	Moves    int64         // moves to a newer layer
	Resting  bool          // it does not look, because it is not in use
}

// Replica opens engines that follow a writer's log. It is safe for concurrent use.
type Replica struct {
	o     Options
	clock clock.Clock
	log   *slog.Logger
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup

	asked                 atomic.Int64 // when it was last used, by the monotonic clock
	looks, records, moves atomic.Int64

	mu     sync.Mutex
	life   *life // the one that serves, or served last; nil: there was none
	next   *life // the one about to replace it; nil: there is none
	closed bool
}

// New makes a replica. It does not open anything yet. An error says which option is out of range.
func New(o Options) (*Replica, error) {
	for _, d := range []struct {
		at    *time.Duration
		usual time.Duration
	}{{&o.Poll, DefaultPoll}, {&o.Idle, DefaultIdle}, {&o.WaitLimit, DefaultWaitLimit}} {
		if *d.at == 0 {
			*d.at = d.usual
		}
	}
	switch {
	case o.Poll < LeastPoll || o.Poll > MostPoll:
		return nil, fmt.Errorf("make a replica: Poll is %v: it must be from %v to %v", o.Poll, LeastPoll, MostPoll)
	case o.MaxLag < 0 || o.Idle < 0 || o.WaitLimit < 0:
		return nil, errors.New("make a replica: MaxLag, Idle and WaitLimit must not be negative")
	}
	if o.Engine.Clock == nil {
		o.Engine.Clock = clock.System()
	}
	if o.Engine.Logger == nil {
		o.Engine.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Replica{o: o, clock: o.Engine.Clock, log: o.Engine.Logger}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Open opens an engine that follows the log, or returns the one that the replica has moved to. It is for keeper.Options.Open: call it when
// the previous engine has ended. Errors: engine.ErrNoDatabase, engine.ErrVersion, ErrClosed, those of the log, of the store and of
// PostgreSQL's start.
func (r *Replica) Open(ctx context.Context) (*engine.Engine, error) {
	r.mu.Lock()
	next := r.next
	r.next = nil
	if next != nil && next.engine.Err() == nil && !r.closed {
		r.life = next
		r.mu.Unlock()
		return next.engine.Engine, nil
	}
	r.mu.Unlock()
	if next != nil {
		next.engine.Abandon()
	}
	l, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		l.engine.Abandon()
		return nil, ErrClosed
	}
	r.life = l
	return l.engine.Engine, nil
}

// current returns the life that serves; nil: there is none.
func (r *Replica) current() *life {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.life
}

// Announce says that there may be news in the log: the replica looks right away, unless it rests. Calling it is optional.
func (r *Replica) Announce() {
	if l := r.current(); l != nil && !r.resting() {
		l.announced()
	}
}

// End ends the serving engine because something else takes its place: its clients get engine.ErrMoved. It also ends one that the replica
// was about to move to.
func (r *Replica) End(because error) {
	r.mu.Lock()
	l, next := r.life, r.next
	r.life, r.next = nil, nil // so a move that is under way finds nothing to move from
	r.mu.Unlock()
	if l != nil {
		l.engine.Move(because)
	}
	if next != nil {
		next.engine.Abandon()
	}
}

// resting says whether the replica has been unused for longer than Options.Idle.
func (r *Replica) resting() bool {
	return r.clock.Monotonic()-time.Duration(r.asked.Load()) > r.o.Idle
}

// Status returns how far the replica has got.
func (r *Replica) Status() Status {
	s := Status{Looks: r.looks.Load(), Records: r.records.Load(), Moves: r.moves.Load(), Resting: r.resting()}
	if l := r.current(); l != nil {
		l.status(&s)
	}
	return s
}

// Close ends the replica's background work. Close the keeper first: it closes the serving engine.
func (r *Replica) Close(context.Context) error {
	r.mu.Lock()
	r.closed = true
	next := r.next
	r.next = nil
	r.mu.Unlock()
	r.stop()
	if next != nil {
		next.engine.Abandon()
	}
	r.work.Wait()
	return nil
}
