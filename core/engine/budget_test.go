package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blobpglite/core/clock"
)

// behind is the budget of a log that has grown by this many records since the layer, which takes a second to restore.
func behind(clk clock.Clock, restore time.Duration, records int64, each time.Duration) *budget {
	b := &budget{budgetEnv: budgetEnv{clock: clk, restore: restore, record: each}}
	b.records.Store(records)
	b.layerTime.Store(int64(time.Second))
	return b
}

// TestLayerIsDue: half of the budget starts a layer; without a budget a pause comes first, unless the log has grown to twice what the layer
// takes.
func TestLayerIsDue(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	clk := clock.NewVirtual(time.Unix(0, 0))
	clk.Advance(time.Second)
	for _, c := range []struct {
		name    string
		budget  time.Duration
		records int64 // a millisecond each
		pause   time.Duration
		want    bool
	}{
		{"less than half of a budget", 400 * ms, 199, 0, false},
		{"half of a budget", 400 * ms, 200, 0, true},
		{"half of a budget, in the pause", 400 * ms, 200, time.Hour, true},
		{"never", -1, 1 << 20, 0, false},
		{"no budget, less than half of the layer", 0, 499, 0, false},
		{"no budget, half of the layer", 0, 500, 0, true},
		{"no budget, the pause has just ended", 0, 500, time.Second, true},
		{"no budget, in the pause", 0, 1999, time.Hour, false},
		{"no budget, in the pause, twice of the layer", 0, 2000, time.Hour, true},
	} {
		b := behind(clk, c.budget, c.records, ms)
		b.pause.Store(int64(c.pause))
		if got := b.due(); got != c.want {
			t.Errorf("%s: due is %v", c.name, got)
		}
	}
}

// TestLogFitsIntoMemory: however long a restore may take, the log that it has in memory is bounded by the cache.
func TestLogFitsIntoMemory(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	clk := clock.NewVirtual(time.Unix(0, 0))
	clk.Advance(time.Second)
	for _, c := range []struct {
		bytes         int64
		wanted, must  bool // the second: in the pause too
		budget, pause time.Duration
	}{
		{24 << 20, false, false, 0, time.Hour}, {25 << 20, true, false, 0, time.Hour}, {50 << 20, true, true, 0, time.Hour}, {50 << 20, false, false, -1, 0},
	} {
		b := behind(clk, c.budget, 0, ms)
		b.layerTime.Store(int64(time.Hour))
		b.cache = 100 << 20
		b.bytes.Store(c.bytes)
		b.pause.Store(int64(c.pause))
		if b.wanted() != c.wanted || b.due() != c.must {
			t.Errorf("%d bytes: wanted %v, due %v", c.bytes, b.wanted(), b.due())
		}
	}
}

// TestCommitsWaitForALayer: at the budget, or at four times what the layer takes, and only while one is under way.
func TestCommitsWaitForALayer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		budget     time.Duration
		records    int64
		compacting bool
		want       bool
	}{
		{"below the budget", 400 * time.Millisecond, 399, true, false},
		{"at the budget", 400 * time.Millisecond, 400, true, true},
		{"at the budget, and no layer on its way", 400 * time.Millisecond, 400, false, false},
		{"no budget, below four layers", 0, 3999, true, false},
		{"no budget, at four layers", 0, 4000, true, true},
		{"never", -1, 1 << 20, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := &logMode{budget: behind(clock.System(), c.budget, c.records, time.Millisecond)}
			m.compacting.Store(c.compacting)
			if got, _ := heldBack(t, m, func(context.CancelFunc) {}); got != c.want {
				t.Errorf("%s: a commit waits: %v", c.name, got)
			}
			if !c.want {
				return
			}
			for how, ends := range map[string]func(context.CancelFunc){
				"the layer is taken": func(context.CancelFunc) { m.budget.covered(1, 0) },
				"it has failed":      func(context.CancelFunc) { m.compacted() },
				"the client leaves":  func(leave context.CancelFunc) { leave() },
			} {
				m.compacting.Store(true)
				m.budget.records.Store(c.records)
				if before, after := heldBack(t, m, ends); !before || after {
					t.Errorf("%s: it waits: %v; when %s: %v", c.name, before, how, after)
				}
			}
		})
	}
}

// heldBack says whether a commit waits, and whether it still does after ends was called.
func heldBack(t *testing.T, m *logMode, ends func(leave context.CancelFunc)) (before, after bool) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.backpressure(ctx) }()
	waits := func() bool {
		synctest.Wait()
		select {
		case <-done:
			return false
		default:
			return true
		}
	}
	before = waits()
	ends(leave)
	after = waits()
	leave()
	<-done
	return before, after
}

// TestRecordTime: the time per record follows the appends, between a nearby bucket and Cloud Storage.
func TestRecordTime(t *testing.T) {
	t.Parallel()
	b := &budget{}
	if got := b.recordTime(); got != replayRecord {
		t.Errorf("before any append: %v", got)
	}
	b.appended(0, 20*time.Microsecond)
	if got := b.recordTime(); got != minRecord {
		t.Errorf("next door: %v", got)
	}
	for range 100 {
		b.appended(0, 16*time.Millisecond)
	}
	if got := b.recordTime(); got < 490*time.Microsecond || got > 500*time.Microsecond {
		t.Errorf("at 16 ms an append: %v", got)
	}
	for range 100 {
		b.appended(0, time.Second)
	}
	if got := b.recordTime(); got != replayRecord {
		t.Errorf("at a second an append: %v", got)
	}
	b.record = time.Millisecond
	if got := b.recordTime(); got != time.Millisecond {
		t.Errorf("said to be a millisecond: %v", got)
	}
}

// TestFailedLayersArePutOff: after a failed layer the next one waits, longer each time, however large the log.
func TestFailedLayersArePutOff(t *testing.T) {
	t.Parallel()
	clk := clock.NewVirtual(time.Unix(1, 0))
	b := &budget{budgetEnv: budgetEnv{clock: clk, crowded: func() bool { return true }}}
	for _, wait := range []time.Duration{firstRetry, 2 * firstRetry, 4 * firstRetry} {
		b.tried(false)
		clk.Advance(wait - 1)
		if b.due() {
			t.Errorf("the next one is begun before %v", wait)
		}
		clk.Advance(1)
		if !b.due() {
			t.Errorf("it is not begun behind %v", wait)
		}
	}
	for range 80 {
		b.tried(false)
	}
	clk.Advance(lastRetry)
	if !b.due() {
		t.Error("it is never begun again")
	}
	b.tried(true)
	b.tried(false)
	clk.Advance(firstRetry)
	if !b.due() {
		t.Error("what failed before the last one succeeded counts")
	}
}
