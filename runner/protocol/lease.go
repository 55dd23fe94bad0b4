package protocol

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/store"
	"blobpglite/faults/storefault"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// virtualStart is where the virtual clocks of leases begin.
func virtualStart() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func lockedVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "locked",
			Doc: "takes a lease and lets a second writer try: it is told who holds the lease and until when, in the error's fields and in " +
				"its text; a writer that waits gets the lease when it expires, or immediately when it is released",
			Args: []scenario.Arg{{Name: "rounds", Kind: scenario.KindInt, Default: "20", Doc: "each on its own prefix"}, bench.StoreArg()},
			Metrics: bench.MetricDocs("refused_count", "attempts to take the lease while it was held", "waited_ms", "virtual time until an "+
				"unrenewed lease was taken"),
		},
		Run: locked,
	}
}

func locked(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	rounds, refused := args.Int("rounds"), 0
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: locked leases", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		const ttl = 10 * time.Second
		clk := bench.NewSkippingClock()
		st := store.Prefixed(p, fmt.Sprintf("locked/%06d", round))
		options := func(holder string) lease.Options {
			return lease.Options{Store: st, Holder: holder, Address: holder + ".example:5432", TTL: ttl, Clock: clk}
		}
		first, err := lease.Acquire(ctx, options("first"), 0)
		if err != nil {
			return err
		}
		until := clk.Now().Add(ttl)
		_, err = lease.Acquire(ctx, options("second"), 0)
		refused++
		r.Check(bench.CheckLocked, wrongLocked(err, "first", until))

		// A holder that is silent: the waiting process gets the lease when it has expired, not before.
		at := clk.Monotonic()
		third, err := lease.Acquire(ctx, options("third"), time.Minute)
		if err != nil {
			return err
		}
		waited := clk.Monotonic() - at
		r.Metrics.Duration("waited_ms", waited)
		r.Check(bench.CheckLocked, bench.Wrongf(waited < ttl, "the lease of a silent holder was taken after %v of its %v", waited, ttl))
		err = first.Ensure(ctx)
		r.Check(bench.CheckLocked, bench.Wrongf(!errors.Is(err, lease.ErrLost), "the silent holder continues: %v", err))

		// There is no wait for a holder that releases it.
		if err := third.Release(ctx); err != nil {
			return err
		}
		if _, err := lease.Acquire(ctx, options("fourth"), 0); err != nil {
			r.Check(bench.CheckLocked, fmt.Sprintf("a released lease is not free: %v", err))
		}
	}
	r.Metrics.Value("refused_count", float64(refused))
	return nil
}

// wrongLocked says what is wrong with what a second writer was told.
func wrongLocked(err error, holder string, until time.Time) string {
	var told *lease.LockedError
	switch {
	case err == nil:
		return "a lease that is held was taken"
	case !errors.As(err, &told) || !errors.Is(err, lease.ErrLocked):
		return fmt.Sprintf("the error is no LockedError: %v", err)
	case told.Holder != holder || !told.ExpiresAt.Equal(until):
		return fmt.Sprintf("told of %q until %v, it is held by %q until %v", told.Holder, told.ExpiresAt, holder, until)
	}
	for _, part := range []string{holder, told.Address, until.UTC().Format(time.RFC3339)[:19]} {
		if !strings.Contains(err.Error(), part) {
			return fmt.Sprintf("the message lacks %q: %v", part, err)
		}
	}
	return ""
}

func heartbeatVerb() bench.Verb {
	return bench.Verb{
		Bare: true,
		Verb: scenario.Verb{
			Name: "heartbeat",
			Doc: "lets a holder renew its lease after 0 to 2 times its length, by seed and in virtual time, while a rival whose clock is " +
				"up to one lease ahead or behind tries to take it at the same moment: the two never both succeed, and the object agrees " +
				"with the winner",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "1000", Doc: "each until the lease changes hands, or beats times"},
				{Name: "beats", Kind: scenario.KindInt, Default: "8", Doc: "renewals in a round"},
				{Name: "lose", Kind: scenario.KindFloat, Doc: "probability that the reply to an applied put is lost"},
				bench.StoreArg(),
			},
			Metrics: bench.MetricDocs("renewed_count", "times the holder kept the lease", "taken_count", "times the rival got the lease",
				"neither_count", "times neither got the lease: a reply was lost", "faults_count", "lost replies"),
		},
		Run: heartbeat,
	}
}

// beat is the state of one round of heartbeat.
type beat struct {
	r          *bench.Run
	st         store.Store // with faults
	below      store.Store // without
	random     *rand.Rand
	own, rival *clock.Virtual
	holder     *lease.Lease
	ttl        time.Duration

	renewed, taken, neither int
}

