package soak

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"blobpglite/core/lease"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/runner/serverless"
	"blobpglite/runner/workload"
)

// What a bucket takes. Sources: cloud.google.com/storage/docs/request-rate and cloud.google.com/storage/quotas#objects, read November 2026.
const (
	bucketWrites = 1000 // a second, in a range of names, before the bucket has grown
	bucketReads  = 5000
	rampPeriod   = 20 * 60     // seconds within which a rate above these may at most double
	nameEvery    = time.Second // between two writes to one name
)

// What a wake requests, as counted by e5.2, rounded up: after its first request together, and at its end.
const (
	wakeReads, wakeWrites = 66, 4 // lease, fence, manifest, list
	writesASecond         = 20    // of one database that commits one row after the other
	layerRecords          = 60    // after which a database takes a layer, and swaps its manifest: as in runner/layers, growth
)

const (
	fleetDay   = 24 * 60 * 60 // seconds
	fleetPhase = 60 * 60      // within which each database has its own phase
	// rangeRoom is how far ranges are sized beyond the busiest second's mean: the load of a range varies.
	rangeRoom = 1.5
	// fleetBlips is how many seconds of a day may be above what a bucket takes: retries get over it.
	fleetBlips = 10
)

func fleetVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "fleet",
			Doc: "computes a day of many small applications in one bucket: each second's requests are compared with Cloud Storage's " +
				"documented limits. These are: the rates of a new bucket; how fast a rate above them may rise; what each range of names " +
				"takes once the bucket has grown to the busiest second, with names that are spread, and with names sorted by when the " +
				"databases wake; and the rate of writes to a name that is overwritten. By default all wake at the same minutes, as if by " +
				"cron; with spread, each at its own",
			Args: []scenario.Arg{
				{Name: "databases", Kind: scenario.KindInt, Default: "10000", Doc: "in the bucket"},
				{Name: "spread", Kind: scenario.KindBool, Doc: "each database has its own phase within the hour"},
				{Name: "batch_hours", Kind: scenario.KindInt, Default: "1", Doc: "hours over which the nightly batches are spread, around 3 a.m."},
			},
			Metrics: bench.MetricDocs("writes_per_s", "writes in a second, over the day", "reads_per_s", "reads in a second, over the day", "over_writes_count", "seconds of the day with more writes than a new bucket takes",
				"over_reads_count", "seconds of the day with more reads than a new bucket takes", "over_ramp_count", "seconds above a new bucket's "+
					"limit with more than twice the busiest second of the 20 minutes before",
				"ranges_count", "ranges of names that the bucket must be split into for its busiest second", "over_hashed_count", "range-seconds above "+
					"one range's limit, if names begin with a hash",
				"over_sorted_count", "range-seconds above one range's limit, if databases that "+
					"wake together have names that begin alike", "close_name_count", "writes to one name within a "+
					"second of the previous one: a bucket may answer 429, and they are sent again", "name_wait_ms", "longest time that a write "+
					"must wait so that its name is written once a second",
				"fence_year_bytes", "bytes of all fences after a year, at 146 bytes each", "month_operations_usd", "a month's operations of all databases, at list price"),
		},
		Run: runFleet,
	}
}

// demand is what is requested in each second of a day.
type demand struct{ reads, writes []int }

func newDemand() demand { return demand{make([]int, fleetDay), make([]int, fleetDay)} }

// add adds a wake that begins in a second: its requests together, and its writes one after the other.
func (d demand) add(at, writes int) {
	d.reads[at%fleetDay] += wakeReads
	d.writes[at%fleetDay] += wakeWrites
	for second := 0; writes > 0; writes, second = writes-writesASecond, second+1 {
		d.writes[(at+second)%fleetDay] += min(writes, writesASecond)
	}
}

// over counts the seconds with more writes, and with more reads, than a range of names takes.
func (d demand) over() (writes, reads int) {
	for i := range fleetDay {
		if d.writes[i] > bucketWrites {
			writes++
		}
		if d.reads[i] > bucketReads {
			reads++
		}
	}
	return writes, reads
}

// ranges is how many ranges of names take the busiest second, with room.
func (d demand) ranges() int {
	need := max(float64(slices.Max(d.writes))/bucketWrites, float64(slices.Max(d.reads))/bucketReads)
	if need <= 1 {
		return 1
	}
	return int(math.Ceil(need * rangeRoom))
}

// tooSteep counts the seconds in which a rate is above what a bucket takes, and has more than doubled in 20 minutes. The day's last 20
// minutes precede its first, as one day is like the next.
func tooSteep(rate []int, takes int) (seconds int) {
	before := slices.Max(rate[len(rate)-rampPeriod:])
	for period := range slices.Chunk(rate, rampPeriod) {
		for _, r := range period {
			if r > max(takes, 2*before) {
				seconds++
			}
		}
		before = slices.Max(period)
	}
	return seconds
}

// rewritten returns the moments of a day at which one database writes the two names that are rewritten, lease and manifest; all other names
// are written once. It takes and releases the lease, and renews it while working; it swaps the manifest when it opens, and for each layer.
// A wake that comes before the last one's instance has ended finds it.
func rewritten(wakes []workload.Wake) (leases, manifests []time.Duration) {
	const step = time.Second / writesASecond
	records, free, renewed, ends := 0, time.Duration(0), time.Duration(0), time.Duration(-1)
	renew := func(at time.Duration) {
		if at-renewed >= lease.DefaultTTL/2 {
			leases, renewed = append(leases, at), at
		}
	}
	for _, w := range wakes {
		if w.At > ends {
			if ends >= 0 {
				leases = append(leases, ends) // released
			}
			leases, manifests, renewed = append(leases, w.At), append(manifests, w.At), w.At
		}
		for i, visit := range w.Visits {
			n := w.Writes / len(w.Visits)
			if i == 0 {
				n += w.Writes % len(w.Visits)
			}
			free = max(free, w.At+visit)
			renew(free)
			for range n {
				free += step
				if records++; records%layerRecords == 0 {
					manifests = append(manifests, free)
				}
				renew(free)
			}
		}
		ends = free + workload.TrafficIdle
	}
	return append(leases, ends), manifests
}

