package engine

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blobpglite/core/clock"
)

// flushing is a log with a flusher, and without an engine.
type flushing struct {
	*flusher
	mu      sync.Mutex
	durable bool
	flushes []time.Duration // when, since the opening
	began   time.Time
	end     context.CancelFunc
	running sync.WaitGroup
}

func newFlushing(t *testing.T, d Durability) *flushing {
	t.Helper()
	f := &flushing{durable: true, began: time.Now()}
	ctx, end := context.WithCancel(t.Context())
	f.end = end
	f.flusher = newFlusher(flusherEnv{
		clock: clock.System(), durability: d, every: 200 * time.Millisecond, idle: time.Second,
		allDurable: func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.durable
		},
		flush: func(context.Context) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.durable = true
			f.flushes = append(f.flushes, time.Since(f.began))
		},
		background: func(run func(context.Context)) { f.running.Go(func() { run(ctx) }) },
	})
	f.flusher.opened()
	atEnd(t, func() { end(); f.running.Wait() })
	return f
}

// writes adds something that is written and not durable.
func (f *flushing) writes(unawaited bool) {
	f.mu.Lock()
	f.durable = false
	f.mu.Unlock()
	f.wrote(unawaited)
}

// at waits until so long after the opening.
func (f *flushing) at(d time.Duration) {
	pass(d - time.Since(f.began))
}

// pass lets time pass, in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (f *flushing) want(t *testing.T, what string, at ...time.Duration) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.flushes) != len(at) {
		t.Fatalf("%s: flushed at %v, want %v", what, f.flushes, at)
	}
	for i := range at {
		if f.flushes[i] != at[i] {
			t.Fatalf("%s: flushed at %v, want %v", what, f.flushes, at)
		}
	}
}

const ms = time.Millisecond

// Writes that a client awaits need no flush; what PostgreSQL writes by itself becomes durable a moment later, in one go.
func TestFlusherStrict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlushing(t, Strict)
		f.writes(false)
		pass(time.Hour)
		f.want(t, "a client's")
		began := time.Since(f.began)
		f.writes(true)
		pass(50 * ms)
		f.writes(true)
		pass(time.Hour)
		f.want(t, "PostgreSQL's own", began+walWriterDelay)
	})
}

// Every so long of running time, and nothing at rest.
func TestFlusherInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlushing(t, Interval)
		if f.mustFlush() {
			t.Error("an answer waits for nothing")
		}
		f.writes(false)
		f.at(50 * ms)
		if f.mustFlush() {
			t.Error("an answer waits though the interval has not passed")
		}
		f.at(time.Minute)
		f.want(t, "written", 200*ms)
		if f.mustFlush() {
			t.Error("an answer waits though all is durable")
		}
		// The flush of what is written now comes 200 ms later; an answer that leaves when the last flush is older than that waits.
		f.writes(false)
		f.at(time.Minute + 250*ms)
		f.want(t, "written again", 200*ms, time.Minute+200*ms)
		f.mu.Lock()
		f.durable = false // the append is on its way
		f.mu.Unlock()
		f.at(time.Minute + 400*ms)
		if !f.mustFlush() {
			t.Error("an answer does not wait though the interval has passed and not all is durable")
		}
		if f.mustFlush() {
			t.Error("a second answer waits too, a moment later")
		}
	})
}

// When nothing has run for long enough: whatever runs puts it off.
func TestFlusherSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlushing(t, Sleep)
		f.writes(false)
		for i := range 5 { // statements that write nothing, 0.9 s apart
			f.at(time.Duration(i+1) * 900 * ms)
			if f.mustFlush() {
				t.Fatal("an answer waits")
			}
			f.want(t, "while something runs")
		}
		f.at(time.Minute)
		f.want(t, "at rest", 5500*ms)
		if f.mustFlush(); f.waiting {
			t.Error("a flush is to come though all is durable")
		}
	})
}

// The end of the engine ends it.
func TestFlusherEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlushing(t, Interval)
		f.writes(false)
		f.end()
		f.running.Wait()
		pass(time.Hour)
		f.want(t, "after the end")
	})
}
