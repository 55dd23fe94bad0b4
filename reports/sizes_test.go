package main

import (
	"strings"
	"testing"

	"blobpglite/runner/record"
)

// TestSizes: each cell comes from the first probe that has it, a month is the application's with its storage replaced, and a dash means
// not measured.
func TestSizes(t *testing.T) {
	line := func(probe string, params map[string]any, metrics ...record.Metric) record.Record {
		return record.Record{Probe: probe, Profile: "full", Params: params, Verdict: record.Pass, Metrics: metrics, Env: record.Env{Machine: "m", Target: "local"}}
	}
	m := func(name, unit string, p50 float64) record.Metric {
		return record.Metric{Name: name, Unit: unit, N: 1, P50: p50}
	}
	s := selection{current: []record.Record{
		line("e3.7", map[string]any{"size": "500MB"}, m("cold_ms", "ms", 330)),
		line("e6.7", map[string]any{"small": "10MB", "large": "500MB"}, m("wake_large_ms", "ms", 260), m("stored_bytes", "bytes", 250e6), m("small_stored_bytes", "bytes", 10e6)),
		line("e6.7", map[string]any{"small": "10MB", "large": "5GB"}, m("wake_large_ms", "ms", 270), m("stored_bytes", "bytes", 2.5e9)),
		line("e3.5", map[string]any{"size": "500MB"}, m("peak_bytes", "bytes", 333e6)),
		line("e5.2", map[string]any{"durability": "strict", "clients": 1}, m("month_usd", "usd", 0.36), m("month_storage_usd", "usd", 0.01)),
	}}
	got := sizes(s)
	for _, want := range []string{
		"| 10 MB | - | - | 10 MB | $0.0002 | $0.35 |", "| 100 MB | - | - | - | - | - |", "| 500 MB | 330 ms | 333 MB | 250 MB | $0.0050 | $0.35 |",
		"| 5 GB | 270 ms plus the start of the process | - | 2.5 GB | $0.0500 | $0.40 |",
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if got := sizes(selection{}); got != noRun {
		t.Error(got)
	}
}
