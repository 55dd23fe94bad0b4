package serverless

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func twinFlushVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "twinflush",
			Doc: "rows are acknowledged but not flushed (durability sleep, with the idle flush an hour away); then the revision is " +
				"replaced, and the platform sends SIGTERM to the old instance. The new one must have all of them",
			Args: []scenario.Arg{
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "revisions"},
				{Name: "rows", Kind: scenario.KindInt, Default: "20", Doc: "acknowledged before each SIGTERM"},
			},
			Metrics: bench.MetricDocs("flush_ms", "time from SIGTERM to the end of the process, including flush and release", "flushed_count", "rows that existed only in "+
				"memory",
				"early_count", "records that were in the bucket before SIGTERM", "records_count", "records that the flush appended"),
		},
		Run: twinFlush,
	}
}

func twinFlush(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		t.Fresh("db", "-durability", "sleep", "-idle-flush", "1h", "-restore-budget", "-1ns")
		k := t.ledger()
		err := t.On(ctx, platform.Options{}, func() error {
			if err := k.make(ctx); err != nil {
				return err
			}
			if err := k.replace(ctx, "rev-make", 0); err != nil { // the table is there
				return err
			}
			for round := range args.Int("rounds") {
				r.Progress(fmt.Sprintf("%s %s: SIGTERM", r.Cell.Probe, r.Cell.Label), int64(round), int64(args.Int("rounds")))
				if err := k.replace(ctx, fmt.Sprintf("rev-%d", round+2), args.Int("rows")); err != nil {
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

// replace writes rows that are not flushed, replaces the revision, and looks for the rows. Rows 0: nothing is measured.
func (k *ledger) replace(ctx context.Context, name string, rows int) error {
	before, err := k.records(ctx)
	if err != nil {
		return err
	}
	for range rows {
		if a, err := k.put(ctx, k.address()); err != nil || a.Status != 200 {
			return errors.Join(err, fmt.Errorf("a commit: status %d: %s", a.Status, a.Text))
		}
	}
	old, err := k.current()
	if err != nil {
		return err
	}
	acked, err := k.records(ctx)
	if err != nil {
		return err
	}
	if err := k.Replace(ctx, name); err != nil {
		return err
	}
	gone, err := k.retired(ctx, old)
	if err != nil {
		return err
	}
	if rows == 0 {
		return nil
	}
	if gone.how != endedWell {
		k.Run.Check(bench.CheckDurability, fmt.Sprintf("the old instance was told to go, but ended with: %s", gone.how))
	}
	flushed, err := k.records(ctx)
	if err != nil {
		return err
	}
	k.Run.Metrics.Value("early_count", float64(acked-before))
	k.Run.Metrics.Value("records_count", float64(flushed-acked))
	k.Run.Metrics.Value("flushed_count", float64(rows))
	k.Run.Metrics.Duration("flush_ms", gone.took())
	return k.compare(ctx, k.address())
}

// What a successor does while its predecessor has the lease.
const (
	shapeWaits   = "waits"   // its requests wait until it has the lease
	shapeRefuses = "refuses" // they get 503 with the holder's name, and clients retry
)

func twinSwitchVerb() bench.Verb {
	return bench.Verb{
		Cloud: bench.OnCloudRun,
		Verb: scenario.Verb{
			Name: "twinswitch",
			Doc: "revisions are replaced while clients commit: the new instance starts while the old one still runs. Each client repeats " +
				"a row until it is acknowledged; then the whole log is checked against its rules, and the rows against what clients were " +
				"told",
			Args: []scenario.Arg{
				{Name: "shape", OneOf: []string{shapeWaits, shapeRefuses}, Required: true, Doc: "what the new instance does while the old one has the lease"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "5", Doc: "revisions"},
				{Name: "clients", Kind: scenario.KindInt, Default: "4", Doc: "that commit at once"},
			},
			Metrics: bench.MetricDocs("gap_ms", "longest time without an acknowledgement during a switch", "request_ms", "time from the first try of a row to its acknowledgement",
				"acked_count", "acknowledged rows", "refused_count", "tries refused with 503", "named_count", "tries refused with the name "+
					"of the holder",
				"other_count", "tries that failed in another way", "retried_count", "rows refused at first and acknowledged later", "epochs_count", "writers in the log"),
		},
		Run: twinSwitch,
	}
}

// switches is traffic over revisions.
type switches struct {
	*ledger
	acks                                  []time.Duration
	refused, named, other, retried, acked int
}

func twinSwitch(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		wait := "40s"
		if args.String("shape") == shapeRefuses {
			wait = "1ms"
		}
		t.Fresh("db", "-restore-budget", "-1ns", "-acquire-timeout", wait)
		s := &switches{ledger: t.ledger()}
		err := t.On(ctx, platform.Options{}, func() error {
			if err := s.make(ctx); err != nil {
				return err
			}
			inner, cancel := context.WithCancel(ctx)
			defer cancel()
			var clients sync.WaitGroup
			failed := make(chan error, args.Int("clients"))
			for range args.Int("clients") {
				clients.Go(func() { failed <- s.client(inner, ctx) })
			}
			err := s.rounds(ctx, args.Int("rounds"))
			cancel()
			clients.Wait()
			for range args.Int("clients") {
				err = errors.Join(err, <-failed)
			}
			if err != nil {
				return err
			}
			return s.compare(ctx, t.address())
		})
		if err != nil {
			return err
		}
		epoch, err := t.JudgeLog(ctx)
		s.record(epoch)
		return err
	})
}

// rounds switches revisions, one after the other.
func (s *switches) rounds(ctx context.Context, n int) error {
	for round := range n {
		s.Run.Progress(fmt.Sprintf("%s %s: revision", s.Run.Cell.Probe, s.Run.Cell.Label), int64(round), int64(n))
		if round > 0 { // a switch writes the lease twice; real deployments are not every second
			if err := s.Clock.Sleep(ctx, nameRest); err != nil {
				return err
			}
		}
		from, err := s.more(ctx, 10)
		if err != nil {
			return err
		}
		old, err := s.current()
		if err != nil {
			return err
		}
		if err := s.Replace(ctx, fmt.Sprintf("rev-%d", round+2)); err != nil {
			return err
		}
		if _, err := s.retired(ctx, old); err != nil {
			return err
		}
		if _, err := s.more(ctx, 10); err != nil {
			return err
		}
		s.mu.Lock()
		gap := time.Duration(0)
		for i := from; i < len(s.acks); i++ {
			gap = max(gap, s.acks[i]-s.acks[i-1])
		}
		s.mu.Unlock()
		s.Run.Metrics.Duration("gap_ms", gap)
	}
	return nil
}

// more waits for n more acknowledgements, and says how many there are.
func (s *switches) more(ctx context.Context, n int) (int, error) {
	const look, limit = 5 * time.Millisecond, time.Minute
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.acks)
	}
	from, end := count(), s.Clock.Monotonic()+limit
	for count() < from+n {
		if s.Clock.Monotonic() > end {
			return 0, fmt.Errorf("clients got fewer than %d answers within %v", n, limit)
		}
		if err := s.Clock.Sleep(ctx, look); err != nil {
			return 0, err
		}
	}
	return count(), nil
}

// client commits one row after the other until going ends; the last one to its end.
func (s *switches) client(going, ctx context.Context) error {
	const pause = 20 * time.Millisecond
	for going.Err() == nil {
		s.mu.Lock()
		n := s.next
		s.next++
		s.mu.Unlock()
		at := s.Clock.Monotonic()
		for try := 1; ; try++ {
			a, err := s.write(ctx, s.address(), n)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.note(a, err, try)
			if err == nil && a.Status == 200 {
				break
			}
			if err := s.Clock.Sleep(ctx, pause); err != nil {
				return err
			}
		}
		s.Run.Metrics.Duration("request_ms", s.Clock.Monotonic()-at)
	}
	return nil
}

// note counts an answer. A failed try must have been refused: 503, nothing committed, try again.
func (s *switches) note(a Reply, err error, try int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && a.Status == 200:
		s.acked++
		s.acks = append(s.acks, s.Clock.Monotonic())
		if try > 1 {
			s.retried++
		}
	case err == nil && a.Status == 503 && a.Outcome == "failed":
		s.refused++
		if a.Locked() {
			s.named++
		}
	default:
		s.other++
		s.Run.Notes = append(s.Run.Notes, fmt.Sprintf("a try failed: status %d, %v: %.160s", a.Status, err, a.Text))
	}
}

// record records what was counted.
func (s *switches) record(epoch uint64) {
	for name, n := range map[string]int{
		"acked_count": s.acked, "refused_count": s.refused, "named_count": s.named, "other_count": s.other,
		"retried_count": s.retried, "epochs_count": int(epoch),
	} {
		s.Run.Metrics.Value(name, float64(n))
	}
	s.Run.Check(bench.CheckRefused, bench.Wrongf(s.other > 0, "%d tries failed, not with 503", s.other))
}
