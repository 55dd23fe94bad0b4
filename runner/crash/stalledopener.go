package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func stalledOpenerVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "stalledopener",
			Doc: "a process freezes while it opens, between its reading and its fence; another one opens, commits, takes layers, and " +
				"collects past the place where that fence would go; then the first wakes. Only one of the two may continue, and nothing " +
				"may be lost",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "taking the points in turn"},
				{Name: "points", Kind: scenario.KindStrings, Default: string(point.FenceBeforePut), Doc: "of an opening"},
			},
			Metrics: bench.MetricDocs(
				"woke_as_writer_count", "1 if the sleeper became the writer after all, above the other's fence", "open_ms", "time to reopen cold",
				"neither_count", "1 if the sleeper fenced the other and then found its lease lost: both end, and nothing is lost",
				"collected_count", "layers taken while the opener slept", "acknowledged_count", "acknowledged operations", "unknown_count", "operations with an unknown "+
					"outcome", "request_ms", "time of a request, as seen by "+
					"a client",
			),
		},
		Run: stalledOpener,
	}
}

func stalledOpener(ctx context.Context, r *bench.Run, args scenario.Args) error {
	l := &cluster.Lifeline{Run: r, Mode: engine.ModeLog, Random: rand.New(rand.NewPCG(r.Seed, 0x6f70656e))}
	points := args.Strings("points")
	defer l.End()
	for round := range args.Int("rounds") {
		p := point.Point(points[round%len(points)])
		r.Progress(fmt.Sprintf("%s: an opening asleep at %s", r.Cell.Probe, p), int64(round), int64(args.Int("rounds")))
		if l.Cluster == nil || l.Lives >= cluster.LivesOfDatabase {
			if err := l.Fresh(ctx); err != nil {
				return err
			}
		}
		if l.Serving == nil {
			if err := l.Reopen(ctx); err != nil || l.Serving == nil {
				return err
			}
		}
		if err := stall(ctx, l, p); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if r.Failed() {
			return nil
		}
		l.Lives++
	}
	return l.Bucket(ctx)
}

// stall is one round.
func stall(ctx context.Context, l *cluster.Lifeline, p point.Point) error {
	c, first := l.Cluster, l.Serving
	stop := c.Load(ctx, workload.Load{Clients: 2, Mix: mixed(), Seed: l.Random.Uint64(), Target: cluster.Only(first)})
	err := errors.Join(c.Acknowledged(ctx, 5), stop()) // from now on nothing renews its lease
	if err != nil {
		return err
	}
	sleeper, err := l.Next(ctx)
	if err != nil {
		return err
	}
	if err := sleeper.Arm(ctx, l.Random.Uint64(), pointfault.Rule{Point: p, Do: pointfault.Stop, Nth: 1}); err != nil {
		return err
	}
	opened := make(chan error, 1)
	go func() {
		_, err := sleeper.Open(ctx)
		opened <- err
	}()
	if _, ok := sleeper.AwaitFault(ctx, pointLimit); !ok {
		l.Run.Vacuous("no opening reached %s", p)
		return nil
	}
	first.Kill()
	l.Serving = nil
	live, err := l.Next(ctx)
	if err != nil {
		return err
	}
	inner, cancel := context.WithTimeout(ctx, cluster.OpenLimit)
	defer cancel()
	if _, err := live.Open(inner); err != nil {
		return l.Run.Blame(bench.CheckDurability, "the one that was not asleep cannot open", err)
	}
	stop = c.Load(ctx, workload.Load{Clients: 2, Mix: mixed(), Seed: l.Random.Uint64(), Target: cluster.Only(live)})
	err = pastIt(ctx, l, live)
	err = errors.Join(err, stop())
	if err == nil {
		err = sleeper.Strike(procfault.Continue)
	}
	if err != nil {
		return err
	}
	return oneOf(ctx, l, sleeper, live, opened)
}

// pastIt takes layers and collects, so that the place where the sleeper's fence would go is gone.
func pastIt(ctx context.Context, l *cluster.Lifeline, live *cluster.Member) error {
	const layers = 2
	for range layers {
		if err := l.Cluster.Acknowledged(ctx, 6); err != nil {
			return err
		}
		if err := live.Do(ctx, node.Compact, nil, nil); err != nil {
			return err
		}
		l.Run.Metrics.Value("collected_count", 1)
	}
	return nil
}

// oneOf: never both. Either the sleeper gave up, and the other one continues; or it has fenced above the other one, which is refused; and
// if its lease was taken in the meantime it may have to give up after that, too.
func oneOf(ctx context.Context, l *cluster.Lifeline, sleeper, live *cluster.Member, opened <-chan error) error {
	inner, cancel := context.WithTimeout(ctx, cluster.OpenLimit)
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
	l.Run.Metrics.Value("woke_as_writer_count", woke)
	_, _, err := live.Query(ctx, "UPDATE registers SET value = value")
	l.Run.Check(bench.CheckRefused, "")
	if openErr == nil && err == nil {
		l.Run.Check(bench.CheckRefused, fmt.Sprintf("%s opened after its sleep, but %s still writes", sleeper.Name, live.Name))
	}
	l.Run.Metrics.Value("neither_count", map[bool]float64{true: 1}[openErr != nil && err != nil])
	sleeper.Kill()
	live.Kill()
	return l.Reopen(ctx)
}
