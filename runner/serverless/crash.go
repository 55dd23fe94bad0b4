package serverless

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"blobpglite/cloud/runemu/platform"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// How an instance ends.
const (
	endCrash = "crash"
	endExit  = "exit"
)

func twinCommitsVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "twincommits",
			Doc: "how long a commit takes over HTTP, with one client, in a given durability; then the instance crashes in the middle of " +
				"commits, and the next one is checked for what it has. Or the instance ends in order, and nothing may be lost",
			Args: []scenario.Arg{
				{Name: "durability", OneOf: []string{"strict", "interval", "sleep"}, Required: true, Doc: "see pgserve -durability"},
				{Name: "commits", Kind: scenario.KindInt, Default: "100", Doc: "timed"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "3", Doc: "ends"},
				{Name: "end", OneOf: []string{endCrash, endExit}, Doc: "how the instance ends: crash (the default) by SIGKILL in the " +
					"middle of commits, exit by SIGTERM after one"},
				{Name: "flush_interval", Kind: scenario.KindDuration, Default: "200ms", Doc: "for durability interval"},
				{Name: "cpu", Default: string(platform.Always), OneOf: []string{string(platform.Always), string(platform.InRequests)}, Doc: "when the instance has CPU"},
				{Name: "lease_ttl", Kind: scenario.KindDuration, Default: "2s", Doc: "how long the next instance waits for the dead one's lease"},
			},
			Metrics: bench.MetricDocs("commit_ms", "time of a request that commits one row", "lost_count", "acknowledged rows lost in a "+
				"crash", "lost_ms",
				"how long before the crash the oldest lost row was acknowledged", "recovered_ms", "time from the crash to the first answer"),
		},
		Run: twinCommits,
		Cloud: func(args scenario.Args) string {
			if args.String("end") != endExit {
				return "nobody can crash an instance of Cloud Run (SIGKILL) at a moment; with end: exit, as in e3.9, commits are timed there"
			}
			return ""
		},
	}
}

func twinCommits(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return WithService(ctx, r, Options{}, func(t *Service) error {
		d := args.String("durability")
		t.Fresh("db", "-durability", d, "-flush-interval", args.Duration("flush_interval").String(), "-lease-ttl", args.Duration("lease_ttl").String())
		return t.On(ctx, platform.Options{CPU: platform.CPU(args.String("cpu"))}, func() error {
			if _, err := t.must(ctx, "CREATE TABLE commits (n int PRIMARY KEY)"); err != nil {
				return err
			}
			if _, err := t.Leave(ctx); err != nil { // losing the table is not what is measured
				return err
			}
			if _, err := t.must(ctx, "SELECT 1"); err != nil {
				return err
			}
			w := &crashes{Service: t, strict: d == "strict", interval: args.Duration("flush_interval"), random: rand.New(rand.NewPCG(r.Seed, 0x63726173))}
			for n := range args.Int("commits") {
				r.Progress(fmt.Sprintf("%s %s: committing", r.Cell.Probe, r.Cell.Label), int64(n), int64(args.Int("commits")))
				at := t.Clock.Monotonic()
				if err := w.commit(ctx); err != nil {
					return err
				}
				r.Metrics.Duration("commit_ms", t.Clock.Monotonic()-at)
			}
			end, what := w.round, "crashing"
			if args.String("end") == endExit {
				end, what = w.leaves, "ending"
			}
			for round := range args.Int("rounds") {
				r.Progress(fmt.Sprintf("%s %s: %s", r.Cell.Probe, r.Cell.Label, what), int64(round), int64(args.Int("rounds")))
				if err := end(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// crashes commits numbered rows and crashes in between.
type crashes struct {
	*Service
	strict   bool
	interval time.Duration
	random   *rand.Rand
	next     int
	acked    []ack // that a crash may cost
}

// ack is a row and when it was acknowledged.
type ack struct {
	n  int
	at time.Time
}

// errGone: the instance ended in the middle of a request.
var errGone = errors.New("the instance has gone")

// commit writes the next row.
func (w *crashes) commit(ctx context.Context) error {
	n := w.next
	w.next++
	a, err := w.SQL(ctx, fmt.Sprintf("INSERT INTO commits VALUES (%d)", n))
	switch {
	case err != nil:
		return err
	case a.Status == http.StatusBadGateway:
		return errGone
	case a.Status != http.StatusOK:
		return fmt.Errorf("commit %d: status %d: %s", n, a.Status, a.Text)
	}
	w.acked = append(w.acked, ack{n, w.Clock.Now()})
	return nil
}

// leaves makes commits, and has the instance end as it should: then every row is there, whatever the durability.
func (w *crashes) leaves(ctx context.Context) error {
	if err := w.commit(ctx); err != nil {
		return err
	}
	if _, err := w.Leave(ctx); err != nil {
		return err
	}
	n, err := w.number(ctx, "SELECT count(*) FROM commits")
	if err == nil {
		w.Run.Check(bench.CheckDurability, bench.Wrongf(n != int64(len(w.acked)), "%d rows were acknowledged, but after the instance's end there are %d", len(w.acked), n))
	}
	return err
}

// round commits for a while, crashes while commits continue, and counts.
func (w *crashes) round(ctx context.Context) error {
	const most = 3 // intervals
	began, length := w.Clock.Monotonic(), time.Duration(w.random.Int64N(int64(most*w.interval)))
	for w.Clock.Monotonic()-began < length {
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	i, err := w.Emulated.Newest()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- w.Emulated.Crash(i.ID) }()
	for err == nil && !w.Emulated.crashed(i.ID) {
		err = w.commit(ctx)
	}
	if err := <-done; err != nil {
		return err
	}
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	crash, err := w.Emulated.await(ctx, i.ID, "crash")
	if err != nil {
		return err
	}
	return w.count(ctx, crash.At)
}

// count queries the next instance for what it has.
func (w *crashes) count(ctx context.Context, crashed time.Time) error {
	a, err := w.must(ctx, "SELECT n FROM commits")
	if err != nil {
		return err
	}
	w.Run.Metrics.Duration("recovered_ms", w.Clock.Now().Sub(crashed))
	there := map[int]bool{}
	for _, row := range a.Rows {
		n, err := strconv.Atoi(string(row[0]))
		if err != nil {
			return err
		}
		there[n] = true
		if n >= w.next {
			w.Run.Check(bench.CheckDurability, fmt.Sprintf("there is row %d, which was never sent", n))
		}
	}
	before := slices.DeleteFunc(slices.Clone(w.acked), func(a ack) bool { return a.at.After(crashed) })
	lost := slices.DeleteFunc(slices.Clone(before), func(a ack) bool { return there[a.n] })
	w.Run.Metrics.Value("lost_count", float64(len(lost)))
	window := time.Duration(0)
	if len(lost) > 0 {
		window = crashed.Sub(lost[0].at)
		if before[len(before)-len(lost)] != lost[0] {
			w.Run.Check(bench.CheckDurability, fmt.Sprintf("%d rows are lost, but not the last ones", len(lost)))
		}
	}
	w.Run.Metrics.Duration("lost_ms", window)
	w.Run.Check(bench.CheckDurability, bench.Wrongf(w.strict && len(lost) > 0, "durability strict: %d acknowledged rows are lost", len(lost)))
	w.acked = nil
	return nil
}
