package soak

import (
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/core/store/mem"
	"blobpglite/runner/bench/benchtest"
	"blobpglite/runner/record"
	"blobpglite/runner/workload"
)

// TestRampUp: a rate below the capacity of a new bucket may change freely; above it, it may double in 20 minutes, and no more.
func TestRampUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		periods []int // the rate in each 20 minutes, from the third on nothing
		want    int   // seconds
	}{
		{"it stays", []int{900, 900}, 0},
		{"below the limit it may jump", []int{1, 1000}, 0},
		{"it doubles", []int{900, 1800, 3600}, 0},
		{"it more than doubles", []int{900, 1801}, rampPeriod},
		{"from nothing", []int{0, 0, 1001}, rampPeriod},
		{"at midnight, from the day before", []int{1001}, rampPeriod},
	} {
		rate := make([]int, fleetDay)
		for i := range rate {
			if p := i / rampPeriod; p < len(c.periods) {
				rate[i] = c.periods[p]
			}
		}
		if got := tooSteep(rate, bucketWrites); got != c.want {
			t.Errorf("%s: %d seconds, want %d", c.name, got, c.want)
		}
	}
	rate := make([]int, fleetDay)
	for i := range rate {
		rate[i] = 5 * bucketWrites // all day: it has grown to that
	}
	if got := tooSteep(rate, bucketWrites); got != 0 {
		t.Errorf("it never changes, and is too steep in %d seconds", got)
	}
}

// TestPaced: a name takes one write per second; a burst is behind by its length.
func TestPaced(t *testing.T) {
	t.Parallel()
	s := func(at ...float64) (all []time.Duration) {
		for _, a := range at {
			all = append(all, time.Duration(a*float64(time.Second)))
		}
		return all
	}
	for _, c := range []struct {
		at      []time.Duration
		waiting int
		longest time.Duration
	}{
		{nil, 0, 0}, {s(0, 1, 2), 0, 0}, {s(0, 0.4), 1, 600 * time.Millisecond}, {s(5, 0.4, 0), 1, 600 * time.Millisecond}, {s(0, 0, 0, 0), 3, 3 * time.Second}, {s(0, 0.5, 9), 1, 500 * time.Millisecond},
	} {
		if n, longest := paced(c.at); n != c.waiting || longest != c.longest {
			t.Errorf("%v: %d wait, up to %v, want %d, %v", c.at, n, longest, c.waiting, c.longest)
		}
	}
}

// TestRewritten: a wake takes and releases the lease and swaps the manifest; layers swap it again, work renews the lease; a wake that finds
// the previous one's instance opens nothing.
func TestRewritten(t *testing.T) {
	t.Parallel()
	visit := func(at time.Duration, writes int) workload.Wake {
		return workload.Wake{At: at, Writes: writes, Visits: []time.Duration{0}}
	}
	for _, c := range []struct {
		name              string
		wakes             []workload.Wake
		leases, manifests []time.Duration
	}{
		{"it reads", []workload.Wake{visit(time.Hour, 0)}, []time.Duration{time.Hour, time.Hour + workload.TrafficIdle}, []time.Duration{time.Hour}},
		{"two layers", []workload.Wake{visit(0, 120)}, []time.Duration{0, 6*time.Second + workload.TrafficIdle}, []time.Duration{0, 3 * time.Second, 6 * time.Second}},
		{"it works for 20 s", []workload.Wake{visit(0, 400)}, []time.Duration{0, 15 * time.Second, 20*time.Second + workload.TrafficIdle},
			[]time.Duration{0, 3 * time.Second, 6 * time.Second, 9 * time.Second, 12 * time.Second, 15 * time.Second, 18 * time.Second}},
		{"a second wake soon", []workload.Wake{visit(0, 0), visit(time.Minute, 0)}, []time.Duration{0, time.Minute, time.Minute + workload.TrafficIdle}, []time.Duration{0}},
		{"and later", []workload.Wake{visit(0, 0), visit(time.Hour, 0)}, []time.Duration{0, workload.TrafficIdle, time.Hour, time.Hour + workload.TrafficIdle}, []time.Duration{0, time.Hour}},
	} {
		leases, manifests := rewritten(c.wakes)
		if !slices.Equal(leases, c.leases) || !slices.Equal(manifests, c.manifests) {
			t.Errorf("%s: leases %v, manifests %v; want %v, %v", c.name, leases, manifests, c.leases, c.manifests)
		}
	}
}

// TestRanges: the requests of one second from databases with neighboring names are too many for their range, and are not when the names are
// far apart.
func TestRanges(t *testing.T) {
	t.Parallel()
	var sorted, apart []member
	for i := range 200 { // each half has its own second, which it fills: 100 times 20 writes
		m := member{wakes: []workload.Wake{{At: time.Hour + time.Duration(i/100)*time.Hour, Writes: writesASecond, Visits: []time.Duration{0}}}}
		sorted = append(sorted, m)
	}
	for i := range 100 {
		apart = append(apart, sorted[i], sorted[100+i])
	}
	whole := asks(sorted)
	if writes, reads := whole.over(); writes != 2 || reads != 2 {
		t.Errorf("a new bucket: %d seconds have too many writes, %d reads, want two each", writes, reads)
	}
	ranges := whole.ranges() // 2,400 writes, half as much again
	if ranges != 4 {
		t.Errorf("%d ranges, want 4", ranges)
	}
	if got := overInRanges(apart, ranges); got != 0 {
		t.Errorf("names lie apart: %d seconds", got)
	}
	if got := overInRanges(sorted, ranges); got != 4 {
		t.Errorf("names lie together: %d seconds of ranges, want 4: two ranges have a second each", got)
	}
}

// TestFleetIsJudged: the verb fails where a limit is not kept.
func TestFleetIsJudged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step, check, says string
		want              record.Verdict
	}{
		{"fleet: {databases: 300, spread: true}", checkName + ", " + checkRamp + ", " + checkRanges, "held 1 times", record.Pass},
		{"fleet: {databases: 30000, spread: true, batch_hours: 1}", checkRamp, "has doubled in less than 20 minutes", record.Fail},
	} {
		verdict, checks := benchtest.Try(t, Verbs(), Checks(), mem.New(mem.Options{}), c.step, 1, c.check)
		if verdict != c.want || !strings.Contains(checks[0].Detail, c.says) {
			t.Errorf("%s: %v, %+v", c.step, verdict, checks)
		}
	}
}
