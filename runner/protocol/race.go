package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/store"
	"blobpglite/core/wal"
	"blobpglite/faults/gcsfront"
	"blobpglite/faults/model"
	"blobpglite/faults/storefault"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// What happens to the writers of a race.
const (
	faultNone     = "none"
	faultLose     = "lose"
	faultThrottle = "throttle"
)

func raceVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "race",
			Doc: "lets many writers put under the same condition simultaneously, round after round: exactly one is told that it has won, " +
				"every reader then gets its body, and every other writer is told of a conflict (or, if its reply was lost in a swap, that " +
				"the outcome is unknown)",
			Args: []scenario.Arg{
				kindArg(),
				{Name: "writers", Kind: scenario.KindInt, Default: "20", Doc: "concurrent"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "100", Doc: "each with its own name"},
				{Name: "fault", Default: faultNone, OneOf: []string{faultNone, faultLose, faultThrottle},
					Doc: "injected below the client, on a separate emulator. lose: every reply to a put is lost; throttle: a name takes " +
						"one write a second, and answers 429 to more"},
				bench.StoreArg(),
			},
			Metrics: append(bench.MetricDocs("winners_count", "winners of a round", "race_ms", "duration of a round", "faults_count", "faults that struck",
				"unknown_count", "losers of a swap whose reply was lost: they cannot tell whether their write took effect and was then "+
					"replaced"), bench.WireDocs()...),
		},
		Run: race,
	}
}

func race(ctx context.Context, r *bench.Run, args scenario.Args) error {
	var front *gcsfront.Front
	var p *bench.Place
	var err error
	switch args.String("fault") {
	case faultLose:
		p, front, err = r.FaultyPlace(ctx, gcsfront.Options{Rules: []gcsfront.Rule{
			{Op: gcsfront.OpPut, KeyClass: "race", Phase: gcsfront.After, Every: 1, Do: gcsfront.Lose},
		}})
	case faultThrottle:
		p, front, err = r.FaultyPlace(ctx, gcsfront.Options{Rate: model.DefaultRate()})
	default:
		p, err = r.OpenPlace(ctx, args.String("on"))
	}
	if err != nil {
		return err
	}
	defer p.Close()
	rounds := args.Int("rounds")
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: races", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		wrong, err := raceOnce(ctx, r, p, fmt.Sprintf("race/%06d", round), args)
		if err != nil {
			return err
		}
		r.Check(checkOneWinner, wrong)
	}
	p.Measure(r)
	faults := int64(0)
	if front != nil {
		for _, f := range front.Fired() {
			r.Struck(f.Rule.String(), f.Fired)
			faults += f.Fired
		}
	}
	if args.String("fault") == faultThrottle {
		faults = p.Wire.Limited.Load()
		r.Struck("rate limit: 429", faults)
	}
	r.Metrics.Value("faults_count", float64(faults))
	return nil
}

// entrant is one writer of a race.
type entrant struct {
	id   string
	body []byte
	gen  store.Gen
	err  error
}

// raceOnce lets writers race for one name, and returns what was wrong.
func raceOnce(ctx context.Context, r *bench.Run, p *bench.Place, key string, args scenario.Args) (string, error) {
	cond, base, writers := store.IfAbsent(), store.Gen(0), args.Int("writers")
	swap := args.String("kind") == kindSwap
	if swap {
		gen, err := p.Put(ctx, key, []byte("base"), store.NewWriteID(), store.IfAbsent())
		if err != nil {
			return "", err
		}
		cond, base = store.IfGen(gen), gen
	}
	entrants := make([]entrant, writers)
	clk := clock.System()
	at := clk.Monotonic()
	bench.AtOnce(writers, func(i int) {
		e := &entrants[i]
		e.id = store.NewWriteID()
		e.body = fmt.Appendf(nil, "writer %d: %s", i, e.id)
		e.gen, e.err = p.Put(ctx, key, e.body, e.id, cond)
	})
	r.Metrics.Duration("race_ms", clk.Monotonic()-at)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	var winner *entrant
	winners, unknown := 0, 0
	for i := range entrants {
		switch e := &entrants[i]; {
		case e.err == nil:
			winners++
			winner = e
		case swap && args.String("fault") == faultLose && errors.Is(e.err, store.ErrUnknown):
			unknown++
		case !errors.Is(e.err, store.ErrConflict):
			return fmt.Sprintf("%s: a writer was told neither of success nor of a conflict: %v", key, e.err), nil
		}
	}
	r.Metrics.Value("winners_count", float64(winners))
	r.Metrics.Value("unknown_count", float64(unknown))
	if winners != 1 {
		return fmt.Sprintf("%s: %d winners", key, winners), nil
	}
	o, err := p.Get(ctx, key)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(o.Body, winner.body) || o.Gen != winner.gen || o.WriteID != winner.id || o.Gen <= base {
		return fmt.Sprintf("%s: the winner wrote %q as generation %d, read was %q, %d", key, winner.body, winner.gen, o.Body, o.Gen), nil
	}
	return "", nil
}

func contestVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "contest",
			Doc: "like race, but one level higher, with the protocol's own code: many writers fence one place in the log, or take one " +
				"expired lease, while replies are lost or names are throttled: exactly one is told that it has won",
			Args: []scenario.Arg{
				{Name: "for", Default: "log", OneOf: []string{"log", "lease"}, Doc: "log: create if absent; lease: compare and swap"},
				{Name: "writers", Kind: scenario.KindInt, Default: "20", Doc: "concurrent"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "100", Doc: "each on its own prefix"},
				{Name: "fault", Default: faultLose, OneOf: []string{faultLose, faultThrottle},
					Doc: "injected above the client. lose: half of the replies to puts are lost, by seed; throttle: a name takes one write a second"},
				bench.StoreArg(),
			},
			Metrics: bench.MetricDocs("winners_count", "winners of a round", "faults_count", "faults that struck",
				"won_unseen_count", "winners whose first reply was lost"),
		},
		Run: contest,
	}
}

func contest(ctx context.Context, r *bench.Run, args scenario.Args) error {
	rounds, unseen, faults := args.Int("rounds"), 0, int64(0)
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: contests", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		clk := bench.NewSkippingClock()
		o := storefault.Options{Clock: clk, Seed: r.Seed + uint64(round)}
		if args.String("fault") == faultLose {
			o.Rules = []storefault.Rule{{Op: storefault.OpPut, Phase: storefault.After, Probability: 0.5, Do: storefault.Lose}}
		} else {
			o.Rate = model.DefaultRate()
		}
		faulty, err := storefault.New(p, o)
		if err != nil {
			return err
		}
		c := &contestants{st: &lostReplies{Store: faulty}, below: store.Prefixed(p, fmt.Sprintf("contest/%06d", round)), clk: clk, prefix: fmt.Sprintf("contest/%06d", round)}
		if args.String("for") == "lease" {
			err = c.takeLease(ctx, args.Int("writers"))
		} else {
			err = c.fenceLog(ctx, args.Int("writers"))
		}
		faulty.Close()
		if err != nil {
			return err
		}
		r.Metrics.Value("winners_count", float64(c.winners))
		r.Check(checkOneWinner, c.wrong)
		for _, f := range faulty.Fired() {
			r.Struck(f.Rule.String(), f.Fired)
			faults += f.Fired
		}
		faults += faulty.Throttled()
		unseen += c.unseen
	}
	if args.String("fault") == faultThrottle {
		r.Struck("rate limit: throttled", faults)
	}
	r.Metrics.Value("faults_count", float64(faults))
	r.Metrics.Value("won_unseen_count", float64(unseen))
	return nil
}

// lostReplies remembers the write ids of puts that ended without an answer. If it has a gate, the first reads wait there for each other:
// then all writers have seen the same before the first of them acts.
type lostReplies struct {
	store.Store
	gate *gate
	mu   sync.Mutex
	ids  map[string]bool
}

func (l *lostReplies) Get(ctx context.Context, key string) (store.Object, error) {
	o, err := l.Store.Get(ctx, key)
	l.gate.pass()
	return o, err
}

