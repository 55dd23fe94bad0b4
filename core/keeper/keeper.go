// Package keeper keeps one database open as long as it is wanted: it is opened for the first who asks, and again after
// another writer has taken it, or a commit's outcome was unknown.
//
//	k, err := keeper.New(keeper.Options{Open: open})
//	e, err := k.Engine(ctx)                         // opens it, or waits for the opening that is under way
//	err = k.Close(ctx)                              // everything durable, the lease given back
//
// Many may ask at once. There is one opening, and all of them get its engine or its error; who asks after an error starts a new
// opening. A poisoned engine is replaced, and its clients' sessions end.
//
// Survives: a caller that gives up (the opening goes on for the others), an opening that fails, and Close during an opening.
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

// ErrClosed: the keeper was closed. The process is about to end; ask another one.
var ErrClosed = errors.New("the database is closed for good")

// Options of New. Open is required.
type Options struct {
	// Open opens the database. Its context ends when the keeper is closed.
	Open   func(ctx context.Context) (*engine.Engine, error)
	Clock  clock.Clock  // nil: the system's
	Logger *slog.Logger // nil: dropped
}

// State is what a keeper has.
type State string

// The states.
const (
	Asleep  State = "asleep"  // nothing is open
	Opening State = "opening" // somebody waits for it
	Open    State = "open"    // an engine serves
	Failed  State = "failed"  // the last opening failed, or the engine has to be opened again
	Closed  State = "closed"  // for good
)

// Stats says what a keeper has done.
type Stats struct {
	State    State
	Openings int64            // begun
	Failures int64            // of them
	Boot     engine.OpenStats // of the last opening that went well
	BootWall time.Duration    // likewise, as its first caller saw it
	Commits  engine.LogStats  // of all engines
	Engine   engine.Stats     // of the one that is open
	Leased   bool             // the lease is held now; at rest it runs out
	Reason   string           // why it is failed
	Retired  int64            // engines that were replaced
}

// Keeper opens and keeps a database. Its methods may be called from any goroutine.
type Keeper struct {
	o    Options
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	engine  *engine.Engine
	opening *opening
	closed  bool
	stats   Stats
	past    engine.LogStats // of engines that are gone
}

// opening is one try to open.
type opening struct {
	done   chan struct{}
	engine *engine.Engine
	err    error
}

// New makes a keeper of a database that is asleep.
func New(o Options) (*Keeper, error) {
	if o.Open == nil {
		return nil, errors.New("keep a database: nothing given to open it with")
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

// Engine returns the open database. Errors: ErrClosed, those of opening it, the context's.
func (k *Keeper) Engine(ctx context.Context) (*engine.Engine, error) {
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

// Current is the engine that is open; nil: none is. Nothing is opened.
func (k *Keeper) Current() *engine.Engine {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.engine
}

// open does one opening, after the poisoned engine before it has been put away.
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
		k.o.Logger.Warn("the database was not opened", "error", err)
		return
	}
	op.engine, k.engine = e, e
	k.stats.Boot, k.stats.BootWall, k.stats.Reason = e.Opened(), k.o.Clock.Monotonic()-at, ""
	k.o.Logger.Info("the database is open", "epoch", k.stats.Boot.Epoch, "created", k.stats.Boot.Created, "ms", k.stats.BootWall.Milliseconds())
}

// retire closes an engine that serves nothing any more.
func (k *Keeper) retire(e *engine.Engine) {
	reason := e.Err()
	if err := e.Close(k.ctx); err != nil {
		k.o.Logger.Warn("close the old engine", "error", err)
	}
	k.o.Logger.Warn("the database is opened again", "because", fmt.Sprint(reason))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stats.Retired++
	k.past = sum(k.past, e.LogStats())
}

func sum(a, b engine.LogStats) engine.LogStats {
	return engine.LogStats{Records: a.Records + b.Records, Commits: a.Commits + b.Commits, Bytes: a.Bytes + b.Bytes, Append: a.Append + b.Append}
}

// Stats says what the keeper has done.
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

// Close makes everything durable, gives the lease back, and ends the keeper. An opening that is under way is given up.
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
		<-op.done // it was told to end; an engine that it has opened all the same is not left behind, even if ctx ends
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
