package pgwire

import (
	"context"
	"maps"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// gate bounds connections. Those that wait for their clients must not keep others out, and whoever is refused is told why.
//
//	start-up     its client has not said yet what it wants. MaxStartups; for one more, the one that has been at it for the longest time has
//	             to go (53300)
//	place        it has a process. MaxClients, and a few more that PostgreSQL leaves to superusers; one more gets 53300. But one that has been
//	             asked for its password and does not say it, for patience, makes room first
type gate struct {
	clock                            clock.Clock
	maxStartups, maxPlaces, ordinary int

	mu       sync.Mutex
	startups map[*arrival]struct{}
	places   map[*arrival]struct{}
	changed  chan struct{} // closed when one may have become free
	refusals map[string]int64

	cancels chan struct{} // a token for each cancel request that is passed on
}

// maxCancels bounds the cancel requests that are passed on at a time: each is a process, and anybody can send them.
const maxCancels = 4

// arrival is a connection, as the gate has it.
type arrival struct {
	since   time.Duration // it waits for its client, for what it waits now
	asked   bool          // it has a place, and has been asked who it is
	evicted bool          // it was told to go
	gone    chan struct{} // closed then
	evict   func()        // called then: it interrupts what waits for the client, and must not call the gate
}

// patience is how long the client of a connection may take where others wait for its place: with what it wants, and with its password.
const patience = time.Second

// Why connections are refused, as Stats.Refusals has it.
const (
	refusedClients  = "too many clients"
	refusedStartups = "too many at the start-up"
	refusedSlow     = "slow start-up"
	refusedTLS      = "TLS handshake"
	refusedOther    = "other"
)

// refusedCode are the reasons of refusals that SQLSTATEs tell.
func refusedCode(code string) string {
	switch code {
	case "53300":
		return refusedClients
	case "28P01":
		return "password"
	case "28000":
		return "authorization"
	case "08P01":
		return "protocol"
	case "0A000":
		return "not supported"
	case "3D000":
		return "database"
	case "57P01", "57P02", "57P03", "58000", "08007":
		return "not open"
	}
	return refusedOther
}

func newGate(o *Options) *gate {
	return &gate{
		clock: o.Clock, maxStartups: o.MaxStartups, maxPlaces: o.MaxClients + o.Reserved, ordinary: o.MaxClients,
		startups: map[*arrival]struct{}{}, places: map[*arrival]struct{}{}, changed: make(chan struct{}), refusals: map[string]int64{},
		cancels: make(chan struct{}, maxCancels),
	}
}

// arrive lets a connection begin. If there are too many that do, it waits for a moment, and then has the oldest one go. Its error is ctx's.
func (g *gate) arrive(ctx context.Context, evict func()) (*arrival, error) {
	a := &arrival{gone: make(chan struct{}), evict: evict}
	for {
		g.mu.Lock()
		wait := time.Duration(0)
		if len(g.startups) >= g.maxStartups {
			wait = patience - (g.clock.Monotonic() - oldest(g.startups, anyone).since)
		}
		if wait <= 0 {
			g.begin(a)
			g.mu.Unlock()
			return a, nil
		}
		changed := g.changed
		g.mu.Unlock()
		if err := g.wait(ctx, a, wait, changed); err != nil {
			return nil, err
		}
	}
}

// startAgain has a connection wait as one that begins, whose process has ended.
func (g *gate) startAgain(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !a.evicted {
		delete(g.places, a)
		g.change()
		g.begin(a)
	}
}

// begin is to be called with g.mu held.
func (g *gate) begin(a *arrival) {
	if len(g.startups) >= g.maxStartups {
		first := oldest(g.startups, anyone)
		delete(g.startups, first)
		first.goAway()
	}
	a.since = g.clock.Monotonic()
	g.startups[a] = struct{}{}
}

// wait waits until something has changed. Its error is ctx's.
func (g *gate) wait(ctx context.Context, a *arrival, d time.Duration, changed chan struct{}) error {
	t := g.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-changed:
	case <-a.gone:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func anyone(*arrival) bool { return true }

// goAway is called under the gate's mutex.
func (a *arrival) goAway() {
	a.evicted = true
	close(a.gone)
	a.evict()
}

// oldest is the one of them that has waited for the longest time.
func oldest(among map[*arrival]struct{}, which func(*arrival) bool) (first *arrival) {
	for a := range among {
		if which(a) && (first == nil || a.since < first.since) {
			first = a
		}
	}
	return first
}

// place gives a connection that has begun a place. reserved: it is one of those that are for superusers.
func (g *gate) place(ctx context.Context, a *arrival) (reserved bool, err error) {
	for {
		g.mu.Lock()
		if a.evicted {
			g.mu.Unlock()
			return false, errEvicted
		}
		if used := len(g.places); used < g.maxPlaces {
			delete(g.startups, a)
			g.places[a] = struct{}{}
			g.change()
			g.mu.Unlock()
			return used >= g.ordinary, nil
		}
		wait, some := g.makeRoom()
		changed := g.changed
		g.mu.Unlock()
		if !some {
			return false, failure("53300", "sorry, too many clients already: there are %d connections, and this server takes no more (MaxClients)", g.maxPlaces)
		}
		if err := g.wait(ctx, a, wait, changed); err != nil {
			return false, err
		}
	}
}

// makeRoom has the one go that has not said its password for the longest time, if its patience is over, and returns when it is worth to look
// again. some: there is a place that may become free. g.mu is held.
func (g *gate) makeRoom() (wait time.Duration, some bool) {
	if oldest(g.places, func(a *arrival) bool { return a.evicted }) != nil {
		return patience, true // it is on its way
	}
	silent := oldest(g.places, func(a *arrival) bool { return a.asked })
	if silent == nil {
		return 0, false
	}
	wait = patience - (g.clock.Monotonic() - silent.since)
	if wait <= 0 {
		silent.goAway()
		wait = patience
	}
	return wait, true
}

// asked notes that a connection with a place waits for its client, who is asked who it is.
func (g *gate) asked(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !a.asked {
		a.asked, a.since = true, g.clock.Monotonic()
	}
}

// entered notes that it is known who the client is. It cannot be evicted any more, unless it has been: then it says so.
func (g *gate) entered(a *arrival) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.evicted {
		return errEvicted
	}
	a.asked = false
	g.change()
	return nil
}

// leave takes a connection back, from wherever it is.
func (g *gate) leave(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.startups, a)
	delete(g.places, a)
	g.change()
}

// change tells those who wait for a place to look again. g.mu is held.
func (g *gate) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// isEvicted says whether a connection was told to go.
func (g *gate) isEvicted(a *arrival) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return a.evicted
}

// cancel waits until one more cancel request may be passed on; done must follow. It may not where nobody has a place, for there is
// nothing to cancel.
func (g *gate) cancel(ctx context.Context, a *arrival) (done func(), may bool) {
	select {
	case g.cancels <- struct{}{}:
	case <-a.gone:
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
	done = func() { <-g.cancels }
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.places) == 0 {
		done()
		return nil, false
	}
	return done, true
}

// countRefusal counts a refusal.
func (g *gate) countRefusal(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusals[reason]++
}

// refusalCounts are the refusals so far.
func (g *gate) refusalCounts() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.refusals)
}

// errEvicted: the connection had to make room.
var errEvicted = failure("53300", "this connection has waited for its client for the longest time, and others need its place: try again (MaxStartups, MaxClients)")
