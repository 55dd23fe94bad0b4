package workload

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A day of the small application.
const (
	DayWrites = 1000
	DayWakes  = 48
	// TrafficIdle is how long an instance is kept without requests: shorter than every gap between two wakes, longer than every gap within one.
	TrafficIdle = 10 * time.Minute

	batchHour, batchWrites = 3, 200 // one wake at night
	reportHour             = 8      // the second wake of this hour only reads
	paretoShape            = 1.2    // of how many writes a wake brings: a long tail
)

// wakesOfHour is how many wakes an hour of the day has: nights are quiet. Their sum is DayWakes.
func wakesOfHour() [24]int {
	return [24]int{1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 2, 3, 3, 3, 2, 2, 2, 2, 2, 1}
}

// Wake is a stretch of requests between two gaps that are long enough for an instance to be ended.
type Wake struct {
	At     time.Duration // of its first request, since the start of the traffic
	Kind   string        // visit, batch or report
	Writes int
	// Visits are its bursts: when each begins, after At. The writes are spread over them. Between two of them the instance is idle.
	Visits []time.Duration
}

// Traffic returns the wakes of a number of hours of the small application, as a pure function of the seed:
//
//	wakes    48 a day, one per hour at night and up to three by day, each within its own part of the hour
//	writes   1,000 a day: a batch of 200 at three at night, none in the report at eight, and the rest over the other wakes by a
//	         Pareto distribution, so that a few bring a hundred and most bring a handful
//	gaps     every third wake has a second burst, one to six minutes later; two wakes are more than ten minutes apart
func Traffic(seed uint64, hours int) []Wake {
	var all []Wake
	for day := 0; day*24 < hours; day++ {
		r := rand.New(rand.NewPCG(seed, uint64(day)))
		for _, w := range oneDay(r) {
			if w.At += time.Duration(day) * 24 * time.Hour; w.At < time.Duration(hours)*time.Hour {
				all = append(all, w)
			}
		}
	}
	return all
}

func oneDay(r *rand.Rand) []Wake {
	var day []Wake
	for hour, n := range wakesOfHour() {
		slot := time.Hour / time.Duration(n)
		for i := range n {
			w := Wake{At: time.Duration(hour)*time.Hour + time.Duration(i)*slot + time.Duration(r.Int64N(int64(90*time.Second))), Kind: "visit", Visits: []time.Duration{0}}
			switch {
			case hour == batchHour:
				w.Kind, w.Writes = "batch", batchWrites
			case hour == reportHour && i == 1:
				w.Kind = "report"
			case r.IntN(3) == 0:
				w.Visits = append(w.Visits, time.Minute+time.Duration(r.Int64N(int64(5*time.Minute))))
			}
			day = append(day, w)
		}
	}
	share(r, day)
	return day
}

// share gives every visit its writes.
func share(r *rand.Rand, day []Wake) {
	weights, sum := make([]float64, len(day)), 0.0
	for i, w := range day {
		if w.Kind == "visit" {
			weights[i] = math.Pow(1-r.Float64(), -1/paretoShape)
			weights[i] = min(weights[i], 30)
			sum += weights[i]
		}
	}
	left := DayWrites - batchWrites
	rest := left
	for i := range day {
		if weights[i] > 0 {
			day[i].Writes = max(1, int(float64(rest)*weights[i]/sum))
			left -= day[i].Writes
		}
	}
	// The busiest wake absorbs the rounding error.
	most := slices.Index(weights, slices.Max(weights))
	day[most].Writes += left
}
