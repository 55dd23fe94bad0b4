package step

import (
	"context"
	"errors"
	"strings"
	"testing"

	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/scenarios"
)

// TestBuiltInDocumentsFitTheRegistry loads every built-in document against the verbs that there are.
func TestBuiltInDocumentsFitTheRegistry(t *testing.T) {
	ids, err := scenarios.IDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		s, err := scenario.Load(id, Registry())
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		for _, profile := range []string{"ci", "default", "full"} {
			if _, err := s.Plan(scenario.Options{Profile: profile}); err != nil {
				t.Errorf("%s, profile %s: %v", id, profile, err)
			}
		}
	}
}

func TestRegistryDescribesEverything(t *testing.T) {
	text := Registry().Describe()
	for _, v := range verbs() {
		if !strings.Contains(text, v.Name) || v.Doc == "" || v.run == nil {
			t.Errorf("verb %q is not described or does nothing", v.Name)
		}
		for _, m := range v.Metrics {
			metrics := record.NewMetrics()
			metrics.Value(m.Name, 1)
			if _, err := metrics.List(); err != nil {
				t.Errorf("verb %q: %v", v.Name, err)
			}
		}
	}
}

// plan plans one cell of a document.
func plan(t *testing.T, text string) scenario.Cell {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(text), Registry())
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Cells[0]
}

const document = `
id: test
title: t
question: q
kill: k
decides: d
probes:
  - id: test.1
    claim: c
    params: {rounds: 1, size: 1MB}
    steps:
      - roundtrip: {size: $size, rounds: $rounds}
    checks: [checksum]
    expect:
      - metrics.restore_ms.n >= rounds
`

var errHarness = errors.New("the child did not start")

func TestJudge(t *testing.T) {
	metrics := record.NewMetrics()
	metrics.Value("restore_ms", 3)
	list, err := metrics.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		do   func(r *Run)
		err  error
		with []record.Metric
		want record.Verdict
	}{
		{"held", func(r *Run) { r.check(checkChecksum, "") }, nil, list, record.Pass},
		{"did not hold", func(r *Run) { r.check(checkChecksum, ""); r.check(checkChecksum, "chunk 3 differs") }, nil, list, record.Fail},
		{"never checked", func(*Run) {}, nil, list, record.Vacuous},
		{"never measured", func(r *Run) { r.check(checkChecksum, "") }, nil, nil, record.Broken},
		{"skipped", func(r *Run) { r.check(checkChecksum, ""); r.skip("no tool") }, nil, list, record.Vacuous},
		{"harness failed", func(r *Run) { r.check(checkChecksum, "") }, errHarness, list, record.Broken},
		{"took too long", func(r *Run) { r.check(checkChecksum, "") }, context.DeadlineExceeded, list, record.Timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Run{Cell: plan(t, document), failed: map[string]string{}, held: map[string]int{}}
			c.do(r)
			got, checks := r.Judge(c.err, c.with)
			if got != c.want {
				t.Errorf("verdict %v, want %v: %+v", got, c.want, checks)
			}
		})
	}
}

func TestSQLCasesAreTheSameEachTime(t *testing.T) {
	a, b := sqlCases(1000), sqlCases(1000)
	for i := range a {
		for n := range min(a[i].calls, 20) {
			if string(a[i].call(n)) != string(b[i].call(n)) {
				t.Errorf("%s: call %d differs between the two sides", a[i].name, n)
			}
		}
	}
}
