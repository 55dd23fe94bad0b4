package record

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func find(t *testing.T, list []Metric, name string) Metric {
	t.Helper()
	i := slices.IndexFunc(list, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("no metric %s in %+v", name, list)
	}
	return list[i]
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	for i := range 1000 {
		m.Duration("commit_ms", time.Duration(i+1)*time.Millisecond)
	}
	m.Duration("clone_us", 1500*time.Nanosecond)
	m.Duration("load_ms", 188_884_011*time.Nanosecond) // finer than a tick
	m.Value("peak_rss_bytes", 123_456_789)
	m.Value("start_ratio", 0.87)
	list, err := m.List()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(list, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not sorted: %+v", list)
	}
	commit := find(t, list, "commit_ms")
	if commit.N != 1000 || commit.Min != 1 || commit.Max != 1000 || commit.Unit != "ms" {
		t.Errorf("commit_ms: %+v", commit)
	}
	for _, p := range []struct{ got, want float64 }{{commit.P50, 500}, {commit.P90, 900}, {commit.P99, 990}} {
		if math.Abs(p.got-p.want)/p.want > 0.002 {
			t.Errorf("percentile %v, want %v within 0.1 %%", p.got, p.want)
		}
	}
	// A single value is every percentile, exactly, however coarse the buckets are.
	for name, want := range map[string]float64{"clone_us": 1.5, "load_ms": 188.884, "peak_rss_bytes": 123_456_789, "start_ratio": 0.87} {
		if got := find(t, list, name); got.P50 != want || got.P99 != want || got.Min != want || got.Max != want {
			t.Errorf("%s: %+v, want %v", name, got, want)
		}
	}
}

func TestMetricsRefuse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		add  func(*Metrics)
		want string
	}{
		{"no unit", func(m *Metrics) { m.Value("restore", 1) }, `metric "restore" ends in no unit`},
		{"no time", func(m *Metrics) { m.Duration("size_bytes", 1) }, `metric "size_bytes" is no time`},
		{"negative", func(m *Metrics) { m.Value("a_ms", -1) }, "record a_ms: -1 ms is out of range"},
		{"not a number", func(m *Metrics) { m.Value("a_ms", math.NaN()) }, "NaN"},
		{"too large", func(m *Metrics) { m.Value("a_bytes", 1e14) }, "out of range"},
	} {
		m := NewMetrics()
		tt.add(m)
		m.Value("fine_ms", 1)
		if _, err := m.List(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// Merged histograms must equal one histogram of all the values.
func TestMerge(t *testing.T) {
	t.Parallel()
	const seed = 1
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	all, parts := NewMetrics(), []Metric{}
	for range 5 {
		part := NewMetrics()
		for range 200 {
			v := rng.ExpFloat64() * 20
			part.Value("a_ms", v)
			all.Value("a_ms", v)
		}
		list, err := part.List()
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, list[0])
	}
	want, err := all.List()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Merge(parts...)
	if err != nil {
		t.Fatal(err)
	}
	want[0].Hist, got.Hist = "", ""
	if got != want[0] {
		t.Errorf("merged %+v\nwant   %+v", got, want[0])
	}
	if _, err := Merge(); err == nil {
		t.Error("nothing was merged without an error")
	}
	if _, err := Merge(parts[0], Metric{Name: "b_ms"}); err == nil {
		t.Error("two different metrics were merged")
	}
	if _, err := Merge(Metric{Name: "a_ms", Hist: "HISTnonsense"}); err == nil {
		t.Error("a broken histogram was merged")
	}
}
