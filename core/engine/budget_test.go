package engine

import (
	"context"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/wal"
)

// behind is a mode whose log has grown by so many records since the layer, which takes a second to restore.
func behind(clk clock.Clock, o Options, records int64, each time.Duration) *logMode {
	o.Clock, o.RecordTime = clk, each
	m := &logMode{o: &o}
	m.records.Store(records)
	m.layerTime.Store(int64(time.Second))
	return m
}

// TestLayerIsDue: half of the budget starts a layer; without a budget a pause comes first, unless the log has grown to
// twice of what the layer takes.
func TestLayerIsDue(t *testing.T) {
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
		m := behind(clk, Options{RestoreBudget: c.budget}, c.records, ms)
		m.pause.Store(int64(c.pause))
		if got := m.due(); got != c.want {
			t.Errorf("%s: due is %v", c.name, got)
		}
	}
}

// TestLogFitsIntoMemory: however long a restore may take, the log that it has in memory is bounded by the cache.
func TestLogFitsIntoMemory(t *testing.T) {
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
		m := behind(clk, Options{RestoreBudget: c.budget}, 0, ms)
		m.layerTime.Store(int64(time.Hour))
		m.cache = &cache{budget: 100 << 20}
		m.bytes.Store(c.bytes)
		m.pause.Store(int64(c.pause))
		if m.wanted() != c.wanted || m.due() != c.must {
			t.Errorf("%d bytes: wanted %v, due %v", c.bytes, m.wanted(), m.due())
		}
	}
}

// TestCommitsWaitForALayer: at the budget, or at four times of what the layer takes, and only while one is on its way.
func TestCommitsWaitForALayer(t *testing.T) {
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
		clk := clock.NewVirtual(time.Unix(0, 0))
		m := behind(clk, Options{RestoreBudget: c.budget}, c.records, time.Millisecond)
		m.compacting.Store(c.compacting)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); m.throttle(ctx) }()
		if c.want {
			if err := clk.AwaitPending(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		} else {
			<-done
		}
		cancel()
		<-done
	}
}

// TestRecordTime: what a record takes follows the appends, between a bucket next door and Cloud Storage.
func TestRecordTime(t *testing.T) {
	m := &logMode{o: &Options{}}
	if got := m.recordTime(); got != replayRecord {
		t.Errorf("before any append: %v", got)
	}
	m.requested(20 * time.Microsecond)
	if got := m.recordTime(); got != minRecord {
		t.Errorf("next door: %v", got)
	}
	for range 100 {
		m.requested(16 * time.Millisecond)
	}
	if got := m.recordTime(); got < 490*time.Microsecond || got > 500*time.Microsecond {
		t.Errorf("at 16 ms an append: %v", got)
	}
	for range 100 {
		m.requested(time.Second)
	}
	if got := m.recordTime(); got != replayRecord {
		t.Errorf("at a second an append: %v", got)
	}
	m.o.RecordTime = time.Millisecond
	if got := m.recordTime(); got != time.Millisecond {
		t.Errorf("said to be a millisecond: %v", got)
	}
}

// TestGather: an append waits for clients that are expected back sooner than it takes itself, and for no others. On this clock a
// wait is for ever.
func TestGather(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		pace  pace
		waits bool
	}{
		"they are back soon":                      {pace{group: 10, let: 10, took: 40 * ms, back: 10 * ms}, true},
		"they are back later than the next":       {pace{group: 10, let: 10, took: 40 * ms, back: 50 * ms}, false},
		"that was long ago, and is tried again":   {pace{group: 10, let: 10, took: 40 * ms, back: 50 * ms, age: gatherTrial}, true},
		"one client alone":                        {pace{group: 1, let: 1, took: 40 * ms, back: ms}, false},
		"a bucket next door":                      {pace{group: 10, let: 10, took: gatherLook / 2, age: gatherTrial}, false},
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
			w.gather(ctx)
		}()
		<-done
		cancel()
		if got := <-waited; got != c.waits {
			t.Errorf("%s: it waited: %v, want %v", name, got, c.waits)
		}
	}
}

// TestPace: what is known of clients that were all let go at once counts; of others it is reckoned, while nothing is known.
func TestPace(t *testing.T) {
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

// TestOneStallDoesNotEndTheGathering: clients that come back soon are waited for also after they have once taken long; if they take long
// again and again, they are not.
func TestOneStallDoesNotEndTheGathering(t *testing.T) {
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
		return w.pace.back <= time.Duration(gatherLimit*float64(took))
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
