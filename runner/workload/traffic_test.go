package workload

import (
	"slices"
	"testing"
	"time"
)

// TestTraffic: every day matches the profile; gaps between wakes exceed an instance's idle time, those within a wake do not.
func TestTraffic(t *testing.T) {
	for seed := range uint64(50) {
		all := Traffic(seed, 72)
		if len(all) != 3*DayWakes {
			t.Fatalf("seed %d: %d wakes", seed, len(all))
		}
		for day := range 3 {
			writes, kinds, most := 0, map[string]int{}, 0
			for _, w := range all[day*DayWakes : (day+1)*DayWakes] {
				writes += w.Writes
				kinds[w.Kind]++
				most = max(most, w.Writes)
				if w.Kind == "visit" && w.Writes < 1 || w.At/(24*time.Hour) != time.Duration(day) {
					t.Errorf("seed %d: %+v", seed, w)
				}
			}
			if writes != DayWrites || kinds["batch"] != 1 || kinds["report"] != 1 || most < 50 {
				t.Errorf("seed %d, day %d: %d writes, %v, the busiest wake has %d", seed, day, writes, kinds, most)
			}
		}
		for i, w := range all {
			if i > 0 {
				before := all[i-1]
				if gap := w.At - before.At - before.Visits[len(before.Visits)-1]; gap <= TrafficIdle+time.Minute {
					t.Errorf("seed %d: a gap of %v between two wakes", seed, gap)
				}
			}
			if len(w.Visits) > 1 && w.Visits[1] >= TrafficIdle-time.Minute {
				t.Errorf("seed %d: a gap of %v within a wake", seed, w.Visits[1])
			}
		}
		if again := Traffic(seed, 72); !slices.EqualFunc(all, again, func(a, b Wake) bool { return a.At == b.At && a.Writes == b.Writes }) {
			t.Errorf("seed %d gives two profiles", seed)
		}
	}
	if n := len(Traffic(1, 5)); n != 5 {
		t.Errorf("%d wakes in five hours of a night", n)
	}
}
