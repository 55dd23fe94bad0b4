package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/runner/history"
)

// fake answers like a database, without knowing any data.
type fake struct {
	mu    sync.Mutex
	asked []string
	fail  func(n int) error
	stall time.Duration
	clk   clock.Clock
}

func (f *fake) Query(ctx context.Context, sql string) ([][][]string, []string, error) {
	f.mu.Lock()
	f.asked = append(f.asked, sql)
	n := len(f.asked)
	f.mu.Unlock()
	if f.stall > 0 {
		if err := f.clk.Sleep(ctx, f.stall); err != nil {
			return nil, nil, err
		}
	}
	if f.fail != nil {
		if err := f.fail(n); err != nil {
			return nil, nil, err
		}
	}
	return [][][]string{{{"1"}}}, []string{"UPDATE 1"}, nil
}

func (f *fake) In(int64, string) Conn { return f }

func (f *fake) Copy(context.Context, int64, int, int) error { return nil }

var errLost = errors.New("the process ended")

func load(f *fake) Load {
	clk := clock.System()
	f.clk = clk
	return Load{
		Clients: 2, Mix: []string{"ledger", "register"}, Seed: 1, History: history.New(clk), Clock: clk,
		Target:  func() (Conn, string) { return f, "a" },
		Outcome: func(error) history.Outcome { return history.Unknown },
	}
}

// TestUnknownClientsGoOnUnderANewID: two operations of one client never overlap, even where one never ended.
func TestUnknownClientsGoOnUnderANewID(t *testing.T) {
	f := &fake{fail: func(n int) error {
		if n%4 == 0 {
			return errLost
		}
		return nil
	}}
	l := load(f)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for l.History.Len() < 60 {
		if err := l.Clock.Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	last := map[int64]history.Op{}
	unknown := 0
	for _, op := range l.History.Ops(0) {
		if before, ok := last[op.Client]; ok && before.End() > op.Call {
			t.Errorf("client %d asks %d while %d is open", op.Client, op.ID, before.ID)
		}
		last[op.Client] = op
		if op.Outcome == history.Unknown {
			unknown++
			if op.Error != errLost.Error() {
				t.Errorf("operation %d: error %q", op.ID, op.Error)
			}
		}
	}
	if unknown == 0 || len(last) < unknown {
		t.Errorf("%d clients, %d unknown outcomes", len(last), unknown)
	}
}

// TestOpenLoopCountsFromWhenItWasMeantToStart: at a rate that the database cannot keep up with, latency grows, because each request waits
// for those before it.
func TestOpenLoopCountsFromWhenItWasMeantToStart(t *testing.T) {
	f := &fake{stall: 4 * time.Millisecond}
	l := load(f)
	l.Clients, l.Rate = 1, 1000
	var mu sync.Mutex
	var latencies []time.Duration
	l.Latency = func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		latencies = append(latencies, d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	for l.History.Len() < 20 {
		if err := l.Clock.Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if first, last := latencies[0], latencies[len(latencies)-1]; last < first+30*time.Millisecond {
		t.Errorf("latency grew from %v to %v only", first, last)
	}
}

func TestLoadRefusesWhatItDoesNotKnow(t *testing.T) {
	l := load(&fake{})
	l.Mix = []string{"dance"}
	if err := l.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "dance") {
		t.Error(err)
	}
	l.Mix = nil
	if l.Run(t.Context()) == nil {
		t.Error("a load of nothing was run")
	}
	if !slices.Contains(Mixes(), "copy") {
		t.Error("copy is missing")
	}
}

func TestCopyRowsAreTheSameEachTime(t *testing.T) {
	a, b := CopyRow(nil, 3, 1, 100, 7), CopyRow(nil, 3, 1, 100, 7)
	if !bytes.Equal(a, b) || bytes.Equal(a, CopyRow(nil, 3, 2, 100, 7)) || bytes.Count(a, []byte("\t")) != 3 {
		t.Errorf("%s", a)
	}
}

func TestParseStateRefusesWhatIsMissing(t *testing.T) {
	if _, err := ParseState(nil); err == nil {
		t.Error("nothing was taken for a state")
	}
	parts := make([][][]string, 8)
	parts[0] = [][]string{{"1", "x", "h"}}
	if _, err := ParseState(parts); err == nil {
		t.Error("x was taken for a number")
	}
	parts[0] = nil
	parts[7] = [][]string{{"3"}}
	s, err := ParseState(parts)
	if err != nil || len(s.Blocks) != 1 || s.Blocks[0].Found != 3 {
		t.Errorf("rows without a digest: %s, %v", fmt.Sprint(s.Blocks), err)
	}
}
