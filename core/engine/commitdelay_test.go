package engine

import (
	"context"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/wal"
)

// TestCommitDelay: an append waits for clients that are expected back sooner than the append itself takes, and for no others. On this clock
// a wait is forever.
func TestCommitDelay(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		pace  pace
		waits bool
	}{
		"they are back soon":                      {pace{group: 10, let: 10, took: 40 * ms, back: 10 * ms}, true},
		"they are back later than the next":       {pace{group: 10, let: 10, took: 40 * ms, back: 50 * ms}, false},
		"that was long ago, and is tried again":   {pace{group: 10, let: 10, took: 40 * ms, back: 50 * ms, age: delayTrial}, true},
		"one client alone":                        {pace{group: 1, let: 1, took: 40 * ms, back: ms}, false},
		"a bucket next door":                      {pace{group: 10, let: 10, took: delayLeast / 2, age: delayTrial}, false},
		"they are there":                          {pace{group: 2, let: 2, took: 40 * ms, back: 10 * ms}, false},
		"they were waited for as long as it pays": {pace{group: 10, let: 10, took: 40 * ms, back: 10 * ms, at: -25 * ms}, false},
	} {
		clk := clock.NewVirtual(time.Unix(0, 0))
		w := newLogWriter(clk, wal.Position{}, nil)
		w.batches = []*batch{{last: 1, waits: 2}}
		w.pace = c.pace
		ctx, cancel := context.WithCancel(t.Context())
		done, waited := make(chan struct{}), make(chan bool, 1)
		go func() {
			err := clk.AwaitPending(ctx, 1)
			cancel()
			waited <- err == nil
		}()
		go func() {
			defer close(done)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.delay(ctx)
		}()
		<-done
		cancel()
		if got := <-waited; got != c.waits {
			t.Errorf("%s: it waited: %v, want %v", name, got, c.waits)
		}
	}
}

// TestCommitDelayEnds: with the last client that was waited for, and with the writer; the clock stands still.
func TestCommitDelayEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *logWriter){
		"the last client is back": func(t *testing.T, w *logWriter) {
			if b, err := w.want(1, 1); b == nil || err != nil {
				t.Fatalf("no batch: %v", err)
			}
		},
		"the writer is closed": func(_ *testing.T, w *logWriter) {
			close(w.done) // nothing is shipped here
			w.close()
		},
	} {
		clk := clock.NewVirtual(time.Unix(0, 0))
		w := newLogWriter(clk, wal.Position{}, nil)
		w.batches = []*batch{{last: 1, waits: 2}}
		w.pace = pace{group: 3, let: 3, took: 40 * time.Millisecond, back: 10 * time.Millisecond}
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.delay(context.Background())
		}()
		if err := clk.AwaitPending(t.Context(), 1); err != nil {
			t.Fatal(name, err)
		}
		end(t, w)
		<-done
	}
}

// TestPace: a measurement of clients that were all released at once counts; if only some were, the time is estimated, as long as nothing
// was measured.
func TestPace(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	clk := clock.NewVirtual(time.Unix(0, 0))
	w := newLogWriter(clk, wal.Position{}, nil)
	w.batches = []*batch{{waits: 10}}
	round := func(let int, back time.Duration) {
		w.pace.group, w.pace.let, w.pace.at, w.pace.took, w.pace.isBack = 10, let, clk.Monotonic(), 40*ms, false
		w.pace.age++
		clk.Advance(back)
		w.returned(false)
		w.returned(true) // it has been noted
	}
	for range 40 {
		round(5, 10*ms)
	}
	if got := w.pace.back.Round(ms); got != 20*ms {
		t.Errorf("reckoned from half of them: %v", got)
	}
	for range 10 {
		round(10, 12*ms)
		round(5, 10*ms)
	}
	if got := w.pace.back.Round(ms); got != 12*ms {
		t.Errorf("measured: %v", got)
	}
}

// TestOneStallDoesNotEndTheDelays: quick clients are still waited for after they were slow once; if they are slow again and again, they are
// not.
func TestOneStallDoesNotEndTheDelays(t *testing.T) {
	t.Parallel()
	const clients, took, back = 64, 50 * time.Millisecond, 13 * time.Millisecond
	clk := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w := newLogWriter(clk, wal.Position{}, nil)
	comeBack := func(within time.Duration) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.pace.group, w.pace.let, w.pace.at, w.pace.took, w.pace.isBack = clients, clients, clk.Monotonic(), took, false
		clk.Advance(within)
		w.batches = []*batch{{waits: clients}}
		w.returned(false)
	}
	waits := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.pace.back <= time.Duration(delayLimit*float64(took))
	}
	for range 20 {
		comeBack(back)
	}
	comeBack(time.Second)
	if !waits() {
		t.Errorf("after one second they are expected to take %v", w.pace.back)
	}
	for range 3 {
		comeBack(time.Second)
	}
	if waits() {
		t.Errorf("after four seconds they are expected to take %v", w.pace.back)
	}
}
