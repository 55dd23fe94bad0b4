package gcsfront

import (
	"math"
	"strings"
	"testing"

	"blobpglite/faults/model"
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
		"latencies out of order":     {Latency: &Latency{Get: []model.LatencyPoint{{Bytes: 2}, {Bytes: 1}}}},
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
