package serverless

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func twinIdleVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("it takes a flush that is slow, and an instance that is told to go at a moment: neither can be had of Cloud Run"),
		Verb: scenario.Verb{
			Name: "twinidle",
			Doc: "an instance gets SIGTERM with rows that are acknowledged but not flushed (durability sleep), and its flush is slowed " +
				"down; a request arrives in the middle. The platform starts an instance for it, which must wait for the flush and see its " +
				"rows",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
				{Name: "flush", Kind: scenario.KindDuration, Default: "1s", Doc: "added to each record"},
			},
			Metrics: bench.MetricDocs("window_ms", "time from SIGTERM to the end of the old instance", "overlap_ms", "how long before the old "+
				"instance's end the new one's port was open",
				"first_row_ms", "time of the request in the middle of the shutdown", "flushed_count", "rows acknowledged but not yet flushed"),
		},
		Run: twinIdle,
	}
}

func twinIdle(ctx context.Context, r *bench.Run, args scenario.Args) error {
	slow := gcsfront.Rule{Op: gcsfront.OpPut, KeyClass: "wal", Phase: gcsfront.Before, Every: 1, Do: gcsfront.Delay, Delay: args.Duration("flush")}
	return WithService(ctx, r, Options{Rules: []gcsfront.Rule{slow}}, func(t *Service) error {
		t.Fresh("db", "-durability", "sleep", "-idle-flush", "1h", "-restore-budget", "-1ns")
		k, rounds := t.ledger(), args.Int("rounds")
		err := t.On(ctx, platform.Options{}, func() error {
			if err := k.make(ctx); err != nil {
				return err
			}
			for round := range rounds {
				r.Progress(fmt.Sprintf("%s %s: shutdown against a request", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
				if err := k.overlap(ctx); err != nil {
					return fmt.Errorf("round %d: %w", round+1, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = t.JudgeLog(ctx)
		return err
	})
}

// overlap is one round.
func (k *ledger) overlap(ctx context.Context) error {
	const rows = 5
	for range rows {
		if a, err := k.put(ctx, k.address()); err != nil || a.Status != 200 {
			return errors.Join(err, fmt.Errorf("a commit: status %d: %s", a.Status, a.Text))
		}
	}
	old, err := k.Emulated.Newest()
	if err != nil {
		return err
	}
	if err := k.Emulated.Shut(old.ID); err != nil {
		return err
	}
	told, err := k.Emulated.await(ctx, old.ID, "term")
	if err != nil {
		return err
	}
	at := k.Clock.Monotonic()
	if err := k.compare(ctx, k.address()); err != nil {
		return err
	}
	k.Run.Metrics.Duration("first_row_ms", k.Clock.Monotonic()-at)
	k.Run.Metrics.Value("flushed_count", rows)
	ended, err := k.Emulated.await(ctx, old.ID, "exit")
	if err != nil {
		return err
	}
	now, err := k.Emulated.Newest()
	if err != nil {
		return err
	}
	up, err := k.Emulated.await(ctx, now.ID, "ready")
	if err != nil {
		return err
	}
	k.Run.Metrics.Duration("window_ms", ended.At.Sub(told.At))
	k.Run.Metrics.Duration("overlap_ms", max(0, ended.At.Sub(up.At)))
	return nil
}
