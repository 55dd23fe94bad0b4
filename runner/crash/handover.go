package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
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

// Ways in which a writer goes while its successor waits.
const (
	goClean   = "clean"   // it closes: flushes, releases the lease
	goCrash   = "crash"   // SIGKILL
	goExpiry  = "expiry"  // it gets no requests, so its lease expires; then it gets one
	goSigterm = "sigterm" // SIGTERM with commits that were acknowledged and not flushed
	goRivals  = "rivals"  // it closes, and two wait
)

func handoverVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "handover",
			Doc: "a successor starts to open the database while its writer works, and waits; then the writer ends. The successor must " +
				"have everything acknowledged, including the last flush, and be the only writer",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "each successor is the next one's predecessor"},
				{Name: "how", OneOf: []string{goClean, goCrash, goExpiry, goSigterm, goRivals}, Required: true, Doc: "how the writer ends"},
				{Name: "lease_ttl", Kind: scenario.KindDuration, Default: "2s", Doc: "how long a silent writer keeps the lease"},
				{Name: "clients", Kind: scenario.KindInt, Default: "3", Doc: "that work concurrently"},
			},
			Metrics: bench.MetricDocs(
				"handover_ms", "time from the writer's end to the successor's first answer", "waited_ms", "how long the successor "+
					"waited, over its whole opening",
				"flushed_count", "operations acknowledged while the successor waited", "early_count", "rounds in which the writer lost "+
					"its lease before it was meant to end", "open_ms", "time to reopen cold",
				"acknowledged_count", "acknowledged operations", "unknown_count", "operations with an unknown outcome", "request_ms", "time of a request, as seen by "+
					"a client",
			),
		},
		Run: handover,
	}
}

// succession is one cell of handover.
type succession struct {
	cluster.Lifeline
	how     string
	ttl     time.Duration
	clients int
}

func handover(ctx context.Context, r *bench.Run, args scenario.Args) error {
	s := &succession{
		Lifeline: cluster.Lifeline{Run: r, Mode: engine.ModeLog, Random: rand.New(rand.NewPCG(r.Seed, 0x68616e64))},
		how:      args.String("how"), ttl: args.Duration("lease_ttl"), clients: args.Int("clients"),
	}
	s.Change = func(o *node.OpenArgs) {
		o.LeaseTTL = s.ttl
		if s.how == goSigterm { // acknowledged means executed; it becomes durable later
			o.Durability, o.IdleFlush = engine.Sleep, time.Hour
		}
	}
	defer s.End()
	for round := range args.Int("rounds") {
		r.Progress(fmt.Sprintf("%s %s", r.Cell.Probe, s.how), int64(round), int64(args.Int("rounds")))
		if s.Cluster == nil || s.Lives >= cluster.LivesOfDatabase {
			if err := s.Fresh(ctx); err != nil {
				return err
			}
		}
		if s.Serving == nil {
			if err := s.Reopen(ctx); err != nil || s.Serving == nil {
				return err
			}
		}
		if err := s.round(ctx); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		if r.Failed() {
			return nil
		}
		s.Lives++
	}
	return s.Bucket(ctx)
}

// heir is a successor and how its opening went.
type heir struct {
	*cluster.Member
	opened node.OpenResult
	err    error
	at     time.Duration // when it was open
}

// round is one hand-over.
func (s *succession) round(ctx context.Context) error {
	c, a := s.Cluster, s.Serving
	stop := c.Load(ctx, workload.Load{Clients: s.clients, Mix: mixed(), Seed: s.Random.Uint64(), Target: cluster.Only(a)})
	err := c.Acknowledged(ctx, 5)
	heirs, wait, waitErr := s.queue(ctx)
	err = errors.Join(err, waitErr)
	waiting := c.History.Len()
	early := false
	if err == nil { // the writer keeps working while its successor waits: a wrong order would lose what it writes now
		early, err = s.worksOn(ctx, a)
	}
	if err != nil {
		return errors.Join(err, stop())
	}
	s.Run.Metrics.Value("early_count", map[bool]float64{true: 1}[early])
	s.Run.Metrics.Value("flushed_count", float64(history.Count(c.History.Ops(waiting), history.OK)))
	gone := c.Clock.Monotonic()
	switch {
	case early && s.how == goSigterm:
		return errors.Join(errors.New("the writer lost its lease before it could be told to go, and with it what it had not flushed: the machine is too slow for this lease"), stop())
	case early:
		err = stop()
	default:
		err = s.leave(ctx, a, stop)
	}
	if err != nil {
		return err
	}
	wait()
	if s.how == goExpiry {
		if err := s.late(ctx, a); err != nil {
			return err
		}
	}
	a.Kill()
	s.Serving = nil
	return s.inherit(ctx, heirs, gone)
}

// worksOn waits for what the writer acknowledges while its successor waits. Early: the machine was so slow that the writer lost its lease
// during that; then the hand-over has already taken place, and is judged as one.
func (s *succession) worksOn(ctx context.Context, a *cluster.Member) (early bool, err error) {
	err = s.Cluster.Acknowledged(ctx, 8)
	if err == nil {
		return false, nil
	}
	var status node.StatusResult
	if ask := a.Do(ctx, node.Status, nil, &status); ask != nil {
		return false, errors.Join(err, ask)
	}
	if status.Role == string(node.ExitFenced) {
		return true, nil
	}
	return false, fmt.Errorf("%w: the writer is %s: %s", err, status.Role, status.Why)
}

