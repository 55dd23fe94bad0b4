package serverless

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"blobpglite/cloud/twin/platform"
	"blobpglite/faults/gcsfront"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// tokens are numbered rows: every acknowledged one has to be there, none that was refused, none that was never sent.
type tokens struct {
	*Service
	next  int
	fate  map[int]string // acked, failed, unknown
	begun bool
}

// Fates of a token.
const (
	fateAcked   = "acked"
	fateFailed  = "failed"
	fateUnknown = "unknown"
)

func (t *Service) tokens() *tokens { return &tokens{Service: t, fate: map[int]string{}} }

// make makes the table.
func (k *tokens) make(ctx context.Context) error {
	_, err := k.must(ctx, "CREATE TABLE tokens (n int PRIMARY KEY)")
	return err
}

// put writes the next row at an address.
func (k *tokens) put(ctx context.Context, url string) (Reply, error) {
	n := k.next
	k.next++
	return k.write(ctx, url, n)
}

// write writes a row.
func (k *tokens) write(ctx context.Context, url string, n int) (Reply, error) {
	a, err := k.sqlAt(ctx, url, fmt.Sprintf("INSERT INTO tokens VALUES (%d) ON CONFLICT DO NOTHING", n))
	fate := fateUnknown
	switch {
	case err != nil:
	case a.Status == 200:
		fate = fateAcked
	case a.Outcome == "failed":
		fate = fateFailed
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fate[n] != fateUnknown || fate == fateAcked { // what may have been done stays possible
		k.fate[n] = fate
	}
	return a, err
}

// look compares what is there, by an address, with what was told.
func (k *tokens) look(ctx context.Context, url string) error {
	a, err := k.sqlAt(ctx, url, "SELECT n FROM tokens")
	if err != nil {
		return err
	}
	if a.Status != 200 {
		return fmt.Errorf("read the rows: status %d: %s", a.Status, a.Text)
	}
	there := map[int]bool{}
	for _, row := range a.Rows {
		var n int
		if _, err := fmt.Sscan(string(row[0]), &n); err != nil {
			return fmt.Errorf("read the rows: %w", err)
		}
		there[n] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	wrong := ""
	for n := range there {
		if fate := k.fate[n]; fate == fateFailed || fate == "" {
			wrong = fmt.Sprintf("row %d is there, and its fate was %q", n, fate)
		}
	}
	acked := 0
	for n, fate := range k.fate {
		if fate == fateAcked {
			acked++
			if !there[n] {
				wrong = fmt.Sprintf("row %d was acknowledged and is gone", n)
			}
		}
	}
	if acked > 0 || wrong != "" {
		k.Run.Check(bench.CheckDurability, wrong)
	}
	return nil
}

func twinFrozenVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "twinfrozen",
			Doc: "an instance that has no CPU between requests, or always has, is left alone for longer than its lease; what it asks of " +
				"the bucket meanwhile is counted, and the next commit is timed",
			Args: []scenario.Arg{
				{Name: "cpu", OneOf: []string{string(platform.InRequests), string(platform.Always)}, Required: true, Doc: "when it has CPU"},
				{Name: "lease_ttl", Kind: scenario.KindDuration, Default: "1s", Doc: "of the lease"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
			},
			Metrics: bench.MetricDocs("idle_requests_count", "at the bucket, while it was left alone: the emulator's count, on Cloud Run the instance's own", "next_commit_ms", "the first commit afterwards: the lease is renewed, then the commit",
				"commit_ms", "a commit inside of the lease"),
		},
		Run: twinFrozen,
	}
}

func twinFrozen(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		ttl := args.Duration("lease_ttl")
		t.Fresh("db", "-lease-ttl", ttl.String())
		k := t.tokens()
		return t.On(ctx, platform.Options{CPU: platform.CPU(args.String("cpu"))}, func() error {
			if err := k.make(ctx); err != nil {
				return err
			}
			for round := range args.Int("rounds") {
				r.Progress(fmt.Sprintf("%s %s: left alone", r.Cell.Probe, r.Cell.Label), int64(round), int64(args.Int("rounds")))
				if err := k.alone(ctx, ttl); err != nil {
					return err
				}
			}
			return k.look(ctx, t.address())
		})
	})
}

