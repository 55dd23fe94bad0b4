package serverless

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func twinCostVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("what an instance is billed comes from the emulator's account; Cloud Run tells of no service's bill, let alone of a cold start's"),
		Verb: scenario.Verb{
			Name: "twincost",
			Doc: "a day of a small application, wake after wake with its share of the writes, as billed by the platform; multiplied by 30 " +
				"it is a month at list price, compared with an instance that always has CPU",
			Args: []scenario.Arg{
				{Name: "writes", Kind: scenario.KindInt, Default: "1000", Doc: "a day"},
				{Name: "wakes", Kind: scenario.KindInt, Default: "48", Doc: "a day"},
				{Name: "size", Kind: scenario.KindSize, Default: "10MB", Doc: "of the database's rows"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "wakes measured"},
			},
			Metrics: bench.MetricDocs("wake_billed_ms", "billed time of a cold start, its writes and its end", "month_requests_usd", "a month of Cloud Run, CPU "+
				"only during requests",
				"month_free_usd", "a month of Cloud Run, CPU only during requests, after its free tier", "month_always_usd", "a month of Cloud Run, one "+
					"instance that always has CPU",
				"month_kept_usd", "a month of Cloud Run, CPU only during requests, with one idle instance kept", "month_bucket_usd", "a month of the bucket, "+
					"operations and storage",
				"month_always_bucket_usd", "a month of the bucket, operations and storage, with an instance that never sleeps"),
		},
		Run: twinCost,
	}
}

func twinCost(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		if err := t.Load(ctx, int64(args.Size("size"))); err != nil {
			return err
		}
		rounds, writes := args.Int("rounds"), max(1, args.Int("writes")/args.Int("wakes"))
		o := platform.Options{VCPU: 1, Idle: 100 * time.Millisecond}
		var wakes, all platform.Bill
		before := t.Emulated.Front.Counters().Ops
		err := t.On(ctx, o, func() error {
			k := t.ledger()
			for round := range rounds {
				r.Progress(fmt.Sprintf("%s: a wake", r.Cell.Probe), int64(round), int64(rounds))
				if round == 0 {
					if err := k.make(ctx); err != nil {
						return err
					}
				}
				for range writes {
					if a, err := k.put(ctx, t.address()); err != nil || a.Status != 200 {
						return errors.Join(err, fmt.Errorf("a commit: status %d: %s", a.Status, a.Text))
					}
				}
				if _, err := t.Leave(ctx); err != nil {
					return err
				}
				all = t.Emulated.Bill()
				r.Metrics.Duration("wake_billed_ms", all.Active-wakes.Active)
				wakes = all
			}
			return nil
		})
		if err != nil {
			return err
		}
		after := t.Emulated.Front.Counters().Ops
		stored, err := t.stored(ctx)
		if err != nil {
			return err
		}
		ops := bench.OpsOf(after)
		ops.ClassA, ops.ClassB = ops.ClassA-before.ClassA, ops.ClassB-before.ClassB
		c := costing{r: r, wakes: args.Int("wakes"), writes: args.Int("writes"), rounds: rounds}
		c.record(all, ops.CostUSD(), float64(stored))
		return nil
	})
}

// stored is the size of everything below the prefix.
func (t *Service) stored(ctx context.Context) (int64, error) {
	st, done, err := t.Store(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	n := int64(0)
	for a, err := range st.List(ctx, "", "") {
		if err != nil {
			return 0, err
		}
		n += a.Size
	}
	return n, nil
}

// MonthDays is a month.
const MonthDays = 30

// costing extrapolates a month from what was measured.
type costing struct {
	r                     *bench.Run
	wakes, writes, rounds int // per day, per day, measured
}

// record records the month. Measured: the bill and the bucket's operations of the rounds, and the bytes stored.
func (c costing) record(b platform.Bill, opsUSD, stored float64) {
	const memoryGiB = 0.5 // for a database of 10 MB
	share := float64(MonthDays*c.wakes) / float64(c.rounds)
	month := platform.Bill{
		Requests: int64(float64(b.Requests) * share), Active: time.Duration(float64(b.Active) * share), Life: MonthDays * 24 * time.Hour,
		VCPU: 1, MemoryGiB: memoryGiB,
	}
	storage := stored / 1e9 * record.PriceStorageUSD
	for name, usd := range map[string]float64{
		"month_requests_usd": month.Cost(platform.Options{CPU: platform.InRequests}),
		"month_kept_usd":     month.Cost(platform.Options{CPU: platform.InRequests, MinInstances: 1}),
		"month_always_usd":   month.Cost(platform.Options{CPU: platform.Always, MinInstances: 1}),
		"month_free_usd":     month.BeyondFree(),
		"month_bucket_usd":   opsUSD*share + storage,
		// One that never sleeps does nothing at the bucket but commit.
		"month_always_bucket_usd": float64(MonthDays*c.writes)*record.PriceClassAUSD + storage,
	} {
		c.r.Metrics.Value(name, usd)
	}
}
