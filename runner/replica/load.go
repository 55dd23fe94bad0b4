package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/engine"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/service"
	"blobpglite/runner/workload"
)

func replicaReadsVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "replica_reads",
			Doc: "in turns: the same clients read from one replica, then spread over several; and a writer commits alone, then with all " +
				"replicas polling every second, on the modeled bucket",
			Args: []scenario.Arg{
				{Name: "replicas", Kind: scenario.KindInt, Default: "4", Doc: "concurrent"},
				{Name: "clients", Kind: scenario.KindInt, Default: "8", Doc: "that read concurrently"},
				{Name: "turns", Kind: scenario.KindInt, Default: "5", Doc: "of each kind"},
				{Name: "length", Kind: scenario.KindDuration, Default: "3s", Doc: "of a turn"},
			},
			Metrics: bench.MetricDocs(
				"one_per_s", "statements answered by one replica", "many_per_s", "statements answered by all replicas combined", "scale_ratio", "statements of all replicas over those of one, turn by turn",
				"alone_ms", "time of a commit at the writer while no replica follows", "followed_ms", "time of a commit at the writer "+
					"while all replicas follow", "commit_ratio", "median commit of a turn with all replicas over that of the turn without",
			),
		},
		Run: replicaReads,
	}
}

func replicaReads(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withReaders(ctx, r, true, func(w *readers) error {
		writer, err := w.writer(ctx)
		if err != nil {
			return err
		}
		if err := w.do(ctx, writer, "CREATE TABLE r (id int PRIMARY KEY, v int)", "INSERT INTO r SELECT g, g FROM generate_series(1, 20000) g", "CREATE TABLE c (n int)"); err != nil {
			return err
		}
		position, err := w.position(ctx, writer)
		if err != nil {
			return err
		}
		var all []*service.Service
		for n := range args.Int("replicas") {
			s, err := w.replica(ctx, n, "-poll", "1s", "-rest", "1s")
			if err != nil {
				return err
			}
			if err := w.arrive(ctx, s, position); err != nil {
				return err
			}
			all = append(all, s)
		}
		turns := args.Int("turns")
		for turn := range turns {
			r.Progress(r.Cell.Probe+": reading and committing, in turns", int64(turn), int64(turns))
			if err := w.readTurn(ctx, all, args, turn%2 == 0); err != nil {
				return err
			}
			if err := w.commitTurn(ctx, writer, all, args, turn%2 == 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// inOrder does two things, one first or the other.
func inOrder(first bool, a, b func() error) error {
	if !first {
		a, b = b, a
	}
	if err := a(); err != nil {
		return err
	}
	return b()
}

func (w *readers) readTurn(ctx context.Context, all []*service.Service, args scenario.Args, first bool) error {
	var one, many float64
	err := inOrder(first,
		func() (err error) { one, err = w.readRate(ctx, all[:1], args); return err },
		func() (err error) { many, err = w.readRate(ctx, all, args); return err })
	if err != nil {
		return err
	}
	w.r.Metrics.Value("one_per_s", one)
	w.r.Metrics.Value("many_per_s", many)
	w.r.Metrics.Value("scale_ratio", many/one)
	return nil
}

// readRate measures how many statements per second clients get answered. Each is work for PostgreSQL rather than for the client.
func (w *readers) readRate(ctx context.Context, from []*service.Service, args scenario.Args) (float64, error) {
	var done atomic.Int64
	var work sync.WaitGroup
	failures := make(chan error, args.Int("clients"))
	began := w.clk.Monotonic()
	end := began + args.Duration("length")
	for n := range args.Int("clients") {
		work.Go(func() {
			conn, err := w.connectTo(ctx, from[n%len(from)], "postgres")
			if err != nil {
				failures <- err
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for err == nil && w.clk.Monotonic() < end {
				if _, err = conn.Exec(ctx, "SELECT sum(v), count(DISTINCT v % 100) FROM r"); err == nil {
					done.Add(1)
				}
			}
			failures <- err
		})
	}
	work.Wait()
	close(failures)
	var err error
	for f := range failures {
		err = errors.Join(err, f)
	}
	return float64(done.Load()) / (w.clk.Monotonic() - began).Seconds(), err
}

func (w *readers) commitTurn(ctx context.Context, writer *service.Service, all []*service.Service, args scenario.Args, first bool) error {
	var alone, followed time.Duration
	err := inOrder(first,
		func() (err error) {
			if err = w.clk.Sleep(ctx, 2500*time.Millisecond); err == nil { // they rest
				alone, err = w.commits(ctx, writer, "alone_ms", args.Duration("length"))
			}
			return err
		},
		func() error {
			inner, cancel := context.WithCancel(ctx)
			var asking sync.WaitGroup
			for _, s := range all { // each of them gets an occasional request
				asking.Go(func() {
					for w.do(inner, s, "SELECT 1") == nil && w.clk.Sleep(inner, 500*time.Millisecond) == nil {
					}
				})
			}
			var err error
			followed, err = w.commits(ctx, writer, "followed_ms", args.Duration("length"))
			cancel()
			asking.Wait()
			return err
		})
	if err != nil {
		return err
	}
	w.r.Metrics.Value("commit_ratio", float64(followed)/float64(alone))
	return nil
}

// commits makes commits one after the other, and returns the median.
func (w *readers) commits(ctx context.Context, writer *service.Service, metric string, length time.Duration) (time.Duration, error) {
	conn, err := w.connectTo(ctx, writer, "postgres")
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var took []time.Duration
	for end := w.clk.Monotonic() + length; w.clk.Monotonic() < end; {
		began := w.clk.Monotonic()
		if _, err := conn.Exec(ctx, "INSERT INTO c VALUES (1)"); err != nil {
			return 0, err
		}
		took = append(took, w.clk.Monotonic()-began)
		w.r.Metrics.Duration(metric, took[len(took)-1])
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func replicaStartVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "replica_start",
			Doc:  "on the modeled bucket: starts a replica of a large database, alternating with one of a small database, each up to its first row",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "of the large database's rows"},
				{Name: "small", Kind: scenario.KindSize, Default: "10MB", Doc: "of the small database's rows"},
				{Name: "cache", Kind: scenario.KindSize, Default: "64MB", Doc: "of the replicas"},
				{Name: "turns", Kind: scenario.KindInt, Default: "5", Doc: "of each"},
			},
			Metrics: bench.MetricDocs(
				"large_ms", "time from the start of the large replica's process to its first row", "small_ms", "time from the start of the "+
					"small replica's process to its first row", "start_ratio", "the large replica's time to the first row over the small one's, turn by turn",
				"rss_bytes", "resident memory of the large replica after a full scan", "scan_rss_ratio", "resident memory of the large "+
					"replica over that of a container for which pgserve would choose this cache (a fifth of its memory)",
			),
		},
		Run: replicaStart,
	}
}

// containerShare is how many caches a container's memory is (cacheShare of pgserve).
const containerShare = 5

func replicaStart(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withReaders(ctx, r, true, func(w *readers) error {
		sizes := map[string]int64{"large": int64(args.Size("size")), "small": int64(args.Size("small"))}
		base := slices.Clone(w.args)
		at := func(name string) { w.args = append(slices.Clone(base), "-bucket", "gs://readers/"+name) }
		for name, size := range sizes {
			r.Progress(r.Cell.Probe+": loading "+name, 0, 0)
			if err := w.loaded(ctx, name, size); err != nil {
				return err
			}
		}
		turns := args.Int("turns")
		for turn := range turns + 1 {
			r.Progress(r.Cell.Probe+": starting, in turns", int64(turn), int64(turns))
			took, rss := map[string]time.Duration{}, map[string]int64{}
			for i := range 2 {
				name := []string{"large", "small"}[(turn+i)%2]
				at(name)
				var err error
				if took[name], rss[name], err = w.firstRow(ctx, int64(args.Size("cache"))); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			if turn == 0 { // the first of all brings the program into memory
				continue
			}
			r.Metrics.Duration("large_ms", took["large"])
			r.Metrics.Duration("small_ms", took["small"])
			r.Metrics.Value("start_ratio", float64(took["large"])/float64(took["small"]))
			r.Metrics.Value("rss_bytes", float64(rss["large"]))
			r.Metrics.Value("scan_rss_ratio", float64(rss["large"])/float64(containerShare*int64(args.Size("cache"))))
		}
		return nil
	})
}

// loaded makes a database of a given size below a prefix, with a layer that holds all of it.
func (w *readers) loaded(ctx context.Context, prefix string, size int64) error {
	p, err := bench.OpenBucketPlace(ctx, "readers", w.base, prefix)
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{Runtime: w.r.Runtime, Store: p.Store, Create: true, RestoreBudget: -1})
	if err != nil {
		return err
	}
	_, err = workload.PageRows(ctx, e, size)
	return errors.Join(err, e.Close(ctx))
}

// firstRow starts a replica, up to its first row, reads all of its rows, and ends it.
func (w *readers) firstRow(ctx context.Context, cache int64) (took time.Duration, rss int64, err error) {
	began := w.clk.Monotonic()
	s, err := w.replica(ctx, 0, "-cache", fmt.Sprint(cache))
	if err != nil {
		return 0, 0, err
	}
	defer w.end("replica 0")
	conn, err := w.connectTo(ctx, s, "postgres")
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int
	if err := conn.QueryRow(ctx, "SELECT n FROM p WHERE id = 4711").Scan(&n); err != nil {
		return 0, 0, err
	}
	took = w.clk.Monotonic() - began
	if _, err := conn.Exec(ctx, "SELECT sum(n) FROM p"); err != nil {
		return 0, 0, err
	}
	used, err := s.Used()
	return took, used.ResidentBytes, err
}

func replicaRequestsVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "replica_requests",
			Doc:  "requests of a replica without a writer, as counted by the bucket's front: while clients read, and at rest",
			Args: []scenario.Arg{
				{Name: "poll", Kind: scenario.KindDuration, Default: "1s", Doc: "of the replica"},
				{Name: "rest", Kind: scenario.KindDuration, Default: "1m", Doc: "how long it keeps polling after the last read"},
				{Name: "length", Kind: scenario.KindDuration, Default: "1m", Doc: "for each of the two"},
			},
			Metrics: bench.MetricDocs(
				"steady_hour_count", "requests of a replica in an hour while clients read", "computed_hour_count", "the same, as computed: one "+
					"for each poll, and two more every ten seconds",
				"billed_hour_count", "charged requests of such an hour: reading an absent name is free",
				"idle_hour_count", "requests of a replica in an hour at rest", "steady_hour_usd", "price of a replica's requests in an "+
					"hour while clients read", "replica_hour_usd", "price of an hour of a replica "+
					"on Cloud Run, always on with one vCPU and 1 GiB, including its requests",
			),
		},
		Run: replicaRequests,
	}
}