func heartbeat(ctx context.Context, r *bench.Run, args scenario.Args) error {
	p, err := r.OpenPlace(ctx, args.String("on"))
	if err != nil {
		return err
	}
	defer p.Close()
	b := &beat{r: r, ttl: 10 * time.Second}
	rounds, faults := args.Int("rounds"), int64(0)
	for round := range rounds {
		r.Progress(fmt.Sprintf("%s %s: renewals against takeovers", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
		seed := r.Seed + uint64(round)
		b.random = rand.New(rand.NewPCG(seed, 6))
		o := storefault.Options{Seed: seed, Clock: bench.NewSkippingClock()}
		if lose := args.Float("lose"); lose > 0 {
			o.Rules = []storefault.Rule{{Op: storefault.OpPut, Phase: storefault.After, Probability: lose, Do: storefault.Lose}}
		}
		faulty, err := storefault.New(p, o)
		if err != nil {
			return err
		}
		prefix := fmt.Sprintf("beat/%06d", round)
		b.st, b.below = store.Prefixed(faulty, prefix), store.Prefixed(p, prefix)
		err = b.round(ctx, args.Int("beats"))
		faulty.Close()
		if err != nil {
			return err
		}
		for _, f := range faulty.Fired() {
			r.Struck(f.Rule.String(), f.Fired)
			faults += f.Fired
		}
	}
	r.Metrics.Value("renewed_count", float64(b.renewed))
	r.Metrics.Value("taken_count", float64(b.taken))
	r.Metrics.Value("neither_count", float64(b.neither))
	r.Metrics.Value("faults_count", float64(faults))
	return nil
}

// round runs until the lease has changed hands.
func (b *beat) round(ctx context.Context, beats int) error {
	most := b.ttl * 9 / 10 // beyond a whole lease the rival could take a lease that was renewed just now
	skew := time.Duration(b.random.Int64N(int64(2*most))) - most
	b.own, b.rival = clock.NewVirtual(virtualStart()), clock.NewVirtual(virtualStart().Add(skew))
	var err error
	b.holder, err = lease.Acquire(ctx, lease.Options{Store: b.st, Holder: "holder", TTL: b.ttl, Clock: bench.SkippingClock{Virtual: b.own}}, 0)
	if err != nil {
		return err
	}
	for range beats {
		pause := time.Duration(b.random.Int64N(int64(2 * b.ttl)))
		b.own.Advance(pause)
		b.rival.Advance(pause)
		over, err := b.moment(ctx)
		if err != nil || over {
			return err
		}
	}
	return nil
}

// moment lets both act concurrently.
func (b *beat) moment(ctx context.Context) (over bool, err error) {
	errs := make([]error, 2)
	order := b.random.IntN(3) // one after the other, either way, or concurrently
	act := func(i int) {
		if i == 0 {
			errs[0] = b.holder.Renew(ctx)
		} else {
			_, errs[1] = lease.Acquire(ctx, lease.Options{Store: b.st, Holder: "rival", TTL: b.ttl, Clock: bench.SkippingClock{Virtual: b.rival}}, 0)
		}
	}
	switch order {
	case 0:
		act(0)
		act(1)
	case 1:
		act(1)
		act(0)
	default:
		bench.AtOnce(2, act)
	}
	if err := ctx.Err(); err != nil {
		return true, err
	}
	o, err := b.below.Get(ctx, lease.Key)
	if err != nil {
		return true, err
	}
	state, err := lease.Decode(o.Body)
	if err != nil {
		return true, err
	}
	renewed, taken := errs[0] == nil, errs[1] == nil
	switch {
	case renewed && taken:
		b.r.Check(checkExclusive, fmt.Sprintf("both renewed and taken over; the object names %s", state.Holder))
	case renewed:
		b.renewed++
		b.r.Check(checkExclusive, bench.Wrongf(state.Holder != "holder", "renewed, but the object names %q", state.Holder))
	case taken:
		b.taken++
		b.r.Check(checkExclusive, bench.Wrongf(state.Holder != "rival" || !errors.Is(errs[0], lease.ErrLost),
			"taken over, the object names %q, and the holder was told: %v", state.Holder, errs[0]))
	default:
		b.neither++
		b.r.Check(checkExclusive, bench.Wrongf(errors.Is(errs[0], lease.ErrLost) && state.Holder == "holder",
			"the holder was told that it has lost a lease that is its own: %v", errs[0]))
	}
	return taken || errors.Is(errs[0], lease.ErrLost), nil
}