// queue lets the successors begin to open.
func (s *succession) queue(ctx context.Context) (heirs []*heir, wait func(), err error) {
	n := 1
	if s.how == goRivals {
		n = 2
	}
	var wg sync.WaitGroup
	for range n {
		m, err := s.Next(ctx)
		if err != nil {
			return nil, nil, err
		}
		// It waits when it requests the lease for the second time.
		waits := pointfault.Rule{Name: "the successor waits", Point: point.LeaseBeforeAcquire, Do: pointfault.Delay, Nth: 2, For: time.Millisecond}
		if err := m.Arm(ctx, s.Random.Uint64(), waits); err != nil {
			return nil, nil, err
		}
		h := &heir{Member: m}
		heirs = append(heirs, h)
		wg.Go(func() {
			began := s.Cluster.Clock.Monotonic()
			inner, cancel := context.WithTimeout(ctx, cluster.OpenLimit)
			defer cancel()
			h.opened, h.err = m.Open(inner)
			h.at = s.Cluster.Clock.Monotonic()
			s.Run.Metrics.Duration("waited_ms", h.at-began)
		})
	}
	for _, h := range heirs {
		if _, ok := h.AwaitFault(ctx, pointLimit); !ok {
			return nil, nil, fmt.Errorf("the successor does not wait, though its predecessor works (%v)", h.err)
		}
	}
	return heirs, wg.Wait, nil
}

// leave makes the writer go.
func (s *succession) leave(ctx context.Context, a *cluster.Member, stop func() error) error {
	c := s.Cluster
	switch s.how {
	case goClean, goRivals:
		err := a.Do(ctx, node.Close, nil, nil)
		c.Mark(a.Name, "life", "closed")
		return errors.Join(err, stop())
	case goCrash:
		err := a.Strike(procfault.Kill)
		return errors.Join(err, stop())
	case goSigterm:
		err := a.Strike(procfault.Terminate)
		exit, waitErr := a.Wait(ctx)
		c.Mark(a.Name, "life", "%s", exit)
		if err = errors.Join(err, waitErr, stop()); err != nil {
			return err
		}
		if exit.Reason != node.ExitTerminated {
			s.Run.Check(bench.CheckDurability, fmt.Sprintf("the writer was told to go, but ended as %s", exit))
		}
		s.Run.Struck("SIGTERM", 1)
		return nil
	}
	return stop() // expiry: it gets no more requests
}

// late sends a request to a writer whose lease has expired: it must be refused.
func (s *succession) late(ctx context.Context, a *cluster.Member) error {
	op := s.Cluster.History.Begin(s.Cluster.History.Client(), a.Name, history.Read, map[string]int64{"key": 0})
	_, _, err := a.Query(ctx, "SELECT value FROM registers WHERE key = 0")
	if err == nil {
		s.Cluster.History.End(op, history.OK, nil)
		s.Run.Check(bench.CheckRefused, "a writer whose lease had expired answered a read after its successor had opened")
		return nil
	}
	s.Cluster.History.End(op, s.Cluster.Outcome(err), func(op *history.Op) { op.Error = err.Error() })
	var failed *node.Error
	if !errors.As(err, &failed) || failed.Code != node.CodeFenced {
		return fmt.Errorf("ask a writer whose lease ran out: %w", err)
	}
	s.Run.Check(bench.CheckRefused, "")
	return nil
}

// inherit checks who has the database now.
func (s *succession) inherit(ctx context.Context, heirs []*heir, gone time.Duration) error {
	epochs := map[uint64]string{}
	var last *heir
	for _, h := range heirs {
		var failed *node.Error
		if len(heirs) > 1 && errors.As(h.err, &failed) && failed.Code == node.CodeFenced {
			continue // the other one took over while it opened
		}
		if h.err != nil {
			if err := s.Run.Blame(bench.CheckDurability, "the successor cannot open the database", h.err); err != nil {
				return err
			}
			continue
		}
		epoch := h.opened.Opened.Epoch
		if other := epochs[epoch]; other != "" {
			s.Run.Check(bench.CheckOneEpoch, fmt.Sprintf("%s and %s both write in epoch %d", other, h.Name, epoch))
		}
		epochs[epoch] = h.Name
		if last == nil || epoch > last.opened.Opened.Epoch {
			last = h
		}
	}
	if last == nil {
		if !s.Run.Failed() {
			s.Run.Check(bench.CheckDurability, "none of the waiting successors could open the database")
		}
		return nil
	}
	s.Run.Check(bench.CheckOneEpoch, "")
	for _, h := range heirs { // the lower epoch has been taken over by the higher one
		if h != last && h.err == nil {
			if _, _, err := h.Query(ctx, "UPDATE registers SET value = value"); err == nil {
				s.Run.Check(bench.CheckRefused, fmt.Sprintf("%s wrote in epoch %d although %s has opened in %d", h.Name, h.opened.Opened.Epoch, last.Name, last.opened.Opened.Epoch))
			}
		}
		if h != last {
			h.Kill()
		}
	}
	s.Run.Metrics.Duration("handover_ms", last.at-gone)
	if err := s.Cluster.Verify(ctx, last.Member); err != nil {
		return err
	}
	s.Serving = last.Member
	s.Cluster.Serve(s.Serving)
	return nil
}
