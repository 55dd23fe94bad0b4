package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/faults/pointfault"
	"blobpglite/faults/procfault"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func zombieVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "zombie",
			Doc: "a writer freezes in the middle of something; another takes over and commits; the first wakes and continues where it " +
				"was. It must be refused, reads included, and nothing acknowledged may be lost",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "4", Doc: "taking the points in turn"},
				{Name: "how", OneOf: []string{string(pointfault.Stop), string(pointfault.Park)}, Required: true,
					Doc: "stop: the whole process, as when a machine is suspended; park: one goroutine, while the rest continues"},
				{Name: "points", Kind: scenario.KindStrings, Doc: "where it freezes; empty: all"},
				{Name: "clients", Kind: scenario.KindInt, Default: "3", Doc: "for each of the two"},
				{Name: "mode", OneOf: []string{string(engine.ModeLog), string(engine.ModeSnapshot)}, Default: string(engine.ModeLog), Doc: "the commit mode"},
			},
			Metrics: bench.MetricDocs(
				"refused_count", "zombies refused in a round", "takeover_ms", "time from the stall to the successor's first commit",
				"asleep_ms", "how long the zombie was frozen", "missed_count", "rounds in which the fault point was not reached", "open_ms", "time to open",
				"acknowledged_count", "acknowledged operations", "unknown_count", "operations with an unknown outcome", "request_ms", "time of a request, as seen by "+
					"a client",
			),
		},
		Run: staleWriters,
	}
}

// stalls are the points at which a writer stops.
func stalls(mode engine.Mode) []faultSite {
	if mode == engine.ModeSnapshot {
		return []faultSite{
			{point.BaseAfterSegment, atLoad, 3}, {point.BaseAfterIndex, atLoad, 3}, {point.ManifestBeforeCAS, atLoad, 3}, {point.ManifestAfterCAS, atLoad, 3},
			{point.CommitBeforeAck, atLoad, 4},
		}
	}
	return []faultSite{
		{point.WalBeforePut, atLoad, 8}, {point.WalAfterPut, atLoad, 8}, {point.CommitBeforeAck, atLoad, 12}, {point.LeaseBeforeRenew, atLoad, 1},
		{point.BaseAfterIndex, atLayer, 1}, {point.ManifestBeforeCAS, atLayer, 1}, {point.GCBeforeDelete, atLayer, 2},
	}
}

// staleWriter is one cell of zombie.
type staleWriter struct {
	cluster.Lifeline
	how     pointfault.Action
	clients int
}

func staleWriters(ctx context.Context, r *bench.Run, args scenario.Args) error {
	u := &staleWriter{
		Lifeline: cluster.Lifeline{Run: r, Mode: engine.Mode(args.String("mode")), Random: rand.New(rand.NewPCG(r.Seed, 0x7a6f6d62))},
		how:      pointfault.Action(args.String("how")), clients: args.Int("clients"),
	}
	list, err := named(stalls(u.Mode), args.Strings("points"))
	if err != nil {
		return err
	}
	defer u.End()
	for round := range args.Int("rounds") {
		s := list[round%len(list)]
		r.Progress(fmt.Sprintf("%s %s: asleep at %s", r.Cell.Probe, u.how, s.point), int64(round), int64(args.Int("rounds")))
		if u.Cluster == nil || u.Lives >= cluster.LivesOfDatabase {
			if err := u.Fresh(ctx); err != nil {
				return err
			}
		}
		if u.Serving == nil {
			if err := u.Reopen(ctx); err != nil || u.Serving == nil {
				return err
			}
		}
		if err := u.round(ctx, s); err != nil {
			return fmt.Errorf("round %d, %s: %w", round+1, s.point, err)
		}
		if r.Failed() {
			return nil
		}
		u.Lives++
	}
	return u.Bucket(ctx)
}

