package step

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"blobpglite/runner/record"
	"blobpglite/runner/scenario"
)

func episodeMetrics() []scenario.MetricDoc {
	return metricDocs(
		"episodes_count", "that were run", "open_ms", "each opening, waiting for the lease included", "acknowledged_count", "operations, in each episode",
		"unknown_count", "operations of which nobody knows, in each episode", "request_ms", "as a client sees it", "episode_ms", "each",
		"actions_count", "in each",
	)
}

func chaosVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "chaos",
			Doc: "episodes of everything at once, made by seed, until the time is up: processes that die, stand still and wake up, power " +
				"cuts, replies that are lost, layers on their way, clocks that jump. An episode that fails is made smaller and " +
				"written to results/failures/ as a scenario that replays it",
			Args: []scenario.Arg{
				{Name: "minutes", Kind: scenario.KindFloat, Default: "1", Doc: "how long; the episodes that are begun are ended"},
				{Name: "parallel", Kind: scenario.KindInt, Default: "2", Doc: "episodes at once: they wait more than they work"},
				{Name: "shrink", Kind: scenario.KindDuration, Default: "3m", Doc: "how long a failing episode is made smaller"},
			},
			Metrics: episodeMetrics(),
		},
		run: chaos,
	}
}

func episodeVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "episode",
			Doc: "one episode, action by action: `open`, `work 8`, `hold 40ms`, `kill`, `kill at wal/before-put nth 3`, `stop`, " +
				"`stop at POINT nth N`, `park at POINT nth N`, `delay at POINT 20ms`, `wake`, `sigterm`, `compact`, `power cut`, `clock jump 1h`, " +
				"`clock drift 2`, and first of all `http put after p 0.02 lose`",
			Args: []scenario.Arg{
				{Name: "actions", Kind: scenario.KindStrings, Required: true, Doc: "one a line"},
				{Name: "seed", Kind: scenario.KindInt, Default: "1", Doc: "of the clients and of rules with a probability"},
				{Name: "tries", Kind: scenario.KindInt, Default: "1", Doc: "how often it is run, until it fails"},
				{Name: "keep", Kind: scenario.KindBool, Default: "false", Doc: "its timeline and its history are kept, whatever came of it"},
			},
			Metrics: episodeMetrics(),
		},
		run: func(ctx context.Context, r *Run, args scenario.Args) error {
			list, err := parseActions(args.Strings("actions"))
			if err != nil {
				return err
			}
			for range args.Int("tries") {
				e, err := r.timed(ctx, uint64(args.Int("seed")), list)
				if e != nil {
					defer e.c.end()
				}
				if err == nil && args.Bool("keep") {
					err = r.keep(ctx, e, r, list)
				}
				if err != nil || len(r.failed) > 0 {
					return err
				}
			}
			return nil
		},
	}
}

// timed runs an episode and measures it.
func (r *Run) timed(ctx context.Context, seed uint64, list []action) (*episode, error) {
	began := time.Now()
	e, err := r.runEpisode(ctx, seed, list)
	r.Metrics.Duration("episode_ms", time.Since(began))
	r.Metrics.Value("episodes_count", 1)
	r.Rounds++
	r.Metrics.Value("actions_count", float64(len(list)))
	return e, err
}

// trial is a run of its own for one episode.
func (r *Run) trial(metrics *record.Metrics) *Run {
	return &Run{
		Cell: r.Cell, Seed: r.Seed, Store: r.Store, Runtime: r.Runtime, Progress: func(string, int64, int64) {}, Metrics: metrics, Results: r.Results,
		failed: map[string]string{}, held: map[string]int{},
	}
}

// absorb takes over what a trial found.
func (r *Run) absorb(t *Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Rounds += t.Rounds
	for name, n := range t.held {
		r.held[name] += n
	}
	for name, wrong := range t.failed {
		if r.failed[name] == "" {
			r.failed[name] = wrong
		}
	}
	for _, f := range t.Faults {
		i := slices.IndexFunc(r.Faults, func(o record.Fault) bool { return o.Rule == f.Rule })
		if i < 0 {
			r.Faults = append(r.Faults, f)
		} else {
			r.Faults[i].Fired += f.Fired
		}
	}
	r.Ops = r.Ops.Add(t.Ops)
}

func chaos(ctx context.Context, r *Run, args scenario.Args) error {
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
				wrong, err := r.chaosEpisode(ctx, r.Seed*1_000_000+i, args.Duration("shrink"))
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
func (r *Run) chaosEpisode(ctx context.Context, seed uint64, shrink time.Duration) (bool, error) {
	list := plot(seed)
	t := r.trial(r.Metrics)
	t.kept, _ = r.folder(seed)
	e, err := t.timed(ctx, seed, list)
	if e != nil {
		defer e.c.end()
	}
	if err != nil {
		return false, fmt.Errorf("seed %d: %w", seed, err)
	}
	e.c.account()
	r.absorb(t)
	if len(t.failed) == 0 {
		return false, nil
	}
	if err := r.keep(ctx, e, t, list); err != nil {
		return true, err
	}
	small, found := r.shrunk(ctx, seed, list, shrink)
	return true, r.keepSmall(ctx, e, small, found)
}

// sortedFailures words what was wrong.
func (r *Run) sortedFailures() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(r.failed)) {
		lines = append(lines, name+": "+r.failed[name])
	}
	return lines
}
