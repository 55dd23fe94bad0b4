package step

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
	"blobpglite/runner/history"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func zombieVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "zombie",
			Doc: "a writer stands still in the middle of something; another one takes over and commits; the first one wakes up and goes " +
				"on where it was. It must be refused, reads included, and nothing that was acknowledged may be lost",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "4", Doc: "in turn at each of the points"},
				{Name: "how", OneOf: []string{string(pointfault.Stop), string(pointfault.Park)}, Required: true,
					Doc: "stop: the whole process, as on a machine that is suspended; park: one goroutine, the rest goes on"},
				{Name: "points", Kind: scenario.KindStrings, Doc: "where it stands still; all of them if left out"},
				{Name: "clients", Kind: scenario.KindInt, Default: "3", Doc: "of each of the two"},
				{Name: "mode", OneOf: []string{string(engine.ModeLog), string(engine.ModeSnapshot)}, Default: string(engine.ModeLog), Doc: "the commit mode"},
			},
			Metrics: metricDocs(
				"refused_count", "zombies that were refused, in each round", "takeover_ms", "from the stall to the first commit of the successor",
				"asleep_ms", "how long the zombie stood", "missed_count", "rounds in which the point was not reached", "open_ms", "each opening",
				"acknowledged_count", "operations", "unknown_count", "operations", "request_ms", "as a client sees it",
			),
		},
		run: undead,
	}
}

// stalls are where a writer stands still.
func stalls(mode engine.Mode) []spot {
	if mode == engine.ModeSnapshot {
		return []spot{
			{point.BaseAfterSegment, atLoad, 3}, {point.BaseAfterIndex, atLoad, 3}, {point.ManifestBeforeCAS, atLoad, 3}, {point.ManifestAfterCAS, atLoad, 3},
			{point.CommitBeforeAck, atLoad, 4},
		}
	}
	return []spot{
		{point.WalBeforePut, atLoad, 8}, {point.WalAfterPut, atLoad, 8}, {point.CommitBeforeAck, atLoad, 12}, {point.LeaseBeforeRenew, atLoad, 1},
		{point.BaseAfterIndex, atLayer, 1}, {point.ManifestBeforeCAS, atLayer, 1}, {point.GCBeforeDelete, atLayer, 2},
	}
}

// undeath is one cell of zombie.
type undeath struct {
	lifeline
	how     pointfault.Action
	clients int
}

func undead(ctx context.Context, r *Run, args scenario.Args) error {
	u := &undeath{
		lifeline: lifeline{r: r, mode: engine.Mode(args.String("mode")), random: rand.New(rand.NewPCG(r.Seed, 0x7a6f6d62))},
		how:      pointfault.Action(args.String("how")), clients: args.Int("clients"),
	}
	list, err := named(stalls(u.mode), args.Strings("points"))
	if err != nil {
		return err
	}
	defer u.end()
	for round := range args.Int("rounds") {
		s := list[round%len(list)]
		r.Progress(fmt.Sprintf("%s %s: asleep at %s", r.Cell.Probe, u.how, s.point), int64(round), int64(args.Int("rounds")))
		if u.c == nil || u.lives >= livesOfDatabase {
			if err := u.fresh(ctx); err != nil {
				return err
			}
		}
		if u.m == nil {
			if err := u.reopen(ctx); err != nil || u.m == nil {
				return err
			}
		}
		if err := u.round(ctx, s); err != nil {
			return fmt.Errorf("round %d, %s: %w", round+1, s.point, err)
		}
		if len(r.failed) > 0 {
			return nil
		}
		u.lives++
	}
	return u.bucket(ctx)
}

