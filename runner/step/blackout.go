package step

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"blobpglite/core/engine"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func blackoutVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "blackout",
			Doc: "for longer than a commit may stay undecided no reply of the bucket arrives, though requests are carried out: clients must " +
				"be told that nobody knows, never that it failed; the engine serves nothing more; another process finds out",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "2", Doc: "each with a blackout of its own"},
				{Name: "deadline", Kind: scenario.KindDuration, Default: "1s", Doc: "how long a commit may stay undecided"},
			},
			Metrics: metricDocs(
				"muted_count", "replies that were lost, in each round", "told_unknown_count", "operations whose client was told that nobody knows, in each round",
				"found_count", "of these, in the database after all", "open_ms", "each reopening", "acknowledged_count", "operations", "unknown_count", "operations",
				"request_ms", "as a client sees it",
			),
		},
		run: blackout,
	}
}

func blackout(ctx context.Context, r *Run, args scenario.Args) error {
	l := &lifeline{r: r, mode: engine.ModeLog, random: rand.New(rand.NewPCG(r.Seed, 0x64617268))}
	l.change = func(o *node.OpenArgs) { o.CommitDeadline = args.Duration("deadline") }
	defer l.end()
	for round := range args.Int("rounds") {
		r.Progress(r.Cell.Probe+": blackout", int64(round), int64(args.Int("rounds")))
		if l.c == nil {
			if err := l.fresh(ctx); err != nil {
				return err
			}
			if l.c.front == nil {
				r.skip("a real bucket cannot be muted")
				return nil
			}
		}
		if l.m == nil {
			if err := l.reopen(ctx); err != nil || l.m == nil {
				return err
			}
		}
		if err := l.darkness(ctx); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if len(r.failed) > 0 {
			return nil
		}
		l.lives++
	}
	return l.bucket(ctx)
}

// darkness is one blackout.
func (l *lifeline) darkness(ctx context.Context) error {
	c, m := l.c, l.m
	from, muted := c.h.Len(), c.front.Muted()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := c.load(inner, workload.Load{Clients: 3, Mix: []string{"ledger", "bank", "transaction", "register", "rows"}, Seed: l.random.Uint64(), Target: on(m)})
	err := c.acknowledged(ctx, 6)
	c.mark("bucket", "fault", "no reply arrives")
	c.front.Mute(true)
	err = errors.Join(err, l.poisoned(ctx, m))
	c.front.Mute(false)
	err = errors.Join(err, stop())
	if err != nil {
		return err
	}
	l.r.Metrics.Value("muted_count", float64(c.front.Muted()-muted))
	l.r.struck("no reply arrives", c.front.Muted()-muted)
	if _, _, err := m.Query(ctx, "SELECT 1"); err == nil {
		l.r.check(checkRefused, "an engine that does not know what became of a commit answered a read")
	} else {
		l.r.check(checkRefused, "")
	}
	m.Kill()
	l.m = nil
	ops := c.h.Ops(from)
	if err := l.reopen(ctx); err != nil {
		return err
	}
	there := map[int64]bool{}
	for _, e := range c.state.Ledger {
		there[e.Token] = true
	}
	for _, t := range c.state.Transfers {
		there[t] = true
	}
	found, unknown := 0, 0
	for _, op := range ops {
		if op.Outcome == history.Unknown {
			unknown++
			if token, ok := op.In["token"]; ok && there[token] {
				found++
			}
		}
	}
	l.r.Metrics.Value("told_unknown_count", float64(unknown))
	l.r.Metrics.Value("found_count", float64(found))
	return nil
}

// poisoned waits until the engine has given up.
func (l *lifeline) poisoned(ctx context.Context, m *member) error {
	end := l.c.clk.Monotonic() + pointLimit
	for l.c.clk.Monotonic() < end {
		var s node.StatusResult
		if err := m.Do(ctx, node.Status, nil, &s); err != nil {
			return err
		}
		if s.Role == string(node.ExitUnknown) {
			return nil
		}
		if s.Role != "holder" {
			l.r.check(checkRefused, fmt.Sprintf("the engine ended as %s (%s) where nobody could know", s.Role, s.Why))
			return nil
		}
		if err := l.c.clk.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the engine did not give up although no reply arrived")
}
