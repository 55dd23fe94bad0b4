package engine

import (
	"context"
	"time"
)

// An append is delayed for commits that are about to come, as PostgreSQL's commit_delay does where commit_siblings are there; how
// long, and for how many, is measured. The delay is at most delayLimit of what the last append took.
const (
	delayLimit = 0.9
	delaySlack = 2.5                    // of the time that the clients are expected to take; who comes later waits for a whole append
	delayMost  = 1.5                    // of what the last append took: that clients take longer once, for whatever reason, does not end the delays
	delayLeast = 200 * time.Microsecond // less is not worth it: a bucket next door
	delayShare = 4                      // of the newest in the mean
	delayTrial = 32                     // appends from one trial to the next
)

// pace is how clients come back.
type pace struct {
	group  int           // commits that waited when the last append ended
	let    int           // of these, those that it let go
	at     time.Duration // when, by the monotonic clock
	took   time.Duration // how long the append took
	isBack bool          // as many wait again
	back   time.Duration // what that takes when all were let go at once
	age    int           // appends since that was measured, and not reckoned
}

// delay waits for the clients that the last append has let go: they are about to commit again, and an append that left without them
// would split the clients into two halves that wait for each other's appends. With n clients, an append that takes t, and clients that
// are all back within r when all were let go at once, that is n commits in 2t, against n in t+r. So it waits if r is less than t, and
// not for clients that take longer, or do not come back. One client alone never waits. w.mu is held, and given up meanwhile.
func (w *logWriter) delay(ctx context.Context) {
	p := &w.pace
	limit := time.Duration(delayLimit * float64(p.took))
	trial := p.age >= delayTrial
	if w.closing || p.group < 2 || w.batches[0].sealed || p.back > limit && !trial {
		return
	}
	patience := min(time.Duration(delaySlack*float64(p.back)), limit)
	if trial {
		patience = limit
	}
	left := p.at + patience - w.clock.Monotonic()
	if patience < delayLeast || left <= 0 || w.queued() >= p.group {
		return
	}
	timer, back := w.clock.NewTimer(left), make(chan struct{})
	defer timer.Stop()
	w.back = back
	w.mu.Unlock()
	select {
	case <-back:
	case <-timer.C():
	case <-ctx.Done():
	}
	w.mu.Lock()
	w.back = nil
}

// allBack ends a delay if nobody is left to wait for. w.mu is held.
func (w *logWriter) allBack() {
	if w.back != nil && (w.closing || w.queued() >= w.pace.group) {
		close(w.back)
		w.back = nil
	}
}

// returned notes how long it has taken until as many wait as when the last append ended; over: that does not happen before the next one
// ends. Where only some were let go, more would have taken longer in proportion, if it is PostgreSQL that takes the time: that is
// reckoned where nothing else is known. w.mu is held.
func (w *logWriter) returned(over bool) {
	p := &w.pace
	if p.isBack || p.group < 2 || p.let == 0 || !over && w.queued() < p.group {
		return
	}
	p.isBack = true
	took := min(w.clock.Monotonic()-p.at, time.Duration(delayMost*float64(p.took)))
	switch {
	case 10*p.let >= 9*p.group:
		p.age = 0
		p.back += (took - p.back) / 2
	case p.age >= delayTrial:
		p.back += (took*time.Duration(p.group)/time.Duration(p.let) - p.back) / delayShare
	}
}

// queued is how many commits wait for what is not durable yet.
func (w *logWriter) queued() int {
	n := 0
	for _, b := range w.batches {
		n += b.waits
	}
	return n
}
