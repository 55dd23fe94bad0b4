package clock

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Virtual is a Clock that moves only by Advance. Create it with NewVirtual. It is safe for concurrent use.
type Virtual struct {
	mu      sync.Mutex
	start   time.Time
	elapsed time.Duration
	timers  []*virtualTimer // unordered; few
	changed chan struct{}   // closed and replaced whenever a timer is added
}

type virtualTimer struct {
	clock *Virtual
	at    time.Duration
	ch    chan time.Time
}

// NewVirtual returns a clock whose wall reading is start and whose monotonic reading is zero.
func NewVirtual(start time.Time) *Virtual {
	return &Virtual{start: start, changed: make(chan struct{})}
}

// Now returns the start time plus everything advanced so far.
func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.start.Add(v.elapsed)
}

// Monotonic returns everything advanced so far.
func (v *Virtual) Monotonic() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.elapsed
}

// NewTimer returns a timer that fires when Advance has moved the clock by d.
func (v *Virtual) NewTimer(d time.Duration) Timer {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := &virtualTimer{clock: v, at: v.elapsed + d, ch: make(chan time.Time, 1)}
	if d <= 0 {
		t.ch <- v.start.Add(v.elapsed)
		return t
	}
	v.timers = append(v.timers, t)
	close(v.changed)
	v.changed = make(chan struct{})
	return t
}

// Sleep waits until Advance has moved the clock by d, or ctx is done.
func (v *Virtual) Sleep(ctx context.Context, d time.Duration) error { return sleep(ctx, v, d) }

// Advance moves the clock forward by d and fires the timers that come due, earliest first. A negative d panics:
// the monotonic reading never runs backwards.
func (v *Virtual) Advance(d time.Duration) {
	if d < 0 {
		panic("advance virtual clock: negative duration")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.elapsed += d
	slices.SortStableFunc(v.timers, func(a, b *virtualTimer) int { return cmp.Compare(a.at, b.at) })
	due := 0
	for due < len(v.timers) && v.timers[due].at <= v.elapsed {
		t := v.timers[due]
		t.ch <- v.start.Add(t.at)
		due++
	}
	v.timers = slices.Delete(v.timers, 0, due)
}

// Pending returns the number of timers (sleepers included) that wait for the clock to move.
func (v *Virtual) Pending() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.timers)
}

// AwaitPending returns once at least n timers wait for the clock to move. A test calls it before Advance, to be sure that
// the code under test is waiting. It returns the context's error if ctx is done first.
func (v *Virtual) AwaitPending(ctx context.Context, n int) error {
	for {
		v.mu.Lock()
		have, changed := len(v.timers), v.changed
		v.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *virtualTimer) C() <-chan time.Time { return t.ch }

func (t *virtualTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	i := slices.Index(t.clock.timers, t)
	if i < 0 {
		return false
	}
	t.clock.timers = slices.Delete(t.clock.timers, i, i+1)
	return true
}
