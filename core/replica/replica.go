// Package replica keeps a database open to read it, and follows its writer: a hot standby whose log comes from the bucket.
//
//	r, err := replica.New(replica.Options{Engine: engine.Options{Load: load, Store: st}, Poll: time.Second})
//	k, err := keeper.New(keeper.Options{Open: r.Open})                // and listeners on top, as for a writer
//	err = r.Close(ctx)                                                // after the keeper's
//
// It takes no lease, fences nobody and writes nothing: not one request but GETs and lists. What it shows is a prefix of the log: of what
// is durable, for nothing else is in the bucket.
//
//	opening    manifest ──► newest layer, records behind it ──► PostgreSQL recovers all of that ──► serves
//	following  the next name of the log ──► not there: nothing new. There: its bytes go into pg_wal, recovery is woken, and on to the
//	           names behind it, many at once
//
// It looks every Poll, but only while somebody asks, or has asked within Idle: one that nobody asks makes no request. Who asks then waits
// for a look first, and so does everybody where the last one is longer ago than MaxLag.
//
// That a name is absent does not prove that nothing was written: the log may have been collected past it. So the manifest is looked at
// too, now and then, and after each rest; a replica whose next records are gone, whose pages are gone, or which has replayed more than fits
// into its cache, moves: it opens the newest layer beside, comes to at least the same place, and only then ends the sessions of before
// (engine.ErrMoved).
//
// Survives: a writer that dies and its successor's fence, a fence of an opener that was stalled (it carries nothing; the manifest tells),
// a bucket that cannot be asked (it goes on serving what it has, unless MaxLag says otherwise), a PostgreSQL that crashes (it comes back
// no older). A record that is damaged or missing it does not pass: it stays at the last good one and says so (Status.Stopped), until
// a newer layer is there.
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

// manifestEvery is how often the manifest is looked at while names are absent, at most; a log that is kept for less than four times of
// that is looked at more often.
const manifestEvery = 10 * time.Second

var (
	// ErrStale: the bucket could not be looked at, and what there is is older than Options.MaxLag. Ask again, or the writer.
	ErrStale = engine.ErrStale
	// ErrMissing: a record of the log is not there, and those behind it are.
	ErrMissing = errors.New("a record of the log is missing")
	// ErrClosed: the replica was closed.
	ErrClosed = errors.New("the replica is closed")
)

// Options of New. Of Engine, Store and Runtime or Load are required.
type Options struct {
	// Engine are those of the PostgreSQL that it opens: those about commits, leases and layers do nothing.
	Engine engine.Options
	// Poll is how often it looks for news while somebody asks; zero: DefaultPoll.
	Poll time.Duration
	// MaxLag is how long ago the last look may be when a statement begins: if it is longer, there is one first, and where that fails the
	// statement is refused (ErrStale). Zero: only who comes after a rest waits for a look, and is served also if that fails.
	MaxLag time.Duration
	// Idle is how long it goes on looking after somebody has asked; zero: DefaultIdle.
	Idle time.Duration
	// WaitLimit is how long somebody waits at most for a position, or for a look; zero: DefaultWaitLimit.
	WaitLimit time.Duration
}

// Status says how far a replica is.
type Status struct {
	Open     bool          // an engine serves
	Seq      uint64        // of the last record that is replayed
	Epoch    uint64        // of its writer
	Position pgdata.LSN    // place in PostgreSQL's log behind what is replayed
	Behind   time.Duration // since everything that was durable was there: what it may be behind
	Stopped  string        // why it does not go on; empty: it does
	Trouble  string        // what kept the last look from its end
	Layer    string        // that it began with
	Looks    int64         // at the log
	Records  int64         // replayed since the process began, those of openings left out
	Moves    int64         // to a newer layer
	Resting  bool          // nobody asks: it looks no more
}

// Replica opens engines that follow. Its methods may be called from any goroutine.
type Replica struct {
	o     Options
	clock clock.Clock
	log   *slog.Logger
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup

	asked                 atomic.Int64 // when somebody did last, by the monotonic clock
	looks, records, moves atomic.Int64

	mu     sync.Mutex
	life   *life // that serves, or served last; nil: there was none
	next   *life // that is to serve, in its place; nil: there is none
	closed bool
}

// New makes a replica. Nothing is opened yet.
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
		return nil, fmt.Errorf("a replica that looks every %v: from %v to %v", o.Poll, LeastPoll, MostPoll)
	case o.MaxLag < 0 || o.Idle < 0 || o.WaitLimit < 0:
		return nil, errors.New("a replica with a time below zero")
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

// Open opens an engine that follows, or gives the one that the replica has moved to. It is for a keeper: the engine of before serves
// nothing any more. Errors: engine.ErrNoDatabase, engine.ErrVersion, ErrClosed, those of the log, of the store and of PostgreSQL's start.
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

// current is the life that serves; nil: there is none.
func (r *Replica) current() *life {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.life
}

// Announce says that there is news, as a courtesy: it is looked at once, if somebody asks these days.
func (r *Replica) Announce() {
	if l := r.current(); l != nil && !r.resting() {
		l.announced()
	}
}

// End ends the engine that serves, because something else takes its place: its clients are told engine.ErrMoved. One that it was about to
// move to ends too.
func (r *Replica) End(because error) {
	r.mu.Lock()
	l, next := r.life, r.next
	r.life, r.next = nil, nil // who is about to move has nothing to move from any more
	r.mu.Unlock()
	if l != nil {
		l.engine.Move(because)
	}
	if next != nil {
		next.engine.Abandon()
	}
}

// resting says whether nobody asks.
func (r *Replica) resting() bool {
	return r.clock.Monotonic()-time.Duration(r.asked.Load()) > r.o.Idle
}

// Status says how far the replica is.
func (r *Replica) Status() Status {
	s := Status{Looks: r.looks.Load(), Records: r.records.Load(), Moves: r.moves.Load(), Resting: r.resting()}
	if l := r.current(); l != nil {
		l.status(&s)
	}
	return s
}

// Close ends what the keeper does not know of: it is to be closed before.
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
