package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func episodeMetrics() []scenario.MetricDoc {
	return bench.MetricDocs(
		"episodes_count", "episodes run", "open_ms", "time to open, including the wait for the lease", "acknowledged_count", "acknowledged operations of an episode",
		"unknown_count", "operations of an episode with an unknown outcome", "request_ms", "time of a request, as seen by "+
			"a client", "episode_ms", "duration of an episode",
		"actions_count", "actions of an episode",
	)
}

func chaosVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "chaos",
			Doc: "random episodes of everything combined, by seed, until the time is up: processes that die, freeze and wake, power cuts, " +
				"lost replies, layers in progress, clocks that jump. A failing episode is shrunk and written to results/failures/ as a " +
				"scenario that replays it",
			Args: []scenario.Arg{
				{Name: "minutes", Kind: scenario.KindFloat, Default: "1", Doc: "how long; episodes already started are finished"},
				{Name: "parallel", Kind: scenario.KindInt, Default: "2", Doc: "concurrent episodes: they wait more than they work"},
				{Name: "shrink", Kind: scenario.KindDuration, Default: "3m", Doc: "how long a failing episode is shrunk"},
			},
			Metrics: episodeMetrics(),
		},
		Run: chaos,
	}
}

func episodeVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "episode",
			Doc: "one episode, action by action: `open`, `work 8`, `hold 40ms`, `kill`, `kill at wal/before-put nth 3`, `stop`, `stop at " +
				"POINT nth N`, `park at POINT nth N`, `delay at POINT 20ms`, `wake`, `sigterm`, `compact`, `power cut`, `clock jump 1h`, " +
				"`clock drift 2`, and before all others `http put after p 0.02 lose`",
			Args: []scenario.Arg{
				{Name: "actions", Kind: scenario.KindStrings, Required: true, Doc: "one per line"},
				{Name: "seed", Kind: scenario.KindInt, Default: "1", Doc: "for the clients and for rules with a probability"},
				{Name: "tries", Kind: scenario.KindInt, Default: "1", Doc: "how often it is run at most, until it fails"},
				{Name: "keep", Kind: scenario.KindBool, Default: "false", Doc: "keeps its timeline and history, whatever the result"},
			},
			Metrics: episodeMetrics(),
		},
		Run: func(ctx context.Context, r *bench.Run, args scenario.Args) error {
			list, err := parseActions(args.Strings("actions"))
			if err != nil {
				return err
			}
			for range args.Int("tries") {
				e, err := timed(ctx, r, uint64(args.Int("seed")), list)
				if e != nil {
					defer e.c.End()
				}
				if err == nil && args.Bool("keep") {
					err = keep(ctx, r, e, r, list)
				}
				if err != nil || r.Failed() {
					return err
				}
			}
			return nil
		},
	}
}

// timed runs an episode and measures it.
func timed(ctx context.Context, r *bench.Run, seed uint64, list []action) (*episode, error) {
	began := time.Now()
	e, err := runEpisode(ctx, r, seed, list)
	r.Metrics.Duration("episode_ms", time.Since(began))
	r.Metrics.Value("episodes_count", 1)
	r.Rounds++
	r.Metrics.Value("actions_count", float64(len(list)))
	return e, err
}

func chaos(ctx context.Context, r *bench.Run, args scenario.Args) error {
	limit := time.Duration(args.Float("minutes") * float64(time.Minute))
	began := time.Now()
	var mu sync.Mutex
	var failed error // of the harness
	n, stop := uint64(0), false
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if stop || failed != nil || time.Since(began) >= limit || ctx.Err() != nil {
			return 0, false
		}
		n++
		done := time.Since(began)
		r.Progress(fmt.Sprintf("%s: episode %d", r.Cell.Probe, n), int64(done/time.Second), int64(limit/time.Second))
		return n, true
	}
	var wg sync.WaitGroup
	for range args.Int("parallel") {
		wg.Go(func() {
			for {
				i, ok := take()
				if !ok {
					return
				}
				wrong, err := chaosEpisode(ctx, r, r.Seed*1_000_000+i, args.Duration("shrink"))
				mu.Lock()
				if err != nil {
					failed = fmt.Errorf("episode %d: %w", i, err)
				}
				stop = stop || wrong
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

// chaosEpisode runs the episode of a seed. True: it failed, and a folder was written.
func chaosEpisode(ctx context.Context, r *bench.Run, seed uint64, shrink time.Duration) (bool, error) {
	list := plot(seed)
	t := r.Trial(r.Metrics)
	dir, _ := r.FailureFolder(seed)
	t.KeepIn(dir)
	e, err := timed(ctx, t, seed, list)
	if e != nil {
		defer e.c.End()
	}
	if err != nil {
		return false, fmt.Errorf("seed %d: %w", seed, err)
	}
	e.c.Account()
	r.Absorb(t)
	if !t.Failed() {
		return false, nil
	}
	if err := keep(ctx, r, e, t, list); err != nil {
		return true, err
	}
	small, found := shrunk(ctx, r, seed, list, shrink)
	return true, keepSmall(ctx, r, e, small, found)
}
