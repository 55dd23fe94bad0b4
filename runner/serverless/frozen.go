package serverless

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func twinFrozenVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "twinfrozen",
			Doc: "an instance that has CPU only during requests, or always, is left alone for longer than its lease; its requests to the " +
				"bucket in that time are counted, and the next commit is timed",
			Args: []scenario.Arg{
				{Name: "cpu", OneOf: []string{string(platform.InRequests), string(platform.Always)}, Required: true, Doc: "when it has CPU"},
				{Name: "lease_ttl", Kind: scenario.KindDuration, Default: "1s", Doc: "of the lease"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
			},
			Metrics: bench.MetricDocs("idle_requests_count", "requests to the bucket while the instance was left alone: the emulated "+
				"bucket's count, on Cloud Run the instance's own", "next_commit_ms", "time of the first commit "+
				"after the pause, including the renewal of the lease",
				"commit_ms", "time of a commit while the lease is valid"),
		},
		Run: twinFrozen,
	}
}

func twinFrozen(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		ttl := args.Duration("lease_ttl")
		t.Fresh("db", "-lease-ttl", ttl.String())
		k := t.ledger()
		return t.On(ctx, platform.Options{CPU: platform.CPU(args.String("cpu"))}, func() error {
			if err := k.make(ctx); err != nil {
				return err
			}
			for round := range args.Int("rounds") {
				r.Progress(fmt.Sprintf("%s %s: left alone", r.Cell.Probe, r.Cell.Label), int64(round), int64(args.Int("rounds")))
				if err := k.alone(ctx, ttl); err != nil {
					return err
				}
			}
			return k.compare(ctx, t.address())
		})
	})
}

// alone is one time that an instance is left alone.
func (k *ledger) alone(ctx context.Context, ttl time.Duration) error {
	timed := func(metric string) error {
		at := k.Clock.Monotonic()
		a, err := k.put(ctx, k.address())
		if err == nil && a.Status != 200 {
			k.Run.Check(bench.CheckDurability, fmt.Sprintf("a commit failed: status %d: %s", a.Status, a.Text))
		}
		k.Run.Metrics.Duration(metric, k.Clock.Monotonic()-at)
		return err
	}
	if err := errors.Join(timed("commit_ms"), timed("commit_ms")); err != nil {
		return err
	}
	// A renewal begun by the last request may be on its way; a frozen process cannot have begun another.
	if err := k.quiet(ctx, ttl/2); err != nil {
		return err
	}
	before, err := k.asked(ctx)
	if err != nil {
		return err
	}
	if err := k.Clock.Sleep(ctx, ttl+ttl/2); err != nil {
		return err
	}
	after, err := k.asked(ctx)
	if err != nil {
		return err
	}
	k.Run.Metrics.Value("idle_requests_count", float64(after-before))
	return timed("next_commit_ms")
}
