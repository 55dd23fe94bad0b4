package main

import (
	"strings"
	"testing"

	"blobpglite/runner/record"
)

// numbersOf has a line of each kind that a sentence may name.
func numbersOf() selection {
	line := func(scenario, probe, profile string, params map[string]any, fired int64, metrics ...record.Metric) record.Record {
		r := record.Record{Scenario: scenario, Probe: probe, Profile: profile, Params: params, Rounds: 20, Verdict: record.Pass, Metrics: metrics, Env: record.Env{Machine: "m", Target: "local"}}
		r.Faults = append(r.Faults, record.Fault{Fired: fired})
		return r
	}
	ms := record.Metric{Name: "x_ms", Unit: "ms", N: 3, P50: 45.6, P99: 60, Min: 40, Max: 70}
	rate := record.Metric{Name: "y_per_s", Unit: "per_s", N: 1, P50: 1233.4}
	small, cloud := line("e9", "e9.1", "ci", nil, 1000), line("e9", "e9.1", "full", nil, 7000)
	cloud.Env.Target = "cloudrun"
	return selection{current: []record.Record{
		line("e9", "e9.1", "full", map[string]any{"size": "10MB"}, 5, ms), line("e9", "e9.2", "full", map[string]any{"size": "1MB"}, 3000, rate), small, cloud,
	}}
}

func TestFillIn(t *testing.T) {
	for _, tt := range []struct {
		template, want string
		ok             bool
	}{
		{"takes {e9.1 x_ms}, at most {e9.1 x_ms max}", "takes 45.6 ms, at most 70 ms", true},
		{"{e9.2 y_per_s} a second", "1,233 a second", true},
		{"{e9.1 x_ms size=10MB}", "45.6 ms", true},
		{"{e9.1 x_ms size=2MB}", "", false},
		{"{e9.1 x_ms size=10MB,more=1}", "", false},
		{"{e9.1 none_ms}", "", false},
		{"{e7.1 x_ms}", "", false},
		{"{e9 fired} in {e9 rounds}, {e9 broken} of {e9 lines}", "3,005 in 40, 0 of 2", true}, // neither the smaller run nor Cloud Run's
		{"{e9.1 verdict}", "pass", true},
		{"no number", "no number", true},
	} {
		got, _, ok := fillIn(numbersOf(), tt.template)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: %q, %v; want %q, %v", tt.template, got, ok, tt.want, tt.ok)
		}
	}
}

// TestSentences: each placeholder is valid, and an empty folder gives no numbers.
func TestSentences(t *testing.T) {
	for _, text := range append(inNumbers(), strings.Join(evidenceRows()[0], " ")) {
		if placeholder.FindString(text) == "" || strings.ContainsAny(placeholder.ReplaceAllString(text, ""), "{}") {
			t.Errorf("%s: what stands in braces is not understood", text)
		}
	}
	if got := numbers(selection{}); got != noRun {
		t.Error(got)
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 12: "12", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