func named(all []faultSite, names []string) ([]faultSite, error) {
	if len(names) == 0 {
		return all, nil
	}
	var list []faultSite
	for _, n := range names {
		found := false
		for _, s := range all {
			if string(s.point) == n {
				list, found = append(list, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("this experiment does not know how to reach the point %q in this mode", n)
		}
	}
	return list, nil
}

// mixed is what the clients of a database do that changes hands.
func mixed() []string {
	return []string{"bank", "transaction", "transaction", "register", "register", "ledger", "rows"}
}

// round is one stall.
func (u *staleWriter) round(ctx context.Context, s faultSite) error {
	c, a := u.Cluster, u.Serving
	stopA := c.Load(ctx, workload.Load{Clients: u.clients, Mix: mixed(), Seed: u.Random.Uint64(), Target: cluster.Only(a)})
	err := c.Acknowledged(ctx, 4)
	if err == nil {
		err = a.Arm(ctx, u.Random.Uint64(), pointfault.Rule{Point: s.point, Do: u.how, Nth: 1 + u.Random.IntN(s.most)})
	}
	if err != nil {
		return errors.Join(err, stopA())
	}
	layered := make(chan struct{})
	go func() {
		defer close(layered)
		for i := 0; s.where == atLayer && i < 3; i++ { // the first one may have nothing to collect
			if a.Do(ctx, node.Compact, nil, nil) != nil {
				return
			}
		}
	}()
	_, fired := a.AwaitFault(ctx, pointLimit)
	asleep := c.Clock.Monotonic()
	u.Run.Metrics.Value("missed_count", map[bool]float64{false: 1}[fired])
	if !fired {
		u.Run.Vacuous("%s was not reached", s.point)
		u.Serving = nil
		a.Kill()
		return errors.Join(stopA(), u.Reopen(ctx))
	}
	if u.how == pointfault.Park && s.where == atLoad && u.Mode == engine.ModeLog {
		// A layer is requested while a commit is executed and not durable: it must not be published with it.
		layered = make(chan struct{})
		go func() {
			defer close(layered)
			_ = a.Do(ctx, node.Compact, nil, nil)
		}()
	}
	// What is parked next to the commits does not delay them, so no client may commit, or the lease never expires.
	stopped := make(chan error, 1)
	go func() { stopped <- stopA() }()
	err = u.succeed(ctx, a, asleep)
	<-layered
	return errors.Join(err, <-stopped)
}

// succeed lets another writer take over, wakes up the first one, and looks at what it does.
func (u *staleWriter) succeed(ctx context.Context, a *cluster.Member, asleep time.Duration) error {
	c := u.Cluster
	b, err := u.Next(ctx)
	if err != nil {
		a.Kill()
		return err
	}
	at := c.Clock.Monotonic()
	inner, cancel := context.WithTimeout(ctx, cluster.OpenLimit)
	defer cancel()
	if _, err := b.Open(inner); err != nil {
		a.Kill()
		u.Serving = nil
		return u.Run.Blame(bench.CheckDurability, "the successor cannot open the database", err)
	}
	u.Run.Metrics.Duration("open_ms", c.Clock.Monotonic()-at)
	stopB := c.Load(ctx, workload.Load{Clients: u.clients, Mix: mixed(), Seed: u.Random.Uint64(), Target: cluster.Only(b)})
	err = c.Acknowledged(ctx, 1)
	u.Run.Metrics.Duration("takeover_ms", c.Clock.Monotonic()-asleep)
	if err == nil {
		err = c.Acknowledged(ctx, 10)
	}
	if err == nil {
		err = u.wake(ctx, a, asleep)
	}
	if err == nil {
		err = c.Acknowledged(ctx, 5)
	}
	err = errors.Join(err, stopB())
	a.Kill() // whatever it still does ends
	u.Serving = nil
	b.Kill()
	if err != nil {
		return err
	}
	return u.Reopen(ctx)
}

// wake continues the zombie and sends it a write and a read: both must be refused.
func (u *staleWriter) wake(ctx context.Context, a *cluster.Member, asleep time.Duration) error {
	c := u.Cluster
	u.Run.Metrics.Duration("asleep_ms", c.Clock.Monotonic()-asleep)
	if u.how == pointfault.Stop {
		if err := a.Strike(procfault.Continue); err != nil {
			return err
		}
	} else {
		c.Mark(a.Name, "fault", "release")
		if err := a.Do(ctx, node.Release, nil, nil); err != nil {
			return err
		}
	}
	inner, cancel := context.WithTimeout(ctx, pointLimit)
	defer cancel()
	refused := 0
	asks := []func() (*history.Op, error){
		func() (*history.Op, error) {
			token := c.History.Token()
			op := c.History.Begin(c.History.Client(), a.Name, history.Append, map[string]int64{"token": token})
			rows, _, err := a.Query(inner, fmt.Sprintf("INSERT INTO ledger SELECT id + 1, %[1]d, md5(hash || ':%[1]d') FROM ledger ORDER BY id DESC LIMIT 1 RETURNING id", token))
			if err == nil && len(rows) == 1 {
				op.Out = map[string]int64{"id": 0} // no place: an acknowledgement is wrong whatever it says
			}
			return op, err
		},
		func() (*history.Op, error) {
			op := c.History.Begin(c.History.Client(), a.Name, history.Read, map[string]int64{"key": 0})
			_, _, err := a.Query(inner, "SELECT value FROM registers WHERE key = 0")
			return op, err
		},
	}
	if u.Random.IntN(2) == 0 { // the first one to be asked finds out
		slices.Reverse(asks)
	}
	for _, ask := range asks {
		op, err := ask()
		if err == nil {
			c.History.End(op, history.OK, nil)
			u.Run.Check(bench.CheckRefused, fmt.Sprintf("%s of %s was answered after another writer had taken over and committed", op.Kind, a.Name))
			continue
		}
		c.History.End(op, c.Outcome(err), func(op *history.Op) { op.Error = err.Error() })
		var failed *node.Error
		if !errors.As(err, &failed) || failed.Code != node.CodeFenced && failed.Code != node.CodePoisoned {
			return fmt.Errorf("%s of a zombie: %w", op.Kind, err)
		}
		refused++
	}
	if refused == 2 {
		u.Run.Check(bench.CheckRefused, "")
		u.Run.Metrics.Value("refused_count", 1)
	} else {
		u.Run.Metrics.Value("refused_count", 0)
	}
	return nil
}
