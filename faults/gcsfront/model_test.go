package gcsfront

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/core/clock"
)

const testSeed = 20261125

func TestNewRefuses(t *testing.T) {
	good := Rule{Phase: Before, Do: Lose, Every: 1}
	with := func(change func(*Rule)) Options {
		r := good
		change(&r)
		return Options{Rules: []Rule{r}}
	}
	for name, o := range map[string]Options{
		"the zero rule":              {Rules: []Rule{{}}},
		"a rule without a phase":     with(func(r *Rule) { r.Phase = "" }),
		"a rule without an action":   with(func(r *Rule) { r.Do = "" }),
		"a rule without a frequency": with(func(r *Rule) { r.Every = 0 }),
		"two frequencies":            with(func(r *Rule) { r.Nth = 1 }),
		"a probability above one":    with(func(r *Rule) { r.Every, r.Probability = 0, 1.5 }),
		"a negative frequency":       with(func(r *Rule) { r.Every = -1 }),
		"a cut before":               with(func(r *Rule) { r.Do = Cut }),
		"a 429 after":                with(func(r *Rule) { r.Do, r.Phase = Throttle, After }),
		"a 403 after":                with(func(r *Rule) { r.Do, r.Phase = Deny, After }),
		"a delay of nothing":         with(func(r *Rule) { r.Do = Delay }),
		"bytes for a lost reply":     with(func(r *Rule) { r.N = 1 }),
		"a rate of zero":             {Rate: &Rate{Burst: 1}},
		"a burst of zero":            {Rate: &Rate{PerSecond: 1}},
		"latencies out of order":     {Latency: &Latency{Get: []LatencyPoint{{Bytes: 2}, {Bytes: 1}}}},
		"a negative scale":           {Latency: &Latency{Scale: -1}},
	} {
		o.Buckets = []string{testBucket}
		if _, err := New(o); err == nil {
			t.Errorf("New accepts %s", name)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("New accepts no buckets")
	}
	if _, err := newRules([]Rule{good}, 0); err != nil {
		t.Errorf("a good rule is refused: %v", err)
	}
}

func TestRulesFollowTheSeed(t *testing.T) {
	const requests, p = 2000, 0.1
	strikes := func(seed uint64) string {
		rs, err := newRules([]Rule{
			{Op: OpList, Phase: Before, Do: Lose, Probability: 0.5}, // matches nothing here
			{Op: OpPut, KeyClass: "wal", Phase: Before, Do: Lose, Probability: p},
		}, seed)
		if err != nil {
			t.Fatal(err)
		}
		var s strings.Builder
		for range requests {
			s.WriteString(map[bool]string{true: "x", false: "."}[rs.before(&request{op: OpPut, key: "db/wal/1"}).action == Lose])
		}
		return s.String()
	}
	t.Logf("seed %d", testSeed)
	first := strikes(testSeed)
	if first != strikes(testSeed) {
		t.Error("one seed gave two schedules")
	}
	if first == strikes(testSeed+1) {
		t.Error("two seeds gave one schedule")
	}
	if n := strings.Count(first, "x"); math.Abs(float64(n)-requests*p) > 60 { // more than four standard deviations
		t.Errorf("%d of %d struck, want about %v", n, requests, requests*p)
	}
}

func TestKeyClasses(t *testing.T) {
	for _, tt := range []struct {
		class, key string
		want       bool
	}{
		{"", "anything", true},
		{"wal", "wal/1", true}, {"wal", "db/wal/1", true}, {"wal", "db/wal/", true}, {"wal", "a/wal", true},
		{"wal", "db/walnut", false}, {"wal", "db/xwal/1", false}, {"manifest", "db/manifest", true},
		{"base/1-2", "db/base/1-2/part/0", true}, {"base/1-2", "db/base/1-20/part/0", false}, {"wal/", "db/wal/1", true},
	} {
		if got := (Rule{KeyClass: tt.class}).matches(&request{op: OpPut, key: tt.key}); got != tt.want {
			t.Errorf("class %q, key %q: %v, want %v", tt.class, tt.key, got, tt.want)
		}
	}
}

func TestDefaultLatencyIsWhatWasMeasured(t *testing.T) {
	const samples = 4001
	t.Logf("seed %d", testSeed)
	s, err := newSampler(DefaultLatency(), testSeed)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		op          Op
		bytes       int64
		median, max float64 // ms; of 20 samples, measured
	}{
		{OpPut, 1 << 10, 44, 62}, {OpPut, 1 << 20, 60, 134}, {OpPut, 16 << 20, 228, 838},
		{OpGet, 1 << 10, 38, 0}, {OpPut, 0, 44, 62}, {OpPut, 32 << 20, 407, 0}, // on at the last slope
		{OpList, 1 << 20, 38, 0}, {OpDelete, 0, 44, 62},
	} {
		var ms []float64
		for range samples {
			ms = append(ms, float64(s.sample(tt.op, tt.bytes))/float64(time.Millisecond))
		}
		slices.Sort(ms)
		if got := ms[samples/2]; math.Abs(got/tt.median-1) > 0.06 {
			t.Errorf("%s of %d bytes: median %.1f ms, want about %v", tt.op, tt.bytes, got, tt.median)
		}
		// The expected largest of 20 is near the quantile of 1.87 standard deviations.
		if got := ms[samples*969/1000]; tt.max > 0 && math.Abs(got/tt.max-1) > 0.12 {
			t.Errorf("%s of %d bytes: largest of 20 near %.1f ms, want about %v", tt.op, tt.bytes, got, tt.max)
		}
	}
	scaled, err := newSampler(&Latency{Get: []LatencyPoint{{Median: time.Second}}, Scale: 0.5}, testSeed)
	if err != nil {
		t.Fatal(err)
	}
	if got := scaled.sample(OpGet, 0); got != 500*time.Millisecond {
		t.Errorf("half of a second without spread is %v", got)
	}
	none, err := newSampler(nil, testSeed)
	if err != nil || none.sample(OpGet, 0) != 0 {
		t.Errorf("no model: %v, %v", none.sample(OpGet, 0), err)
	}
}

func TestLimiterForgets(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	l, err := newLimiter(DefaultRate(), clk)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxNames {
		l.allow(fmt.Sprint(i))
	}
	clk.Advance(time.Minute)
	l.allow("one more")
	if len(l.names) != 1 {
		t.Errorf("%d names are remembered, want those that have not rested: 1", len(l.names))
	}
}
