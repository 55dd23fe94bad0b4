// Package benchtest runs one step of a document in a test.
package benchtest

import (
	"fmt"
	"testing"

	"blobpglite/core/store"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

// Plan returns the first cell of a document that uses these verbs and checks, in addition to the common ones.
func Plan(t *testing.T, verbs bench.Verbs, checks []scenario.Named, text string) scenario.Cell {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text), verbs.Language(checks...))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Cells[0]
}

// Try runs one step, of a verb that needs no PostgreSQL, on a store and returns its verdict.
func Try(t *testing.T, verbs bench.Verbs, checks []scenario.Named, st store.Store, step string, rounds int, check string) (record.Verdict, []record.Check) {
	t.Helper()
	cell := Plan(t, verbs, checks, fmt.Sprintf(`
id: test
title: t
question: q
kill: k
decides: d
store: mem
probes:
  - id: test.1
    claim: c
    params: {rounds: %d}
    steps:
      - %s
    checks: [%s]
`, rounds, step, check))
	run := &bench.Run{
		Cell: cell, Seed: 1, Store: &bench.Store{Kind: "mem", Memory: st, Prefix: "test"}, Metrics: record.NewMetrics(), Verbs: verbs,
		Progress: func(string, int64, int64) {},
	}
	if verbs.NeedPostgres([]scenario.Cell{cell}) {
		t.Errorf("%s needs PostgreSQL", step)
	}
	err := run.Do(t.Context())
	metrics, listErr := run.Metrics.List()
	if listErr != nil {
		t.Fatal(listErr)
	}
	return run.Judge(err, metrics)
}