// paced lets a name be written once per second, at some moments and no earlier: how many writes have to wait, and how long at most.
func paced(at []time.Duration) (waiting int, longest time.Duration) {
	slices.Sort(at)
	free := time.Duration(0)
	for _, t := range at {
		if free > t {
			waiting, longest = waiting+1, max(longest, free-t)
		}
		free = max(free, t) + nameEvery
	}
	return waiting, longest
}

// member is a database of the fleet.
type member struct {
	phase int // seconds
	wakes []workload.Wake
}

func fleetOf(databases int, seed uint64, spread bool, batchHours int, progress func(done int)) []member {
	random := rand.New(rand.NewPCG(seed, 0x666c6565))
	all := make([]member, databases)
	for db := range all {
		if spread {
			all[db].phase = random.IntN(fleetPhase)
		}
		all[db].wakes = workload.Traffic(uint64(db)+seed, 24)
		if batchHours > 1 {
			shift := time.Duration(random.Int64N(int64(batchHours)*int64(time.Hour))) - time.Duration(batchHours)*time.Hour/2
			for i, w := range all[db].wakes {
				if w.Kind == "batch" {
					all[db].wakes[i].At = (w.At + shift + 24*time.Hour) % (24 * time.Hour)
				}
			}
			slices.SortFunc(all[db].wakes, func(a, b workload.Wake) int { return cmp.Compare(a.At, b.At) })
		}
		if db%1000 == 0 {
			progress(db)
		}
	}
	return all
}

// asks returns what some databases request.
func asks(some []member) demand {
	d := newDemand()
	for _, m := range some {
		for _, w := range m.wakes {
			d.add(int(w.At/time.Second)+m.phase, w.Writes)
		}
	}
	return d
}

// overInRanges divides databases, which are in the order of their names, into ranges of equal counts, and counts the seconds in which a
// range gets more than it takes.
func overInRanges(sorted []member, ranges int) (seconds int) {
	for i := range ranges {
		writes, reads := asks(sorted[i*len(sorted)/ranges : (i+1)*len(sorted)/ranges]).over()
		seconds += writes + reads
	}
	return seconds
}

func runFleet(_ context.Context, r *bench.Run, args scenario.Args) error {
	databases, spread := args.Int("databases"), args.Bool("spread")
	all := fleetOf(databases, r.Seed, spread, args.Int("batch_hours"), func(done int) { r.Progress(r.Cell.Probe+": databases", int64(done), int64(databases)) })
	whole := asks(all)
	writes, reads, tooClose, longest := 0, 0, 0, time.Duration(0)
	for _, m := range all {
		leases, manifests := rewritten(m.wakes)
		for _, at := range [][]time.Duration{leases, manifests} {
			n, wait := paced(at)
			tooClose, longest = tooClose+n, max(longest, wait)
		}
	}
	for i := range fleetDay {
		reads, writes = reads+whole.reads[i], writes+whole.writes[i]
		r.Metrics.Value("reads_per_s", float64(whole.reads[i]))
		r.Metrics.Value("writes_per_s", float64(whole.writes[i]))
	}
	if writes == 0 {
		return fmt.Errorf("%d databases have written nothing", databases)
	}
	overWrites, overReads := whole.over()
	steep := tooSteep(whole.writes, bucketWrites) + tooSteep(whole.reads, bucketReads)
	hashed := overInRanges(all, whole.ranges()) // the order of all is that of seeds, which is unrelated to phases: like a hash
	slices.SortStableFunc(all, func(a, b member) int { return cmp.Compare(a.phase, b.phase) })
	for name, n := range map[string]int{
		"over_writes_count": overWrites, "over_reads_count": overReads, "over_ramp_count": steep, "ranges_count": whole.ranges(),
		"over_hashed_count": hashed, "over_sorted_count": overInRanges(all, whole.ranges()), "close_name_count": tooClose,
	} {
		r.Metrics.Value(name, float64(n))
	}
	r.Metrics.Duration("name_wait_ms", longest)
	r.Metrics.Value("fence_year_bytes", float64(databases)*365*workload.DayWakes*146)
	r.Metrics.Value("month_operations_usd", serverless.MonthDays*(float64(writes)*record.PriceClassAUSD+float64(reads)*record.PriceClassBUSD))
	r.Check(checkName, bench.Wrongf(longest > nameEvery, "at one write a second, a name is behind by %v: its database writes it more often than a bucket allows", longest))
	if spread {
		r.Check(checkRamp, bench.Wrongf(steep > fleetBlips, "%d databases, each at its own minutes: in %d seconds of the day a rate is above a new bucket's limit and has doubled in less than 20 minutes", databases, steep))
		r.Check(checkRanges, bench.Wrongf(hashed > fleetBlips, "%d databases whose names are spread: one of %d ranges of names exceeds its limit in %d seconds", databases, whole.ranges(), hashed))
	}
	return nil
}
