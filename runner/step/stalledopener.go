package step

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func stalledOpenerVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "stalledopener",
			Doc: "a process stands still while it opens, between what it has read and its fence; another one opens, commits, takes layers, " +
				"and collects past the place where that fence would go; then the first one wakes up. Only one of the two may go on, " +
				"and nothing may be lost",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "in turn at each of the points"},
				{Name: "points", Kind: scenario.KindStrings, Default: string(point.FenceBeforePut), Doc: "of an opening"},
			},
			Metrics: metricDocs(
				"woke_as_writer_count", "1 where the first one became the writer after all, above the other one's fence", "open_ms", "each cold reopening",
				"neither_count", "1 where it fenced the other one and then found that it had lost its lease: both end, and nothing is lost",
				"collected_count", "layers that were taken meanwhile", "acknowledged_count", "operations", "unknown_count", "operations", "request_ms", "as a client sees it",
			),
		},
		run: stalledOpener,
	}
}

func stalledOpener(ctx context.Context, r *Run, args scenario.Args) error {
	l := &lifeline{r: r, mode: engine.ModeLog, random: rand.New(rand.NewPCG(r.Seed, 0x6f70656e))}
	points := args.Strings("points")
	defer l.end()
	for round := range args.Int("rounds") {
		p := point.Point(points[round%len(points)])
		r.Progress(fmt.Sprintf("%s: an opening asleep at %s", r.Cell.Probe, p), int64(round), int64(args.Int("rounds")))
		if l.c == nil || l.lives >= livesOfDatabase {
			if err := l.fresh(ctx); err != nil {
				return err
			}
		}
		if l.m == nil {
			if err := l.reopen(ctx); err != nil || l.m == nil {
				return err
			}
		}
		if err := l.stall(ctx, p); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if len(r.failed) > 0 {
			return nil
		}
		l.lives++
	}
	return l.bucket(ctx)
}

// stall is one round.
func (l *lifeline) stall(ctx context.Context, p point.Point) error {
	c, first := l.c, l.m
	stop := c.load(ctx, workload.Load{Clients: 2, Mix: mixed(), Seed: l.random.Uint64(), Target: on(first)})
	err := errors.Join(c.acknowledged(ctx, 5), stop()) // from now on nobody renews its lease
	if err != nil {
		return err
	}
	sleeper, err := l.next(ctx)
	if err != nil {
		return err
	}
	if err := sleeper.arm(ctx, l.random.Uint64(), pointfault.Rule{Point: p, Do: pointfault.Stop, Nth: 1}); err != nil {
		return err
	}
	opened := make(chan error, 1)
	go func() {
		_, err := sleeper.open(ctx)
		opened <- err
	}()
	if _, ok := sleeper.fault(ctx, pointLimit); !ok {
		l.r.skip("no opening reached %s", p)
		return nil
	}
	first.Kill()
	l.m = nil
	live, err := l.next(ctx)
	if err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if _, err := live.open(inner); err != nil {
		return l.r.blame(checkDurability, "the one that was not asleep cannot open", err)
	}
	stop = c.load(ctx, workload.Load{Clients: 2, Mix: mixed(), Seed: l.random.Uint64(), Target: on(live)})
	err = l.pastIt(ctx, live)
	err = errors.Join(err, stop())
	if err == nil {
		err = sleeper.signal(procfault.Continue)
	}
	if err != nil {
		return err
	}
	return l.oneOf(ctx, sleeper, live, opened)
}

// pastIt takes layers and collects, so that the place where the sleeper's fence would go is gone.
func (l *lifeline) pastIt(ctx context.Context, live *member) error {
	const layers = 2
	for range layers {
		if err := l.c.acknowledged(ctx, 6); err != nil {
			return err
		}
		if err := live.Do(ctx, node.Compact, nil, nil); err != nil {
			return err
		}
		l.r.Metrics.Value("collected_count", 1)
	}
	return nil
}

// oneOf: never both. Either the sleeper gave up, and the other one goes on; or it has fenced above the other one, which is
// refused; and where its lease was taken meanwhile it may have to give up after that, too.
func (l *lifeline) oneOf(ctx context.Context, sleeper, live *member, opened <-chan error) error {
	inner, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	var openErr error
	select {
	case openErr = <-opened:
	case <-inner.Done():
		return fmt.Errorf("the opening that slept does not end: %w", inner.Err())
	}
	var failed *node.Error
	if openErr != nil && !errors.As(openErr, &failed) {
		return openErr
	}
	woke := 0.0
	if openErr == nil {
		woke = 1
	}
	l.r.Metrics.Value("woke_as_writer_count", woke)
	_, _, err := live.Query(ctx, "UPDATE registers SET value = value")
	l.r.check(checkRefused, "")
	if openErr == nil && err == nil {
		l.r.check(checkRefused, fmt.Sprintf("%s opened after its sleep, and %s still writes", sleeper.name, live.name))
	}
	l.r.Metrics.Value("neither_count", map[bool]float64{true: 1}[openErr != nil && err != nil])
	sleeper.Kill()
	live.Kill()
	return l.reopen(ctx)
}
