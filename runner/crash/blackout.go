package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"blobpglite/core/engine"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func blackoutVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "blackout",
			Doc: "for longer than a commit may stay undecided, no reply from the bucket arrives, although requests are carried out: " +
				"clients must be told that the outcome is unknown, never that the commit failed; the engine serves nothing more; another " +
				"process finds out",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "2", Doc: "each with its own blackout"},
				{Name: "deadline", Kind: scenario.KindDuration, Default: "1s", Doc: "how long a commit may stay undecided"},
			},
			Metrics: bench.MetricDocs(
				"muted_count", "replies from the bucket lost in a round", "told_unknown_count", "operations in a round whose "+
					"client was told that the outcome is unknown",
				"found_count", "operations reported as unknown that were in the database after all", "open_ms", "time to reopen", "acknowledged_count", "acknowledged operations", "unknown_count", "operations with an unknown "+
					"outcome",
				"request_ms", "time of a request, as seen by a client",
			),
		},
		Run: blackout,
	}
}

func blackout(ctx context.Context, r *bench.Run, args scenario.Args) error {
	l := &cluster.Lifeline{Run: r, Mode: engine.ModeLog, Random: rand.New(rand.NewPCG(r.Seed, 0x64617268))}
	l.Change = func(o *node.OpenArgs) { o.CommitDeadline = args.Duration("deadline") }
	defer l.End()
	for round := range args.Int("rounds") {
		r.Progress(r.Cell.Probe+": blackout", int64(round), int64(args.Int("rounds")))
		if l.Cluster == nil {
			if err := l.Fresh(ctx); err != nil {
				return err
			}
			if l.Cluster.Front == nil {
				r.Vacuous("a real bucket cannot be muted")
				return nil
			}
		}
		if l.Serving == nil {
			if err := l.Reopen(ctx); err != nil || l.Serving == nil {
				return err
			}
		}
		if err := darkness(ctx, l); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if r.Failed() {
			return nil
		}
		l.Lives++
	}
	return l.Bucket(ctx)
}

// darkness is one blackout.
func darkness(ctx context.Context, l *cluster.Lifeline) error {
	c, m := l.Cluster, l.Serving
	from, muted := c.History.Len(), c.Front.Muted()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := c.Load(inner, workload.Load{Clients: 3, Mix: []string{"ledger", "bank", "transaction", "register", "rows"}, Seed: l.Random.Uint64(), Target: cluster.Only(m)})
	err := c.Acknowledged(ctx, 6)
	c.Mark("bucket", "fault", "no reply arrives")
	c.Front.Mute(true)
	err = errors.Join(err, poisoned(ctx, l, m))
	c.Front.Mute(false)
	err = errors.Join(err, stop())
	if err != nil {
		return err
	}
	l.Run.Metrics.Value("muted_count", float64(c.Front.Muted()-muted))
	l.Run.Struck("no reply arrives", c.Front.Muted()-muted)
	if _, _, err := m.Query(ctx, "SELECT 1"); err == nil {
		l.Run.Check(bench.CheckRefused, "an engine with a commit of unknown outcome answered a read")
	} else {
		l.Run.Check(bench.CheckRefused, "")
	}
	m.Kill()
	l.Serving = nil
	ops := c.History.Ops(from)
	if err := l.Reopen(ctx); err != nil {
		return err
	}
	there := map[int64]bool{}
	for _, e := range c.State.Ledger {
		there[e.Token] = true
	}
	for _, t := range c.State.Transfers {
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
	l.Run.Metrics.Value("told_unknown_count", float64(unknown))
	l.Run.Metrics.Value("found_count", float64(found))
	return nil
}

// poisoned waits until the engine has given up.
func poisoned(ctx context.Context, l *cluster.Lifeline, m *cluster.Member) error {
	end := l.Cluster.Clock.Monotonic() + pointLimit
	for l.Cluster.Clock.Monotonic() < end {
		var s node.StatusResult
		if err := m.Do(ctx, node.Status, nil, &s); err != nil {
			return err
		}
		if s.Role == string(node.ExitUnknown) {
			return nil
		}
		if s.Role != "holder" {
			l.Run.Check(bench.CheckRefused, fmt.Sprintf("the engine ended as %s (%s), although the outcome is unknown", s.Role, s.Why))
			return nil
		}
		if err := l.Cluster.Clock.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the engine did not give up although no reply arrived")
}
