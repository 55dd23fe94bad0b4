package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"blobpglite/core/clock"
)

const testSeed = 20261125

func TestBadModelsAreRefused(t *testing.T) {
	for name, o := range map[string]Often{
		"never":                  {},
		"two ways":               {Every: 1, Nth: 1},
		"a probability above 1":  {Probability: 1.5},
		"a negative probability": {Probability: -0.5},
		"a negative frequency":   {Every: -1},
		"a negative number":      {Nth: -1},
	} {
		if o.Check() == nil {
			t.Errorf("Check accepts %s", name)
		}
	}
	for name, l := range map[string]Latency{
		"latencies out of order": {Get: []LatencyPoint{{Bytes: 2}, {Bytes: 1}}},
		"a negative median":      {Put: []LatencyPoint{{Median: -1}}},
		"a negative scale":       {Scale: -1},
	} {
		if _, err := NewSampler(&l, 0); err == nil {
			t.Errorf("NewSampler accepts %s", name)
		}
	}
	for name, r := range map[string]Rate{"a rate of zero": {Burst: 1}, "a burst of zero": {PerSecond: 1}} {
		if _, err := NewLimiter(&r, clock.System()); err == nil {
			t.Errorf("NewLimiter accepts %s", name)
		}
	}
}

func TestOften(t *testing.T) {
	t.Logf("seed %d", testSeed)
	random := rand.New(rand.NewPCG(testSeed, 0))
	for _, tt := range []struct {
		often Often
		name  string
		due   []int64 // of the first six
	}{
		{Often{Every: 1}, "every=1", []int64{1, 2, 3, 4, 5, 6}},
		{Often{Every: 3}, "every=3", []int64{3, 6}},
		{Often{Nth: 2}, "nth=2", []int64{2}},
		{Often{Probability: 1}, "p=1", []int64{1, 2, 3, 4, 5, 6}},
	} {
		var due []int64
		for n := int64(1); n <= 6; n++ {
			if tt.often.Due(n, random) {
				due = append(due, n)
			}
		}
		if err := tt.often.Check(); err != nil || !slices.Equal(due, tt.due) || tt.often.String() != tt.name {
			t.Errorf("%s: due at %v, want %v (%v)", tt.often, due, tt.due, err)
		}
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
		if got := KeyIn(tt.class, tt.key); got != tt.want {
			t.Errorf("class %q, key %q: %v, want %v", tt.class, tt.key, got, tt.want)
		}
	}
}

func TestDefaultLatencyIsWhatWasMeasured(t *testing.T) {
	const samples = 4001
	t.Logf("seed %d", testSeed)
	s, err := NewSampler(DefaultLatency(), testSeed)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		work        Work
		bytes       int64
		median, max float64 // ms; of 20 samples, measured
	}{
		{Put, 1 << 10, 44, 62}, {Put, 1 << 20, 60, 134}, {Put, 16 << 20, 228, 838},
		{Get, 1 << 10, 38, 0}, {Put, 0, 44, 62}, {Put, 32 << 20, 407, 0}, // on at the last slope
		{List, 1 << 20, 38, 0}, {Delete, 0, 44, 62},
	} {
		var ms []float64
		for range samples {
			ms = append(ms, float64(s.Sample(tt.work, tt.bytes))/float64(time.Millisecond))
		}
		slices.Sort(ms)
		if got := ms[samples/2]; math.Abs(got/tt.median-1) > 0.06 {
			t.Errorf("work %d of %d bytes: median %.1f ms, want about %v", tt.work, tt.bytes, got, tt.median)
		}
		// The expected largest of 20 is near the quantile of 1.87 standard deviations.
		if got := ms[samples*969/1000]; tt.max > 0 && math.Abs(got/tt.max-1) > 0.12 {
			t.Errorf("work %d of %d bytes: largest of 20 near %.1f ms, want about %v", tt.work, tt.bytes, got, tt.max)
		}
	}
	scaled, err := NewSampler(&Latency{Get: []LatencyPoint{{Median: time.Second}}, Scale: 0.5}, testSeed)
	if err != nil {
		t.Fatal(err)
	}
	if got := scaled.Sample(Get, 0); got != 500*time.Millisecond {
		t.Errorf("half of a second without spread is %v", got)
	}
	none, err := NewSampler(nil, testSeed)
	if err != nil || none.Sample(Get, 0) != 0 {
		t.Errorf("no model: %v, %v", none.Sample(Get, 0), err)
	}
}

func TestLimiter(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	l, err := NewLimiter(&Rate{PerSecond: 1, Burst: 2}, clk)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false} {
		if l.Allow("a") != want {
			t.Errorf("write %d of a burst of two: allowed %v", i+1, !want)
		}
	}
	if !l.Allow("b") {
		t.Error("another name is not its own")
	}
	clk.Advance(time.Second)
	if !l.Allow("a") || l.Allow("a") {
		t.Error("a second later there is one token, not more")
	}
	if free, err := NewLimiter(nil, clk); err != nil || !free.Allow("a") {
		t.Error("without a rate nothing is refused")
	}
}

func TestLimiterForgets(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	l, err := NewLimiter(DefaultRate(), clk)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxNames {
		l.Allow(fmt.Sprint(i))
	}
	clk.Advance(time.Minute)
	l.Allow("one more")
	if len(l.names) != 1 {
		t.Errorf("%d names are remembered, want those that have not rested: 1", len(l.names))
	}
}