// Prices in US dollars; see cloud/README.md.
const (
	usdClassB  = 0.0004 / 1000
	usdCPUHour = 3600 * 0.000024
	usdGiBHour = 3600 * 0.0000025
)

func replicaRequests(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withReaders(ctx, r, false, func(w *readers) error {
		writer, err := w.writer(ctx)
		if err != nil {
			return err
		}
		if err := w.do(ctx, writer, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)"); err != nil {
			return err
		}
		if code, err := writer.Stop(ctx); err != nil || code != 0 {
			return fmt.Errorf("the writer ended with code %d: %w", code, err)
		}
		delete(w.running, "the writer")
		s, err := w.replica(ctx, 0, "-poll", args.Duration("poll").String(), "-rest", args.Duration("rest").String())
		if err != nil {
			return err
		}
		length := args.Duration("length")
		if err := w.do(ctx, s, "SELECT 1"); err != nil {
			return err
		}
		r.Progress(r.Cell.Probe+": clients read", 0, 0)
		_ = w.clk.Sleep(ctx, 2*time.Second) // time for what follows an opening's first rows
		before, began := w.front.Counters(), w.clk.Monotonic()
		for w.clk.Monotonic() < began+length {
			if err := w.do(ctx, s, "SELECT 1"); err != nil {
				return err
			}
			if err := w.clk.Sleep(ctx, min(args.Duration("rest")/3, time.Second)); err != nil {
				return err
			}
		}
		took := w.clk.Monotonic() - began
		after := w.front.Counters()
		hourly := func(n int64) float64 { return float64(n) * float64(time.Hour) / float64(took) }
		steady, billed := hourly(after.Requests-before.Requests), hourly(after.ClassB-before.ClassB)
		r.Progress(r.Cell.Probe+": at rest", 0, 0)
		if err := w.clk.Sleep(ctx, args.Duration("rest")+2*args.Duration("poll")); err != nil {
			return err
		}
		resting, began := w.front.Counters(), w.clk.Monotonic()
		if err := w.clk.Sleep(ctx, length); err != nil {
			return err
		}
		idle := w.front.Counters()
		r.Metrics.Value("steady_hour_count", steady)
		r.Metrics.Value("computed_hour_count", float64(time.Hour)/float64(args.Duration("poll"))+2*360)
		r.Metrics.Value("idle_hour_count", float64(idle.Requests-resting.Requests)*float64(time.Hour)/float64(w.clk.Monotonic()-began))
		r.Metrics.Value("billed_hour_count", billed)
		r.Metrics.Value("steady_hour_usd", billed*usdClassB)
		r.Metrics.Value("replica_hour_usd", billed*usdClassB+usdCPUHour+usdGiBHour)
		wrong := ""
		if idle.ClassA != before.ClassA || idle.Delete != before.Delete {
			wrong = fmt.Sprintf("a replica has asked for %d writes or lists, and %d deletes", idle.ClassA-before.ClassA, idle.Delete-before.Delete)
		}
		r.Check(checkReadOnly, wrong)
		return nil
	})
}

func replicaPromotionVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "replica_promotion",
			Doc: "on the modeled bucket: a writer is killed, and a replica that follows it is promoted, alternating with a process that " +
				"is started at that moment; both wait for the dead writer's lease",
			Args: []scenario.Arg{
				{Name: "turns", Kind: scenario.KindInt, Required: true, Doc: "of each"},
				{Name: "size", Kind: scenario.KindSize, Default: "10MB", Doc: "of the rows"},
			},
			Metrics: bench.MetricDocs("warm_ms", "time from the writer's death to the first commit of the promoted replica", "cold_ms", "time from the writer's death "+
				"to the first commit of a newly started process", "warm_ratio", "time of a promotion over that of a start, turn by turn"),
		},
		Run: replicaPromotion,
	}
}

func replicaPromotion(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return withReaders(ctx, r, true, func(w *readers) error {
		if err := w.loaded(ctx, "db", int64(args.Size("size"))); err != nil {
			return err
		}
		turns, acked := args.Int("turns"), 0
		for turn := range turns {
			r.Progress(r.Cell.Probe+": deaths and promotions, in turns", int64(turn), int64(turns))
			took := map[bool]time.Duration{}
			for i := range 2 {
				warm := (turn+i)%2 == 0
				var err error
				if took[warm], err = w.succeed(ctx, warm, acked); err != nil {
					return err
				}
				acked += 2
			}
			r.Metrics.Duration("warm_ms", took[true])
			r.Metrics.Duration("cold_ms", took[false])
			r.Metrics.Value("warm_ratio", float64(took[true])/float64(took[false]))
		}
		return nil
	})
}