func named(all []spot, names []string) ([]spot, error) {
	if len(names) == 0 {
		return all, nil
	}
	var list []spot
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

// mixed is what clients of a database do that changes hands.
func mixed() []string {
	return []string{"bank", "transaction", "transaction", "register", "register", "ledger", "rows"}
}

// sabotage is how often a client's statement is cancelled, or its session ended, by another one.
const sabotage = 30 * time.Millisecond

// on sends clients to one member only, as long as it lives.
func on(m *member) workload.Target {
	return func() (workload.Conn, string) {
		select {
		case <-m.Ended():
			return nil, ""
		default:
			return m, m.name
		}
	}
}

// round is one stall.
func (u *undeath) round(ctx context.Context, s spot) error {
	c, a := u.c, u.m
	stopA := c.load(ctx, workload.Load{Clients: u.clients, Mix: mixed(), Seed: u.random.Uint64(), Target: on(a)})
	err := c.acknowledged(ctx, 4)
	if err == nil {
		err = a.arm(ctx, u.random.Uint64(), pointfault.Rule{Point: s.point, Do: u.how, Nth: 1 + u.random.IntN(s.most)})
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
	_, fired := a.fault(ctx, pointLimit)
	asleep := c.clk.Monotonic()
	u.r.Metrics.Value("missed_count", map[bool]float64{false: 1}[fired])
	if !fired {
		u.r.skip("%s was not reached", s.point)
		u.m = nil
		a.Kill()
		return errors.Join(stopA(), u.reopen(ctx))
	}
	if u.how == pointfault.Park && s.where == atLoad && u.mode == engine.ModeLog {
		// A layer is asked for while a commit is executed and not durable: it must not be published with it.
		layered = make(chan struct{})
		go func() {
			defer close(layered)
			_ = a.Do(ctx, node.Compact, nil, nil)
		}()
	}
	// What is parked beside the commits does not hold them up, so nobody may ask for any, or the lease never runs out.
	stopped := make(chan error, 1)
	go func() { stopped <- stopA() }()
	err = u.succeed(ctx, a, asleep)
	<-layered
	return errors.Join(err, <-stopped)
}

// succeed lets another writer take over, wakes the first one up, and looks at what it does.
func (u *undeath) succeed(ctx context.Context, a *member, asleep time.Duration) error {
	c := u.c
	b, err := u.next(ctx)
	if err != nil {
		a.Kill()
		return err
	}
	at := c.clk.Monotonic()
	inner, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	if _, err := b.open(inner); err != nil {
		a.Kill()
		u.m = nil
		return u.r.blame(checkDurability, "the successor cannot open the database", err)
	}
	u.r.Metrics.Duration("open_ms", c.clk.Monotonic()-at)
	stopB := c.load(ctx, workload.Load{Clients: u.clients, Mix: mixed(), Seed: u.random.Uint64(), Target: on(b)})
	err = c.acknowledged(ctx, 1)
	u.r.Metrics.Duration("takeover_ms", c.clk.Monotonic()-asleep)
	if err == nil {
		err = c.acknowledged(ctx, 10)
	}
	if err == nil {
		err = u.wake(ctx, a, asleep)
	}
	if err == nil {
		err = c.acknowledged(ctx, 5)
	}
	err = errors.Join(err, stopB())
	a.Kill() // whatever it still does ends
	u.m = nil
	b.Kill()
	if err != nil {
		return err
	}
	return u.reopen(ctx)
}

// wake continues the zombie and asks it for a write and a read: both must be refused.
func (u *undeath) wake(ctx context.Context, a *member, asleep time.Duration) error {
	c := u.c
	u.r.Metrics.Duration("asleep_ms", c.clk.Monotonic()-asleep)
	if u.how == pointfault.Stop {
		if err := a.signal(procfault.Continue); err != nil {
			return err
		}
	} else {
		c.mark(a.name, "fault", "release")
		if err := a.Do(ctx, node.Release, nil, nil); err != nil {
			return err
		}
	}
	inner, cancel := context.WithTimeout(ctx, pointLimit)
	defer cancel()
	refused := 0
	asks := []func() (*history.Op, error){
		func() (*history.Op, error) {
			token := c.h.Token()
			op := c.h.Begin(c.h.Client(), a.name, history.Append, map[string]int64{"token": token})
			rows, _, err := a.Query(inner, fmt.Sprintf("INSERT INTO ledger SELECT id + 1, %[1]d, md5(hash || ':%[1]d') FROM ledger ORDER BY id DESC LIMIT 1 RETURNING id", token))
			if err == nil && len(rows) == 1 {
				op.Out = map[string]int64{"id": 0} // no place: an acknowledgement is wrong whatever it says
			}
			return op, err
		},
		func() (*history.Op, error) {
			op := c.h.Begin(c.h.Client(), a.name, history.Read, map[string]int64{"key": 0})
			_, _, err := a.Query(inner, "SELECT value FROM registers WHERE key = 0")
			return op, err
		},
	}
	if u.random.IntN(2) == 0 { // the first one to be asked finds out
		slices.Reverse(asks)
	}
	for _, ask := range asks {
		op, err := ask()
		if err == nil {
			c.h.End(op, history.OK, nil)
			u.r.check(checkRefused, fmt.Sprintf("%s of %s was answered after another writer had taken over and committed", op.Kind, a.name))
			continue
		}
		c.h.End(op, c.outcome(err), func(op *history.Op) { op.Error = err.Error() })
		var failed *node.Error
		if !errors.As(err, &failed) || failed.Code != node.CodeFenced && failed.Code != node.CodePoisoned {
			return fmt.Errorf("%s of a zombie: %w", op.Kind, err)
		}
		refused++
	}
	if refused == 2 {
		u.r.check(checkRefused, "")
		u.r.Metrics.Value("refused_count", 1)
	} else {
		u.r.Metrics.Value("refused_count", 0)
	}
	return nil
}
