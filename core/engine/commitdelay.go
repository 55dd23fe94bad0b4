package engine

import (
	"context"
	"time"
)

// An append is delayed for commits that are about to arrive, like PostgreSQL's commit_delay with commit_siblings; the length of the delay
// and the number of commits to wait for are measured. The delay is at most delayLimit of the time that the last append took.
const (
	delayLimit = 0.9
	delaySlack = 2.5                    // times how long the clients are expected to take; a later one waits for a whole append
	delayMost  = 1.5                    // times what the last append took: one slow round of the clients does not end the delays
	delayLeast = 200 * time.Microsecond // a shorter delay is not worth it: the store is on the same machine
	delayShare = 4                      // a new measurement has a weight of 1/delayShare in the mean
	delayTrial = 32                     // appends between two trials
)

// pace measures how fast clients commit again after an append.
type pace struct {
	group  int           // commits waiting when the last append ended
	let    int           // of these, the ones it made durable
	at     time.Duration // when it ended, by the monotonic clock
	took   time.Duration // how long the append took
	isBack bool          // as many are waiting again
	back   time.Duration // how long that takes when all are released together
	age    int           // appends since back was last measured rather than estimated
}

// delay waits for the clients whose commits the last append made durable: they are about to commit again, and an append without them would
// split the clients into two halves that wait for each other's appends. With n clients, an append that takes t, and clients that all commit
// again within r of being released together, that is n commits in 2t, against n in t+r. So it waits if r is less than t, but not for
// clients that take longer or do not commit again. A single client never waits. w.mu is held, and released during the wait.
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

// allBack ends a delay once all expected clients have committed. w.mu is held.
func (w *logWriter) allBack() {
	if w.back != nil && (w.closing || w.queued() >= w.pace.group) {
		close(w.back)
		w.back = nil
	}
}

// returned records how long it took until as many commits wait as when the last append ended; over: the next append ended before that
// happened. If only some clients were released, all would have taken proportionally longer, as PostgreSQL runs one at a time; that estimate
// is used while nothing was measured. w.mu is held.
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

// queued is the number of commits waiting to become durable.
func (w *logWriter) queued() int {
	n := 0
	for _, b := range w.batches {
		n += b.waits
	}
	return n
}