// alone is one time that an instance is left alone.
func (k *tokens) alone(ctx context.Context, ttl time.Duration) error {
	timed := func(metric string) error {
		at := k.Clock.Monotonic()
		a, err := k.put(ctx, k.address())
		if err == nil && a.Status != 200 {
			k.Run.Check(bench.CheckDurability, fmt.Sprintf("a commit was not done: status %d: %s", a.Status, a.Text))
		}
		k.Run.Metrics.Duration(metric, k.Clock.Monotonic()-at)
		return err
	}
	if err := errors.Join(timed("commit_ms"), timed("commit_ms")); err != nil {
		return err
	}
	// A renewal that the last request has begun may be on its way; a process that is frozen cannot have begun another.
	if err := k.quiet(ctx, ttl/2); err != nil {
		return err
	}
	before, err := k.asked(ctx)
	if err != nil {
		return err
	}
	if err := k.Clock.Sleep(ctx, ttl+ttl/2); err != nil {
		return err
	}
	after, err := k.asked(ctx)
	if err != nil {
		return err
	}
	k.Run.Metrics.Value("idle_requests_count", float64(after-before))
	return timed("next_commit_ms")
}

// How a writer becomes a zombie.
const (
	zombieIdle = "idle" // it had no request, so it had no CPU
	zombieBusy = "busy" // stopped in the middle of commits
)

func twinRivalVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "twinrival",
			Doc: "a second service on the same prefix (a tagged revision, outside of the instance limit): while the first one holds the " +
				"lease it is rejected by the holder's name; when the first one has been frozen for longer than the lease it takes over " +
				"and commits; thawed, the first one is refused",
			Args: []scenario.Arg{
				{Name: "how", OneOf: []string{zombieIdle, zombieBusy}, Required: true, Doc: "how the first one is caught: idle, or in the middle of commits"},
				{Name: "lease_ttl", Kind: scenario.KindDuration, Default: "1s", Doc: "of the lease"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
			},
			Metrics: bench.MetricDocs("rejected_count", "rejections that name the holder", "rejected_ms", "how long a rejection takes",
				"takeover_ms", "the rival's first commit", "refused_count", "requests that a zombie refused", "unknown_count", "requests of which the outcome is unknown"),
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
		k := t.tokens()
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
func (k *tokens) duel(ctx context.Context, how string, ttl time.Duration) (err error) {
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
	var first platform.Status // of the twin
	if k.Twin != nil {
		if first, err = k.Twin.Newest(); err != nil {
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
	return k.look(ctx, rival)
}

// rejected asks a rival while the holder lives.
func (k *tokens) rejected(ctx context.Context, url string) error {
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

// freeze makes a zombie. In flight: what it was asked for when it was stopped.
func (k *tokens) freeze(ctx context.Context, first platform.Status, how string) (inFlight chan Reply, err error) {
	if how == zombieIdle && k.Twin == nil {
		return nil, nil // Cloud Run sees to it
	}
	if how == zombieIdle {
		for _, i := range k.Twin.Instances() {
			if i.ID == first.ID && !i.Frozen {
				return nil, errors.New("an idle instance has CPU")
			}
		}
		return nil, nil
	}
	inFlight = make(chan Reply, 1)
	n := k.next
	k.next++
	before := k.Twin.Front.Counters().Requests
	go func() {
		a, err := k.write(ctx, k.address(), n)
		if err != nil {
			a.Text = err.Error()
		}
		inFlight <- a
	}()
	// Its record is on its way to the bucket, or the lease is: either is in the middle of a commit.
	for k.Twin.Front.Counters().Requests == before {
		if err := k.Clock.Sleep(ctx, time.Millisecond); err != nil {
			return inFlight, err
		}
	}
	return inFlight, syscall.Kill(first.PID, syscall.SIGSTOP)
}

// thaw gives the zombie its CPU back and asks it.
func (k *tokens) thaw(ctx context.Context, first platform.Status, how string, inFlight chan Reply) error {
	if how == zombieBusy {
		if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
			return fmt.Errorf("continue the zombie: %w", err)
		}
		a := <-inFlight
		// Its record was in the bucket before the rival opened, or never will be: both are answers. Nothing else is.
		k.Run.Check(bench.CheckRefused, bench.Wrongf(a.Status != 200 && !a.fenced() && a.Outcome != "unknown", "a commit that was frozen half way: status %d: %s", a.Status, a.Text))
		if a.Outcome == "unknown" {
			k.Run.Metrics.Value("unknown_count", 1)
		}
	}
	a, err := k.put(ctx, k.address())
	if err != nil {
		return err
	}
	refused := a.fenced() || a.Locked()
	k.Run.Check(bench.CheckRefused, bench.Wrongf(!refused, "a zombie was asked for a commit: status %d: %s", a.Status, a.Text))
	k.Run.Metrics.Value("refused_count", map[bool]float64{true: 1}[refused])
	return nil
}

func twinIdleVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.NotOnCloudRun("it takes a flush that is slow, and an instance that is told to go at a moment: neither can be had of Cloud Run"),
		Verb: scenario.Verb{
			Name: "twinidle",
			Doc: "an instance is told to go with rows that were acknowledged and not flushed (durability sleep), and its flush is slowed " +
				"down; a request comes in the middle. The platform starts an instance for it, which has to wait for the flush and see it",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "how often"},
				{Name: "flush", Kind: scenario.KindDuration, Default: "1s", Doc: "that each record takes longer"},
			},
			Metrics: bench.MetricDocs("window_ms", "from SIGTERM to the end of the old instance", "overlap_ms", "the new instance's port was open so long before the old one ended",
				"first_row_ms", "the request in the middle", "flushed_count", "rows that were acknowledged and not flushed"),
		},
		Run: twinIdle,
	}
}

