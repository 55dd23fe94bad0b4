package layers

import (
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
	"blobpglite/runner/bench/benchtest"
	"blobpglite/runner/record"
)

// TestGrowthIsJudged: growth beyond the normal variation of traffic is reported, and so is a quantity that was never measured.
func TestGrowthIsJudged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first, last float64
		says        string
	}{
		{10, 13.5, ""}, {10, 13.6, "list_count of a wake has grown from 10.0 to 13.6 over 7 wakes"}, {10, 1, ""}, {1, 1.8, ""}, {1, 1.9, "has grown"}, {0, 0, "it was not measured"},
	} {
		if wrong := grew("list_count", c.first, c.last, 1.3, 7); !strings.Contains(wrong, c.says) || c.says == "" && wrong != "" {
			t.Errorf("from %v to %v: %q, want %q", c.first, c.last, wrong, c.says)
		}
	}
}

// TestGrowth: the verb measures each thing that it judges at both ends, and a week is bounded.
func TestGrowth(t *testing.T) {
	t.Parallel()
	verdict, checks := benchtest.Try(t, Verbs(), Checks(), mem.New(mem.Options{}), "growth: {days: 7}", 1, "bounded, verified")
	if verdict != record.Pass || !strings.Contains(checks[0].Detail, "held 7 times") {
		t.Errorf("%v: %+v", verdict, checks)
	}
}

// TestPagesOfLists: a list is one request per thousand objects, and whether it began where the log begins is recorded.
func TestPagesOfLists(t *testing.T) {
	t.Parallel()
	p := &paged{Store: mem.New(mem.Options{})}
	for seq := range uint64(2*store.PageSize + 1) {
		if _, err := p.Put(t.Context(), wal.Key(seq+1), nil, store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		prefix, after string
		pages         int64
		whole         bool
	}{{"base/", "", 1, false}, {wal.Prefix(), wal.Key(store.PageSize), 2, false}, {wal.Prefix(), "", 3, true}} {
		p.pages, p.whole = 0, false
		for _, err := range p.List(t.Context(), c.prefix, c.after) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if p.pages != c.pages || p.whole != c.whole {
			t.Errorf("%s behind %q: %d pages, the whole log: %v; want %d, %v", c.prefix, c.after, p.pages, p.whole, c.pages, c.whole)
		}
	}
}