// gate holds back arrivals until there are enough; later ones pass. A nil gate is open.
type gate struct {
	mu      sync.Mutex
	missing int
	open    chan struct{}
}

func newGate(n int) *gate { return &gate{missing: n, open: make(chan struct{})} }

func (g *gate) pass() {
	if g == nil {
		return
	}
	g.mu.Lock()
	if g.missing--; g.missing == 0 {
		close(g.open)
	}
	g.mu.Unlock()
	<-g.open
}

func (l *lostReplies) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	gen, err := l.Store.Put(ctx, key, body, id, cond)
	if errors.Is(err, store.ErrUnknown) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ids == nil {
			l.ids = map[string]bool{}
		}
		l.ids[id] = true
	}
	return gen, err
}

// contestants are the writers of one round.
type contestants struct {
	st      *lostReplies
	below   store.Store // the prefix, without faults
	prefix  string
	clk     bench.SkippingClock
	wrong   string
	winners int
	unseen  int // winners whose reply was lost at first
}

// fenceLog lets many openers fence the same place of the log.
func (c *contestants) fenceLog(ctx context.Context, writers int) error {
	errs := make([]error, writers)
	st := store.Prefixed(c.st, c.prefix)
	bench.AtOnce(writers, func(i int) {
		l, err := wal.NewLog(st, wal.Start("contest"), wal.Options{Epoch: uint64(i + 1), DatabaseID: "contest", Writer: fmt.Sprint(i), Clock: c.clk, Deadline: time.Hour})
		if err == nil {
			_, err = l.Fence(ctx)
		}
		errs[i] = err
	})
	o, err := c.below.Get(ctx, wal.Key(1))
	if err != nil {
		return err
	}
	rec, err := wal.Decode(o.Body)
	if err != nil {
		return err
	}
	return c.judge(errs, rec.Writer, o.WriteID, func(err error) bool {
		var taken *wal.TakenError
		return errors.As(err, &taken) && taken.Record.Writer == rec.Writer
	})
}

// takeLease lets many writers take an expired lease.
func (c *contestants) takeLease(ctx context.Context, writers int) error {
	const ttl = 24 * time.Hour // longer than all waits of a round together
	st := store.Prefixed(c.st, c.prefix)
	dead := lease.Options{Store: c.below, Holder: "dead", TTL: ttl, Clock: c.clk}
	if _, err := lease.Acquire(ctx, dead, 0); err != nil {
		return err
	}
	c.clk.Advance(2 * ttl)
	c.st.gate = newGate(writers)
	errs := make([]error, writers)
	bench.AtOnce(writers, func(i int) {
		_, errs[i] = lease.Acquire(ctx, lease.Options{Store: st, Holder: fmt.Sprint(i), TTL: ttl, Clock: c.clk}, 0)
	})
	o, err := c.below.Get(ctx, lease.Key)
	if err != nil {
		return err
	}
	state, err := lease.Decode(o.Body)
	if err != nil {
		return err
	}
	return c.judge(errs, state.Holder, o.WriteID, func(err error) bool {
		var locked *lease.LockedError
		return errors.As(err, &locked) && locked.Holder == state.Holder
	})
}

// judge counts the winners. stored is the winner according to the store; lost recognises the error of a writer that was told of it.
func (c *contestants) judge(errs []error, stored, writeID string, lost func(error) bool) error {
	for i, err := range errs {
		switch {
		case err == nil:
			c.winners++
			if fmt.Sprint(i) != stored {
				c.wrong = fmt.Sprintf("%s: writer %d was told that it has won, the store holds writer %s's", c.prefix, i, stored)
			}
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return err
		case !lost(err):
			c.wrong = fmt.Sprintf("%s: writer %d was told: %v", c.prefix, i, err)
		}
	}
	if c.winners != 1 {
		c.wrong = fmt.Sprintf("%s: %d winners", c.prefix, c.winners)
	}
	c.st.mu.Lock()
	defer c.st.mu.Unlock()
	if c.st.ids[writeID] {
		c.unseen++
	}
	return nil
}
