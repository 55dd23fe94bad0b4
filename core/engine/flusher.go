package engine

import (
	"context"
	"sync"
	"time"

	"blobpglite/core/clock"
)

// flusher makes durable what no answer waits for: with durability interval and sleep (the lazy ones) the clients' commits, with every
// durability what PostgreSQL's own processes write. An idle database makes no requests: only a write starts the timer of a flush.
//
//	strict     what was written in the background becomes durable after walWriterDelay, or with the next answer that waits
//	interval   everything becomes durable every FlushInterval of running time; an answer waits if that has passed
//	sleep      everything becomes durable when nothing has run for IdleFlush; no answer waits
type flusher struct {
	flusherEnv
	mu      sync.Mutex
	last    time.Duration // when the last flush began, by the monotonic clock
	touched time.Duration // when statements last ran
	waiting bool          // a flush is planned: its goroutine waits until it is due
}

// flusherEnv is everything a flusher knows of its engine, so that it can be tested without one.
type flusherEnv struct {
	clock       clock.Clock
	durability  Durability
	every, idle time.Duration // Options.FlushInterval, Options.IdleFlush
	allDurable  func() bool
	// flush makes everything durable that was taken so far. A failure poisons the engine.
	flush func(ctx context.Context)
	// background runs f until it returns or the engine ends, which ends f's context.
	background func(f func(ctx context.Context))
}

// walWriterDelay is how long a background write waits for an answer's flush, which would include it. PostgreSQL's own wal_writer_delay has
// passed before that. (PostgreSQL promises that a commit with synchronous_commit=off is durable within three of these; here the append
// comes on top.) With the lazy durabilities the write waits for their own flush.
const walWriterDelay = 200 * time.Millisecond

func newFlusher(env flusherEnv) *flusher { return &flusher{flusherEnv: env} }

// opened reports that the database was opened: running time begins here.
func (f *flusher) opened() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = f.clock.Monotonic()
}

// wrote reports a write that is not durable; unawaited: by one of PostgreSQL's own processes.
func (f *flusher) wrote(unawaited bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.durability {
	case Interval:
		f.later(f.every)
	case Sleep:
		f.touched = f.clock.Monotonic()
		f.later(f.idle)
	default:
		if unawaited {
			f.later(walWriterDelay)
		}
	}
}

// mustFlush reports, with the lazy durabilities, that an answer is about to leave, and says whether it must wait for a flush.
func (f *flusher) mustFlush() (waits bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Monotonic()
	durable := f.allDurable()
	if f.durability == Sleep {
		if f.touched = now; !durable {
			f.later(f.idle)
		}
		return false
	}
	switch {
	case durable:
		f.last = now
	case now-f.last >= f.every:
		f.last = now
		return true
	default:
		f.later(f.last + f.every - now)
	}
	return false
}

// later plans a flush after d, unless one is planned already. f.mu is held.
func (f *flusher) later(d time.Duration) {
	if f.waiting {
		return
	}
	f.waiting = true
	f.background(func(ctx context.Context) {
		for d > 0 {
			if f.clock.Sleep(ctx, d) != nil {
				return
			}
			d = f.remaining()
		}
		f.flush(ctx)
	})
}

// remaining is how much longer a planned flush waits: with durability sleep, until nothing has run for IdleFlush.
func (f *flusher) remaining() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Monotonic()
	if f.durability == Sleep {
		if left := f.touched + f.idle - now; left > 0 {
			return left
		}
	}
	f.waiting, f.last = false, now
	return 0
}
