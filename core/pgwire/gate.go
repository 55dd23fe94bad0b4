package pgwire

import (
	"context"
	"maps"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// gate bounds connections. A connection that waits for its client must not keep others out, and the client is told the reason of every
// refusal.
//
//	start-up     the client has not sent its startup packet yet. At most MaxStartups; for one more, the oldest is evicted (53300)
//	place        the connection has a process. At most MaxClients, and Reserved more, which PostgreSQL gives only to superusers; one more
//	             gets 53300. But first a connection that has owed its password for longer than patience is evicted
type gate struct {
	clock                            clock.Clock
	maxStartups, maxPlaces, ordinary int

	mu       sync.Mutex
	startups map[*arrival]struct{}
	places   map[*arrival]struct{}
	changed  chan struct{} // closed when a place may have become free
	refusals map[string]int64

	cancels chan struct{} // a token for each cancel request being passed on
}

// maxCancels bounds the cancel requests passed on at a time: each takes a process, and anybody can send one.
const maxCancels = 4

// arrival is a connection in the gate.
type arrival struct {
	since   time.Duration // when its current wait for the client began
	asked   bool          // it has a place, and its client has been asked for a password
	evicted bool          // it must end
	gone    chan struct{} // closed when it is evicted
	evict   func()        // called when it is evicted: it interrupts reads from the client, and must not call the gate
}

// patience is how long a client may take for its startup packet, and for its password, while another connection waits for its place.
const patience = time.Second

// Reasons of refusals, the keys of Stats.Refusals.
const (
	refusedClients  = "too many clients"
	refusedStartups = "too many at the start-up"
	refusedSlow     = "slow start-up"
	refusedTLS      = "TLS handshake"
	refusedOther    = "other"
)

// refusedCode is the reason of a refusal with a given SQLSTATE.
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

// arrive admits a connection to the start-up. If MaxStartups are already there, it waits until the oldest one has used up patience, and
// evicts it. Its error is ctx's.
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

// startAgain moves a connection whose process has ended from its place back to the start-up.
func (g *gate) startAgain(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !a.evicted {
		delete(g.places, a)
		g.change()
		g.begin(a)
	}
}

// begin adds a to the start-up, and evicts the oldest there if it is full. g.mu is held.
func (g *gate) begin(a *arrival) {
	if len(g.startups) >= g.maxStartups {
		first := oldest(g.startups, anyone)
		delete(g.startups, first)
		first.goAway()
	}
	a.since = g.clock.Monotonic()
	g.startups[a] = struct{}{}
}

// wait waits until changed is closed, d has passed or a is evicted. Its error is ctx's.
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

// goAway evicts a. The gate's mutex is held.
func (a *arrival) goAway() {
	a.evicted = true
	close(a.gone)
	a.evict()
}

// oldest returns the arrival that has waited longest, among those that which selects; nil: there is none.
func oldest(among map[*arrival]struct{}, which func(*arrival) bool) (first *arrival) {
	for a := range among {
		if which(a) && (first == nil || a.since < first.since) {
			first = a
		}
	}
	return first
}

// place moves a connection from the start-up to a place, for which it may wait. reserved: the place is for superusers only.
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
			return false, failure("53300", "sorry, too many clients already: there are %d connections, which is the limit (MaxClients)", g.maxPlaces)
		}
		if err := g.wait(ctx, a, wait, changed); err != nil {
			return false, err
		}
	}
}

// makeRoom evicts the connection that has owed its password longest, if patience has passed, and returns how long to wait before looking
// again. some: a place may become free. g.mu is held.
func (g *gate) makeRoom() (wait time.Duration, some bool) {
	if oldest(g.places, func(a *arrival) bool { return a.evicted }) != nil {
		return patience, true // its place is about to become free
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

// asked records that a connection with a place has asked its client for a password.
func (g *gate) asked(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !a.asked {
		a.asked, a.since = true, g.clock.Monotonic()
	}
}

// entered records that the client is authenticated and can no longer be evicted. errEvicted: it was evicted just before.
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

// leave removes a connection, from the start-up or from its place.
func (g *gate) leave(a *arrival) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.startups, a)
	delete(g.places, a)
	g.change()
}

// change wakes the goroutines that wait for a place. g.mu is held.
func (g *gate) change() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// isEvicted says whether a connection was evicted.
func (g *gate) isEvicted(a *arrival) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return a.evicted
}

// cancel waits until one more cancel request may be passed on; done must be called afterwards. may is false when no connection has a place,
// as then there is nothing to cancel, and when a is evicted or ctx ends.
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

// refusalCounts returns the refusals so far, by reason.
func (g *gate) refusalCounts() map[string]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.refusals)
}

// errEvicted: the connection had to make room for another one.
var errEvicted = failure("53300", "this connection has waited the longest for its client to log in, and others need its place: try again (MaxStartups, MaxClients)")