func twinIdle(ctx context.Context, r *bench.Run, args scenario.Args) error {
	slow := gcsfront.Rule{Op: gcsfront.OpPut, KeyClass: "wal", Phase: gcsfront.Before, Every: 1, Do: gcsfront.Delay, Delay: args.Duration("flush")}
	return WithService(ctx, r, Options{Rules: []gcsfront.Rule{slow}}, func(t *Service) error {
		t.Fresh("db", "-durability", "sleep", "-idle-flush", "1h", "-restore-budget", "-1ns")
		k, rounds := t.tokens(), args.Int("rounds")
		err := t.On(ctx, platform.Options{}, func() error {
			if err := k.make(ctx); err != nil {
				return err
			}
			for round := range rounds {
				r.Progress(fmt.Sprintf("%s %s: shutdown against a request", r.Cell.Probe, r.Cell.Label), int64(round), int64(rounds))
				if err := k.overlap(ctx); err != nil {
					return fmt.Errorf("round %d: %w", round+1, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = t.JudgeLog(ctx)
		return err
	})
}

// overlap is one round.
func (k *tokens) overlap(ctx context.Context) error {
	const rows = 5
	for range rows {
		if a, err := k.put(ctx, k.address()); err != nil || a.Status != 200 {
			return errors.Join(err, fmt.Errorf("a commit: status %d: %s", a.Status, a.Text))
		}
	}
	old, err := k.Twin.Newest()
	if err != nil {
		return err
	}
	if err := k.Twin.Shut(old.ID); err != nil {
		return err
	}
	told, err := k.Twin.await(ctx, old.ID, "term")
	if err != nil {
		return err
	}
	at := k.Clock.Monotonic()
	if err := k.look(ctx, k.address()); err != nil {
		return err
	}
	k.Run.Metrics.Duration("first_row_ms", k.Clock.Monotonic()-at)
	k.Run.Metrics.Value("flushed_count", rows)
	ended, err := k.Twin.await(ctx, old.ID, "exit")
	if err != nil {
		return err
	}
	now, err := k.Twin.Newest()
	if err != nil {
		return err
	}
	up, err := k.Twin.await(ctx, now.ID, "ready")
	if err != nil {
		return err
	}
	k.Run.Metrics.Duration("window_ms", ended.At.Sub(told.At))
	k.Run.Metrics.Duration("overlap_ms", max(0, ended.At.Sub(up.At)))
	return nil
}
