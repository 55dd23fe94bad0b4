package layers

import (
	"testing"
	"time"

	"blobpglite/runner/bench"
	"blobpglite/runner/bench/benchtest"
	"blobpglite/runner/record"
)

// TestPageLoad: a seed determines the changes, the nights are quiet except for the batch, and its table is dropped again.
func TestPageLoad(t *testing.T) {
	day := func(seed uint64) (*pageLoad, int) {
		l, err := newPageLoad(2<<20, seed)
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		for at := weekStep; at <= 24*time.Hour; at += weekStep {
			some, err := l.step(at)
			if err != nil {
				t.Fatal(err)
			}
			night := at%(24*time.Hour) < dayBegins || at >= dayEnds
			if some {
				steps++
			}
			if batch := at == batchAt || at == stagingEnds; some != (!night || batch) {
				t.Errorf("at %v something changes: %v", at, some)
			}
			if _, err := l.tree.Stat(stagingPath); (err == nil) != (at >= batchAt && at < stagingEnds) {
				t.Errorf("at %v the batch's table: %v", at, err)
			}
		}
		return l, steps
	}
	a, steps := day(1)
	b, _ := day(1)
	c, _ := day(2)
	if wrong, err := difference(a.tree, b.tree); wrong != "" || err != nil {
		t.Errorf("one seed made two days: %s, %v", wrong, err)
	}
	if wrong, err := difference(a.tree, c.tree); wrong == "" || err != nil {
		t.Errorf("two seeds made one day: %v", err)
	}
	if steps < 90 || steps > 100 {
		t.Errorf("something changed in %d steps", steps)
	}
}

// TestStoredLive lets a short day pass.
func TestStoredLive(t *testing.T) {
	text := `
id: test
title: t
question: q
kill: k
decides: d
probes:
  - id: test.1
    claim: c
    steps:
      - storedlive: {size: 2MB, days: 1, sample: 10}
    checks: [restored, collected]
    expect:
      - metrics.layers_count.min >= 90
      - metrics.restored_count.n >= 10
      - metrics.stored_ratio.max >= 1
`
	r := &bench.Run{Cell: benchtest.Plan(t, Verbs(), Checks(), text), Verbs: Verbs(), Metrics: record.NewMetrics(), Progress: func(string, int64, int64) {}, Seed: 3}
	err := r.Do(t.Context())
	list, listErr := r.Metrics.List()
	if verdict, checks := r.Judge(err, list); verdict != record.Pass || listErr != nil {
		t.Errorf("%v, %v: %+v", verdict, listErr, checks)
	}
}
