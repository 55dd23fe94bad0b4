package gcsfront

import (
	"fmt"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// Rate limits how often one object name is written. Deletes and refused writes count.
type Rate struct {
	PerSecond float64 // sustained
	Burst     int     // at once, after a rest
}

// DefaultRate is about one write a second to a name, with a little patience.
// Source: cloud.google.com/storage/quotas#objects, read November 2026 (rate); the burst is a guess.
func DefaultRate() *Rate { return &Rate{PerSecond: 1, Burst: 3} }

// maxNames bounds the names that are remembered; beyond, those that have rested are forgotten.
const maxNames = 10_000

// limiter is a token bucket a name.
type limiter struct {
	rate  *Rate
	clock clock.Clock

	mu    sync.Mutex
	names map[string]tokens
}

type tokens struct {
	left float64
	at   time.Duration
}

func newLimiter(rate *Rate, clk clock.Clock) (*limiter, error) {
	if rate != nil && (rate.PerSecond <= 0 || rate.Burst < 1) {
		return nil, fmt.Errorf("rate of %g a second with a burst of %d: want both positive", rate.PerSecond, rate.Burst)
	}
	return &limiter{rate: rate, clock: clk, names: make(map[string]tokens)}, nil
}

// allow takes a token of the name, if there is one.
func (l *limiter) allow(name string) bool {
	if l.rate == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Monotonic()
	if len(l.names) >= maxNames {
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

// now returns the tokens a name has.
func (l *limiter) now(name string, now time.Duration) float64 {
	t, ok := l.names[name]
	if !ok {
		return float64(l.rate.Burst)
	}
	return min(float64(l.rate.Burst), t.left+(now-t.at).Seconds()*l.rate.PerSecond)
}

// forget drops the names that have all their tokens.
func (l *limiter) forget(now time.Duration) {
	for name := range l.names {
		if l.now(name, now) >= float64(l.rate.Burst) {
			delete(l.names, name)
		}
	}
}
