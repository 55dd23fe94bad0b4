package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
	"blobpglite/runner/serverless"
	"blobpglite/runner/workload"
)

// What a bucket takes before it has grown. Source: cloud.google.com/storage/docs/request-rate, read November 2026.
const (
	bucketWrites = 1000 // a second
	bucketReads  = 5000
)

// What a wake asks for, as e5.2 counts it, rounded up: behind its first request at once, and at its end.
const (
	wakeReads, wakeWrites = 66, 4 // lease, fence, manifest, list
	writesASecond         = 20    // of one database that commits one row after the other
)

// fleetBlips is how many seconds of a day may be above what a new bucket takes: retries are over it.
const fleetBlips = 10

func fleetVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "fleet",
			Doc: "a day of many small applications in one bucket, by arithmetic: each second's requests, held against what a bucket takes before it has " +
				"grown. Together: all wake at the same minutes, as by cron; spread: each at its own",
			Args: []scenario.Arg{{Name: "databases", Kind: scenario.KindInt, Default: "10000", Doc: "in the bucket"}, {Name: "spread", Kind: scenario.KindBool, Doc: "each database has its own phase within the hour"}},
			Metrics: bench.MetricDocs("writes_per_s", "writes of a second, over the day", "reads_per_s", "reads of a second, over the day", "over_writes_count", "seconds of the day with more writes than a new bucket takes",
				"over_reads_count", "likewise of reads", "fence_year_bytes", "of all fences after a year, at 146 bytes each", "month_operations_usd", "operations of all, at list price"),
		},
		Run: runFleet,
	}
}

func runFleet(_ context.Context, r *bench.Run, args scenario.Args) error {
	const day = 24 * 60 * 60
	databases := args.Int("databases")
	reads, writes := make([]int, day), make([]int, day)
	random := rand.New(rand.NewPCG(r.Seed, 0x666c6565))
	totalReads, totalWrites := 0, 0
	for db := range databases {
		phase := 0
		if args.Bool("spread") {
			phase = random.IntN(60 * 60)
		}
		for _, w := range workload.Traffic(uint64(db)+r.Seed, 24) {
			at := (int(w.At/time.Second) + phase) % day
			reads[at] += wakeReads
			writes[at] += wakeWrites
			totalReads, totalWrites = totalReads+wakeReads, totalWrites+wakeWrites+w.Writes
			for left, second := w.Writes, 0; left > 0; left, second = left-writesASecond, second+1 {
				writes[(at+second)%day] += min(left, writesASecond)
			}
		}
		if db%1000 == 0 {
			r.Progress(r.Cell.Probe+": databases", int64(db), int64(databases))
		}
	}
	overReads, overWrites := 0, 0
	for i := range day {
		r.Metrics.Value("reads_per_s", float64(reads[i]))
		r.Metrics.Value("writes_per_s", float64(writes[i]))
		if reads[i] > bucketReads {
			overReads++
		}
		if writes[i] > bucketWrites {
			overWrites++
		}
	}
	r.Metrics.Value("over_reads_count", float64(overReads))
	r.Metrics.Value("over_writes_count", float64(overWrites))
	r.Metrics.Value("fence_year_bytes", float64(databases)*365*workload.DayWakes*146)
	r.Metrics.Value("month_operations_usd", serverless.MonthDays*(float64(totalWrites)*record.PriceClassAUSD+float64(totalReads)*record.PriceClassBUSD))
	r.Check(bench.CheckBounded, bench.Wrongf(args.Bool("spread") && overReads+overWrites > fleetBlips, "%d databases, each at its own minutes: %d seconds of the day have more reads than a new bucket takes, %d more writes", databases, overReads, overWrites))
	if totalWrites == 0 {
		return fmt.Errorf("%d databases have written nothing", databases)
	}
	return nil
}
