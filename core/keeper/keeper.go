// Package keeper opens one database when it is first needed, and again after another writer has taken it, or after a commit with an unknown
// outcome.
//
//	k, err := keeper.New(keeper.Options{Open: open})
//	e, err := k.Engine(ctx)                         // opens it, or waits for an opening already under way
//	err = k.Close(ctx)                              // everything durable, the lease released
//
// Many goroutines may call Engine at the same time: there is one opening, and all of them get its engine or its error. A call after an
// error starts a new opening. A poisoned engine is replaced, and its clients' sessions end.
//
// It survives a caller that gives up (the opening continues for the others), an opening that fails, and Close during an opening.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
)

// ErrClosed: the keeper was closed, so this process is about to end. Connect to another one.
var ErrClosed = errors.New("the database is closed for good")

// Options are options of New. Open is required.
type Options struct {
	// Open opens the database. Its context ends when the keeper is closed.
	Open   func(ctx context.Context) (*engine.Engine, error)
	Clock  clock.Clock  // nil: the system clock
	Logger *slog.Logger // nil: log messages are dropped
}

// State is the state of a keeper.
type State string

// The states.
const (
	Asleep  State = "asleep"  // nothing is open
	Opening State = "opening" // an opening is under way
	Open    State = "open"    // an engine serves
	Failed  State = "failed"  // the last opening failed, or the engine must be reopened
	Closed  State = "closed"  // closed for good
)

// Stats says what a keeper has done.
type Stats struct {
	State    State
	Openings int64            // openings begun
	Failures int64            // openings that failed
	Boot     engine.OpenStats // of the last successful opening
	BootWall time.Duration    // how long it took, as its first caller saw it
	Commits  engine.LogStats  // totals of all engines
	Engine   engine.Stats     // of the open engine
	Leased   bool             // the lease is held now; it expires while the database is idle
	Reason   string           // reason for the state Failed
	Retired  int64            // engines that were replaced
}

// Keeper opens a database and keeps it open. It is safe for concurrent use.
type Keeper struct {
	o    Options
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	engine  *engine.Engine
	opening *opening
	closed  bool
	stats   Stats
	past    engine.LogStats // totals of closed engines
}

// opening is one try to open the database.
type opening struct {
	done   chan struct{}
	engine *engine.Engine
	err    error
}

// New makes a keeper, without opening the database. An error means that Options.Open is missing.
func New(o Options) (*Keeper, error) {
	if o.Open == nil {
		return nil, errors.New("keep a database: set Open")
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{o: o}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k, nil
}

// Engine returns the open database, opening it if necessary: also if the lease has expired and another writer has taken the database since.
// ctx bounds the wait, not the opening. Errors: ErrClosed, those of Options.Open, of engine.Confirm, the context's.
func (k *Keeper) Engine(ctx context.Context) (*engine.Engine, error) {
	e, err := k.get(ctx)
	if err != nil {
		return nil, err
	}
	err = e.Confirm(ctx)
	if err != nil && e.Err() != nil { // it was taken over: nobody has used it since, so nobody needs to be told
		return k.get(ctx)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// get returns the open engine, opening it if necessary.
func (k *Keeper) get(ctx context.Context) (*engine.Engine, error) {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, ErrClosed
	}
	if k.engine != nil && k.engine.Err() == nil {
		defer k.mu.Unlock()
		return k.engine, nil
	}
	op := k.opening
	if op == nil {
		op = &opening{done: make(chan struct{})}
		k.opening = op
		k.stats.Openings++
		old := k.engine
		k.engine = nil
		go k.open(op, old)
	}
	k.mu.Unlock()
	select {
	case <-op.done:
		return op.engine, op.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Current returns the open engine; nil: there is none. It opens nothing.
func (k *Keeper) Current() *engine.Engine {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.engine
}

// open does one opening, after closing the poisoned engine before it.
func (k *Keeper) open(op *opening, old *engine.Engine) {
	at := k.o.Clock.Monotonic()
	if old != nil {
		k.retire(old)
	}
	e, err := k.o.Open(k.ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(op.done)
	k.opening = nil
	if err != nil {
		k.stats.Failures++
		k.stats.Reason = err.Error()
		op.err = err
		k.o.Logger.Warn("the database could not be opened", "error", err)
		return
	}
	op.engine, k.engine = e, e
	k.stats.Boot, k.stats.BootWall, k.stats.Reason = e.Opened(), k.o.Clock.Monotonic()-at, ""
	k.o.Logger.Info("the database is open", "epoch", k.stats.Boot.Epoch, "created", k.stats.Boot.Created, "ms", k.stats.BootWall.Milliseconds())
}

// retire closes a poisoned engine.
func (k *Keeper) retire(e *engine.Engine) {
	reason := e.Err()
	if err := e.Close(k.ctx); err != nil {
		k.o.Logger.Warn("the old engine could not be closed", "error", err)
	}
	k.o.Logger.Warn("the database is being reopened", "because", fmt.Sprint(reason))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stats.Retired++
	k.past = sum(k.past, e.LogStats())
}

func sum(a, b engine.LogStats) engine.LogStats {
	return engine.LogStats{Records: a.Records + b.Records, Commits: a.Commits + b.Commits, Bytes: a.Bytes + b.Bytes, Append: a.Append + b.Append}
}

// Stats returns the keeper's state and figures.
func (k *Keeper) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	s.Commits = k.past
	switch {
	case k.closed:
		s.State = Closed
	case k.opening != nil:
		s.State = Opening
	case k.engine != nil:
		s.State, s.Leased = Open, k.engine.Leased()
		s.Commits, s.Engine = sum(k.past, k.engine.LogStats()), k.engine.Stats()
		if err := k.engine.Err(); err != nil {
			s.State, s.Reason = Failed, err.Error()
		}
	case s.Reason != "":
		s.State = Failed
	default:
		s.State = Asleep
	}
	return s
}

// Close makes everything durable, releases the lease, and ends the keeper. It gives up an opening that is under way, and waits until that
// has ended, even if ctx ends first. Errors: those of engine.Close. A second Close does nothing.
func (k *Keeper) Close(ctx context.Context) error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	op := k.opening
	if op != nil {
		k.stop()
	}
	k.mu.Unlock()
	if op != nil {
		<-op.done // even if ctx ends: an engine that was opened anyway must not be left open
	}
	defer k.stop()
	k.mu.Lock()
	e := k.engine
	k.mu.Unlock()
	if e == nil {
		return nil
	}
	err := e.Close(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.past = sum(k.past, e.LogStats())
	k.engine = nil
	return err
}
