package bench

import (
	"context"
	"errors"
	"testing"

	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

const document = `
id: test
title: t
question: q
kill: k
decides: d
probes:
  - id: test.1
    claim: c
    params: {rounds: 1}
    steps:
      - nothing: {rounds: $rounds}
    checks: [checksum]
    expect:
      - metrics.restore_ms.n >= rounds
`

var errHarness = errors.New("the child did not start")

// nothingVerb does what its name says.
func nothingVerb() Verb {
	return Verb{
		Verb: scenario.Verb{
			Name: "nothing", Args: []scenario.Arg{{Name: "rounds", Kind: scenario.KindInt}},
			Metrics: MetricDocs("restore_ms", "never measured"),
		},
		Run: func(context.Context, *Run, scenario.Args) error { return nil },
	}
}

// plan plans the document.
func plan(t *testing.T) scenario.Cell {
	t.Helper()
	s, err := scenario.Parse("test.yaml", []byte(document), Verbs{nothingVerb()}.Language())
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Cells[0]
}

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
		{"held", func(r *Run) { r.Check(CheckChecksum, "") }, nil, list, record.Pass},
		{"did not hold", func(r *Run) { r.Check(CheckChecksum, ""); r.Check(CheckChecksum, "chunk 3 differs") }, nil, list, record.Fail},
		{"never checked", func(*Run) {}, nil, list, record.Vacuous},
		{"never measured", func(r *Run) { r.Check(CheckChecksum, "") }, nil, nil, record.Broken},
		{"skipped", func(r *Run) { r.Check(CheckChecksum, ""); r.Vacuous("no tool") }, nil, list, record.Vacuous},
		{"harness failed", func(r *Run) { r.Check(CheckChecksum, "") }, errHarness, list, record.Broken},
		{"took too long", func(r *Run) { r.Check(CheckChecksum, "") }, context.DeadlineExceeded, list, record.Timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Run{Cell: plan(t)}
			c.do(r)
			got, checks := r.Judge(c.err, c.with)
			if got != c.want {
				t.Errorf("verdict %v, want %v: %+v", got, c.want, checks)
			}
		})
	}
}

// TestNothingExpected: a cell without checks and expectations records what it measures; one that measures nothing has tested nothing.
func TestNothingExpected(t *testing.T) {
	metrics := record.NewMetrics()
	metrics.Value("restore_ms", 3)
	list, err := metrics.List()
	if err != nil {
		t.Fatal(err)
	}
	if got, checks := (&Run{}).Judge(nil, list); got != record.Recorded || len(checks) != 0 {
		t.Errorf("measured: %v, %+v", got, checks)
	}
	if got, _ := (&Run{}).Judge(nil, nil); got != record.Vacuous {
		t.Errorf("measured nothing: %v", got)
	}
	if got, _ := (&Run{}).Judge(errHarness, list); got != record.Broken {
		t.Errorf("broken: %v", got)
	}
}
