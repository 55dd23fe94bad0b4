package serverless

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// How a writer becomes a zombie.
const (
	zombieIdle = "idle" // it had no request, so it had no CPU
	zombieBusy = "busy" // stopped in the middle of commits
)

func twinRivalVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "twinrival",
			Doc: "a second service on the same prefix (a tagged revision, outside the instance limit): while the first holds the lease, " +
				"the second is rejected with the holder's name; once the first has been frozen for longer than the lease, the second " +
				"takes over and commits; thawed, the first is refused",
			Args: []scenario.Arg{
				{Name: "how", OneOf: []string{zombieIdle, zombieBusy}, Required: true, Doc: "what the first one is doing when frozen: " +
					"idle, or in the middle of commits"},
				{Name: "lease_ttl", Kind: scenario.KindDuration, Default: "1s", Doc: "of the lease"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
			},
			Metrics: bench.MetricDocs("rejected_count", "rejections of a rival that name the holder", "rejected_ms", "time to reject a rival",
				"takeover_ms", "time to the rival's first commit", "refused_count", "requests refused by a zombie", "unknown_count", "requests with an unknown "+
					"outcome"),
		},
		Run: twinRival,
		Cloud: func(args scenario.Args) string {
			if args.String("how") == zombieBusy {
				return "nobody can stop an instance of Cloud Run (SIGSTOP) in the middle of a commit"
			}
			return ""
		},
	}
}

func twinRival(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		ttl, rounds := args.Duration("lease_ttl"), args.Int("rounds")
		t.Fresh("db", "-restore-budget", "-1ns", "-acquire-timeout", "1ms", "-lease-ttl", ttl.String())
		k := t.ledger()
		for round := range rounds {
			r.Progress(fmt.Sprintf("%s %s: a rival", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
			err := t.On(ctx, platform.Options{}, func() error { return k.duel(ctx, args.String("how"), ttl) })
			if err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
		}
		_, err := t.JudgeLog(ctx)
		return err
	})
}

// duel is one round: the service, and a tagged revision of it.
func (k *ledger) duel(ctx context.Context, how string, ttl time.Duration) (err error) {
	rival, done, err := k.beside(ctx, "canary")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done(ctx)) }()
	if !k.begun {
		if err := k.make(ctx); err != nil {
			return err
		}
		k.begun = true
	}
	if a, err := k.put(ctx, k.address()); err != nil || a.Status != 200 {
		return errors.Join(err, fmt.Errorf("the first commit: status %d: %s", a.Status, a.Text))
	}
	var first platform.Status // of the emulator
	if k.Emulated != nil {
		if first, err = k.Emulated.Newest(); err != nil {
			return err
		}
	}
	if err := k.rejected(ctx, rival); err != nil {
		return err
	}
	inFlight, err := k.freeze(ctx, first, how)
	if err != nil {
		return err
	}
	if err := k.Clock.Sleep(ctx, ttl+ttl/4); err != nil {
		return err
	}
	at := k.Clock.Monotonic()
	a, err := k.put(ctx, rival)
	if err != nil || a.Status != 200 {
		return errors.Join(err, fmt.Errorf("the rival's first commit: status %d: %s", a.Status, a.Text))
	}
	k.Run.Metrics.Duration("takeover_ms", k.Clock.Monotonic()-at)
	if err := k.thaw(ctx, first, how, inFlight); err != nil {
		return err
	}
	return k.compare(ctx, rival)
}

// rejected sends a rival a request while the holder lives.
func (k *ledger) rejected(ctx context.Context, url string) error {
	if a, err := k.put(ctx, k.address()); err != nil || a.Status != 200 { // the lease is fresh
		return errors.Join(err, fmt.Errorf("the holder: status %d: %s", a.Status, a.Text))
	}
	at := k.Clock.Monotonic()
	a, err := k.put(ctx, url)
	if err != nil {
		return err
	}
	k.Run.Metrics.Duration("rejected_ms", k.Clock.Monotonic()-at)
	k.Run.Check(bench.CheckLocked, bench.Wrongf(!a.Locked(), "a second service was answered with status %d: %s", a.Status, a.Text))
	if a.Locked() {
		k.Run.Metrics.Value("rejected_count", 1)
	}
	return nil
}

// freeze makes a zombie. In flight: the request it had when it was stopped.
func (k *ledger) freeze(ctx context.Context, first platform.Status, how string) (inFlight chan Reply, err error) {
	if how == zombieIdle && k.Emulated == nil {
		return nil, nil // Cloud Run sees to it
	}
	if how == zombieIdle {
		for _, i := range k.Emulated.Instances() {
			if i.ID == first.ID && !i.Frozen {
				return nil, errors.New("an idle instance has CPU")
			}
		}
		return nil, nil
	}
	inFlight = make(chan Reply, 1)
	n := k.next
	k.next++
	before := k.Emulated.Front.Counters().Requests
	go func() {
		a, err := k.write(ctx, k.address(), n)
		if err != nil {
			a.Text = err.Error()
		}
		inFlight <- a
	}()
	// Its record is on its way to the bucket, or the lease is: either is in the middle of a commit.
	for k.Emulated.Front.Counters().Requests == before {
		if err := k.Clock.Sleep(ctx, time.Millisecond); err != nil {
			return inFlight, err
		}
	}
	return inFlight, syscall.Kill(first.PID, syscall.SIGSTOP)
}

// thaw gives the zombie its CPU back and sends it a request.
func (k *ledger) thaw(ctx context.Context, first platform.Status, how string, inFlight chan Reply) error {
	if how == zombieBusy {
		if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
			return fmt.Errorf("continue the zombie: %w", err)
		}
		a := <-inFlight
		// Its record was in the bucket before the rival opened, or never will be: both are answers. Nothing else is.
		k.Run.Check(bench.CheckRefused, bench.Wrongf(a.Status != 200 && !a.fenced() && a.Outcome != "unknown", "a commit frozen halfway: status %d: %s", a.Status, a.Text))
		if a.Outcome == "unknown" {
			k.Run.Metrics.Value("unknown_count", 1)
		}
	}
	a, err := k.put(ctx, k.address())
	if err != nil {
		return err
	}
	refused := a.fenced() || a.Locked()
	k.Run.Check(bench.CheckRefused, bench.Wrongf(!refused, "a commit at a zombie: status %d: %s", a.Status, a.Text))
	k.Run.Metrics.Value("refused_count", map[bool]float64{true: 1}[refused])
	return nil
}