// succeed kills a writer, and lets a warm replica, or a process started then, take its place.
func (w *readers) succeed(ctx context.Context, warm bool, acked int) (time.Duration, error) {
	writer, err := w.writer(ctx)
	if err != nil {
		return 0, err
	}
	if err := w.do(ctx, writer, "CREATE TABLE IF NOT EXISTS acked (n int)", fmt.Sprintf("INSERT INTO acked VALUES (%d)", acked)); err != nil {
		return 0, err
	}
	var heir *service.Service
	if warm {
		position, err := w.position(ctx, writer)
		if err != nil {
			return 0, err
		}
		if heir, err = w.replica(ctx, 0); err != nil {
			return 0, err
		}
		if err := w.arrive(ctx, heir, position); err != nil {
			return 0, err
		}
	}
	began := w.clk.Monotonic()
	w.end("the writer")
	if warm {
		err = promoted(ctx, heir)
	} else {
		heir, err = w.start(ctx, "replica 0")
	}
	if err == nil {
		err = w.do(ctx, heir, fmt.Sprintf("INSERT INTO acked VALUES (%d)", acked+1))
	}
	took := w.clk.Monotonic() - began
	if err != nil {
		return 0, err
	}
	conn, err := w.connectTo(ctx, heir, "postgres")
	if err != nil {
		return 0, err
	}
	var count int
	err = conn.QueryRow(ctx, "SELECT count(*) FROM acked").Scan(&count)
	_ = conn.Close(context.WithoutCancel(ctx))
	wrong := ""
	if count != acked+2 {
		wrong = fmt.Sprintf("%d rows were acknowledged, and the one that came next has %d", acked+2, count)
	}
	w.r.Check(bench.CheckDurability, wrong)
	w.end("replica 0")
	return took, err
}

func promoted(ctx context.Context, s *service.Service) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.HTTP()+"/promote", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("promote: status %d: %s: %w", answer.StatusCode, body, os.ErrInvalid)
	}
	return err
}
