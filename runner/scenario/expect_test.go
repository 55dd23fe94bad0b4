package scenario

import (
	"strings"
	"testing"

	"blobpglite/runner/record"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	facts := Facts{
		Metrics: []record.Metric{{Name: "restore_ms", N: 3, Min: 1, P50: 250, P90: 300, P99: 310, Max: 320}, {Name: "peak_bytes", N: 1, Max: 400e6}, {Name: "none_ms"}},
		Checks:  []record.Check{{Name: "checksum", Verdict: record.Pass}},
		Fired:   map[string]int64{"lose before": 5},
	}
	for _, tt := range []struct {
		text   string
		want   record.Verdict
		detail string
	}{
		{"metrics.restore_ms.p50 <= 250", record.Pass, "restore_ms.p50 = 250"},
		{"metrics.restore_ms.p99 <= 300", record.Fail, "restore_ms.p99 = 310"},
		{"metrics.restore_ms.n >= rounds", record.Pass, "restore_ms.n = 3"},
		{"metrics.peak_bytes.max <= 1.5*size + 300e6", record.Pass, "peak_bytes.max = 4e+08"},
		{"metrics.restore_ms.max <= pause", record.Pass, "restore_ms.max = 320"},
		{"rate == 20", record.Pass, ""},
		{`fired("lose before") >= 2*rounds`, record.Fail, `fired("lose before") = 5`},
		{`checks.checksum == "pass"`, record.Pass, "checks.checksum = pass"},
		{`checks.durability == "pass"`, record.Broken, "the run made no check durability"},
		// A number that was never taken is not zero, and so not below a bound.
		{"metrics.load_ms.p50 <= 100", record.Broken, "the run recorded no metric load_ms"},
		{"metrics.none_ms.p50 <= 100", record.Broken, "the run recorded no metric none_ms"},
		{"metrics.restore_ms.min % 0 == 0 or true", record.Broken, ""},
	} {
		lines := oneProbe + "    params: {rounds: 3, size: 100MB, pause: 2s, rate: 20/s}\n    checks: [checksum, durability]\n" +
			"    faults: [{seam: http, do: lose}]\n    expect:\n      - '" + tt.text + "'\n"
		s, err := Parse("e9.yaml", document(lines), testRegistry())
		if err != nil {
			if tt.want == record.Broken && tt.detail == "" {
				continue // refused even earlier
			}
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		cell := cellsOf(t, s, Options{})[0]
		got := cell.Judge(facts)[0]
		if got.Name != tt.text || got.Verdict != tt.want || !strings.Contains(got.Detail, tt.detail) {
			t.Errorf("%s: %+v, want %v with %q", tt.text, got, tt.want, tt.detail)
		}
	}
}
