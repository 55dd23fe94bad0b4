package model

import (
	"fmt"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// Rate limits how often one object name is written. Deletes and refused writes count.
type Rate struct {
	PerSecond float64 // sustained
	Burst     int     // in a row, after a rest
}

// DefaultRate is about one write a second per name, with a little patience. Source: cloud.google.com/storage/quotas#objects, read November
// 2026 (rate); the burst is a guess.
func DefaultRate() *Rate { return &Rate{PerSecond: 1, Burst: 3} }

// maxNames is how many names are remembered before those with all their tokens are forgotten. It doubles while more than half of them lack
// some: so a sweep costs each write no more than a few steps.
const maxNames = 10_000

// Limiter is a token bucket per name. Create it with NewLimiter; it is safe for concurrent use.
type Limiter struct {
	rate  *Rate
	clock clock.Clock

	mu    sync.Mutex
	names map[string]tokens
	sweep int // number of names that triggers a sweep
}

type tokens struct {
	left float64
	at   time.Duration
}

// NewLimiter checks the rate. A nil rate allows everything.
func NewLimiter(rate *Rate, clk clock.Clock) (*Limiter, error) {
	if rate != nil && (rate.PerSecond <= 0 || rate.Burst < 1) {
		return nil, fmt.Errorf("rate of %g a second with a burst of %d: want both positive", rate.PerSecond, rate.Burst)
	}
	return &Limiter{rate: rate, clock: clk, names: make(map[string]tokens), sweep: maxNames}, nil
}

// Allow takes one of the name's tokens, if there is one.
func (l *Limiter) Allow(name string) bool {
	if l.rate == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Monotonic()
	if len(l.names) >= l.sweep {
		l.forget(now)
	}
	left := l.now(name, now)
	if left < 1 {
		l.names[name] = tokens{left, now}
		return false
	}
	l.names[name] = tokens{left - 1, now}
	return true
}

// now returns how many tokens a name has.
func (l *Limiter) now(name string, now time.Duration) float64 {
	t, ok := l.names[name]
	if !ok {
		return float64(l.rate.Burst)
	}
	return min(float64(l.rate.Burst), t.left+(now-t.at).Seconds()*l.rate.PerSecond)
}

// forget drops the names that have all their tokens.
func (l *Limiter) forget(now time.Duration) {
	for name := range l.names {
		if l.now(name, now) >= float64(l.rate.Burst) {
			delete(l.names, name)
		}
	}
	l.sweep = max(maxNames, 2*len(l.names))
}
