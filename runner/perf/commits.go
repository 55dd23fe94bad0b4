package perf

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

func logRoundtripVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "logroundtrip",
			Doc: "commits rows one by one in mode log, ends every life as a crash would, reopens, and compares every row with what was " +
				"acknowledged; one life compacts midway, another spans several of PostgreSQL's WAL segments",
			Args: []scenario.Arg{
				{Name: "commits", Kind: scenario.KindInt, Default: "60", Doc: "per life"},
				{Name: "lives", Kind: scenario.KindInt, Default: "4", Doc: "how often the database is opened"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "how often, each with its own database"},
			},
			Metrics: bench.MetricDocs("open_ms", "time to reopen", "replayed_count", "records replayed when reopening"),
		},
		Run: logRoundtrip,
	}
}

func logRoundtrip(ctx context.Context, r *bench.Run, args scenario.Args) error {
	for round := range args.Int("rounds") {
		st := store.Prefixed(mem.New(mem.Options{}), fmt.Sprintf("round-%d", round))
		if err := logLives(ctx, r, st, args.Int("lives"), args.Int("commits")); err != nil {
			return err
		}
	}
	return nil
}

// logLives goes through the lives of one database. want holds the digests of the acknowledged rows.
func logLives(ctx context.Context, r *bench.Run, st store.Store, lives, commits int) error {
	var want []string
	for life := range lives {
		r.Progress(fmt.Sprintf("%s: life", r.Cell.Probe), int64(life), int64(lives))
		e, err := r.OpenEngine(ctx, st)
		if err != nil {
			return err
		}
		r.Metrics.Duration("open_ms", e.Opened().Wall)
		r.Metrics.Value("replayed_count", float64(e.Opened().Records))
		if life == 0 {
			_, err = e.Query(ctx, "CREATE TABLE t (id int PRIMARY KEY, v text)")
		} else {
			err = compareRows(ctx, r, e, want)
		}
		for i := range commits {
			if err != nil {
				break
			}
			if life == lives/2 && i == commits/2 {
				err = e.Compact(ctx)
			}
			id := len(want)
			value := fmt.Sprintf("life %d commit %d seed %d", life, i, r.Seed)
			if life == lives-1 {
				value = strings.Repeat(value, 700) // a segment of the log every few dozen commits
			}
			if err == nil {
				_, err = e.Query(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d, '%s')", id, value))
			}
			if err == nil { // acknowledged
				want = append(want, fmt.Sprintf("%x", md5.Sum([]byte(value))))
			}
		}
		e.Abandon()
		if err != nil {
			return err
		}
	}
	e, err := r.OpenEngine(ctx, st)
	if err != nil {
		return err
	}
	defer e.Abandon()
	return compareRows(ctx, r, e, want)
}

// compareRows compares the rows of the table with the digests of what was acknowledged.
func compareRows(ctx context.Context, r *bench.Run, e *engine.Engine, want []string) error {
	results, err := e.Query(ctx, "SELECT id, md5(v) FROM t ORDER BY id")
	if err != nil {
		return err
	}
	rows := results[0].Rows
	wrong := ""
	switch {
	case len(rows) != len(want):
		wrong = fmt.Sprintf("%d rows, %d were acknowledged", len(rows), len(want))
	default:
		for i, row := range rows {
			if row[0] != fmt.Sprint(i) || row[1] != want[i] {
				wrong = fmt.Sprintf("row %d is (%s, %s), acknowledged was %s", i, row[0], row[1], want[i])
				break
			}
		}
	}
	r.Check(bench.CheckDurability, wrong)
	return nil
}

func commitLatencyVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "commitlatency",
			Doc: "one client, strict: the time of a one-row commit compared with a bare conditional PUT of the same size, alternating, on " +
				"a bucket in memory with the modeled latency",
			Args: []scenario.Arg{{Name: "commits", Kind: scenario.KindInt, Default: "300", Doc: "and as many PUTs"}},
			Metrics: bench.MetricDocs(
				"put_ms", "time of a bare create-if-absent", "commit_ms", "time of a one-row INSERT until it is acknowledged",
				"record_bytes", "size of a commit's record in the log", "class_a_count", "class A requests of all commits combined",
			),
		},
		Run: commitLatency,
	}
}

// onModeledBucket gives f a database with one table, on a bucket in memory with the modeled latency. It takes no layers: their uploads
// would be counted with the commits.
func onModeledBucket(ctx context.Context, r *bench.Run, table string, f func(*bench.ModeledStore, *engine.Engine) error) error {
	st, err := bench.NewModeledStore(r.Seed)
	if err != nil {
		return err
	}
	defer st.Close()
	e, err := r.OpenEngine(ctx, st, bench.LongLease, bench.NoLayers)
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, table); err != nil {
		return err
	}
	return f(st, e)
}

func commitLatency(ctx context.Context, r *bench.Run, args scenario.Args) error {
	return onModeledBucket(ctx, r, "CREATE TABLE t (id int PRIMARY KEY, v text)", func(st *bench.ModeledStore, e *engine.Engine) error {
		return putsAndCommits(ctx, r, st, e, args.Int("commits"))
	})
}

// putsAndCommits times bare PUTs and commits, alternating.
func putsAndCommits(ctx context.Context, r *bench.Run, st *bench.ModeledStore, e *engine.Engine, commits int) error {
	clk := clock.System()
	commitOps, body := store.Ops{}, make([]byte, 512)
	for i := range commits {
		if i%20 == 0 {
			r.Progress(r.Cell.Probe+": commits", int64(i), int64(commits))
		}
		at := clk.Monotonic()
		if _, err := st.Put(ctx, fmt.Sprintf("bare/%06d", i), body, store.NewWriteID(), store.IfAbsent()); err != nil {
			return err
		}
		r.Metrics.Duration("put_ms", clk.Monotonic()-at)
		before := st.Counted.Ops()
		at = clk.Monotonic()
		if _, err := e.Query(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d, 'value %d')", i, i)); err != nil {
			return err
		}
		r.Metrics.Duration("commit_ms", clk.Monotonic()-at)
		after := st.Counted.Ops()
		commitOps.ClassA += after.ClassA - before.ClassA
		r.Metrics.Value("record_bytes", float64(after.BytesUp-before.BytesUp))
	}
	r.Metrics.Value("class_a_count", float64(commitOps.ClassA))
	return nil
}

func commitThroughputVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "committhroughput",
			Doc: "many clients, each with its own connection, strict, on a bucket in memory with the modeled latency and one write a " +
				"second per name: durable commits a second, compared with swapping the manifest at each commit",
			Args: []scenario.Arg{
				{Name: "clients", Kind: scenario.KindInt, Default: "64", Doc: "each commits one row after the other"},
				{Name: "time", Kind: scenario.KindDuration, Default: "10s", Doc: "for each side"},
			},
			Metrics: bench.MetricDocs(
				"commits_per_s", "durable commits", "swaps_per_s", "swaps of one manifest on the modeled bucket", "commit_ratio", "durable commits over swaps of one manifest",
				"group_count", "commits in one record, on average", "commit_ms", "time of a commit, as a client sees it",
			),
		},
		Run: commitThroughput,
	}
}

func commitThroughput(ctx context.Context, r *bench.Run, args scenario.Args) error {
	var rate float64
	length := args.Duration("time")
	err := onModeledBucket(ctx, r, "CREATE TABLE t (client int, n int, PRIMARY KEY (client, n))", func(_ *bench.ModeledStore, e *engine.Engine) (err error) {
		rate, err = commitRate(ctx, r, e, args.Int("clients"), length)
		return err
	})
	if err != nil {
		return err
	}
	swaps, err := swapRate(ctx, r, length)
	if err != nil {
		return err
	}
	r.Metrics.Value("swaps_per_s", swaps)
	r.Metrics.Value("commit_ratio", rate/swaps)
	return nil
}

// commitRate is how many commits of a number of clients become durable per second.
func commitRate(ctx context.Context, r *bench.Run, e *engine.Engine, clients int, length time.Duration) (float64, error) {
	conns := make([]*pgconn.PgConn, clients)
	for c := range conns {
		var err error
		if conns[c], err = bench.Connect(ctx, e); err != nil {
			return 0, err
		}
		defer func() { _ = conns[c].Close(ctx) }()
	}
	clk := clock.System()
	before, began := e.LogStats(), clk.Monotonic()
	end := began + length
	r.Progress(r.Cell.Probe+": clients commit", 0, 0)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	acknowledged := 0
	for c := range conns {
		wg.Go(func() {
			for n := 0; clk.Monotonic() < end; n++ {
				at := clk.Monotonic()
				_, err := conns[c].Exec(ctx, fmt.Sprintf("INSERT INTO t VALUES (%d, %d)", c, n)).ReadAll()
				mu.Lock()
				if err != nil {
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				acknowledged++
				mu.Unlock()
				r.Metrics.Duration("commit_ms", clk.Monotonic()-at)
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return 0, failed
	}
	took, after := clk.Monotonic()-began, e.LogStats()
	rate := float64(acknowledged) / took.Seconds()
	r.Metrics.Value("commits_per_s", rate)
	r.Metrics.Value("group_count", float64(acknowledged)/float64(max(after.Records-before.Records, 1)))
	results, err := e.Query(ctx, "SELECT count(*) FROM t")
	if err != nil {
		return 0, err
	}
	wrong := ""
	if got := results[0].Rows[0][0]; got != fmt.Sprint(acknowledged) {
		wrong = fmt.Sprintf("%s rows, %d were acknowledged", got, acknowledged)
	}
	r.Check(bench.CheckDurability, wrong)
	return rate, nil
}

// swapRate is how often one manifest can be swapped per second.
func swapRate(ctx context.Context, r *bench.Run, length time.Duration) (float64, error) {
	st, err := bench.NewModeledStore(r.Seed + 1)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	clk := clock.System()
	swap := func() error {
		_, _, err := manifest.Update(ctx, st, manifest.Options{Epoch: 1, Writer: "experiment", Create: true, Attempts: 1000},
			func(m *manifest.Manifest) error { m.DatabaseID = "swaps"; m.Commits++; return nil })
		return err
	}
	if err := swap(); err != nil {
		return 0, err
	}
	r.Progress(r.Cell.Probe+": one manifest is swapped", 0, 0)
	began, n := clk.Monotonic(), 0
	for clk.Monotonic()-began < length {
		if err := swap(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / (clk.Monotonic() - began).Seconds(), nil
}

func casRateVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "casrate",
			Doc: "how often one name can be swapped, compared with how often one writer can append to the log, both with the modeled " +
				"latency and one write a second per name",
			Args: []scenario.Arg{{Name: "time", Kind: scenario.KindDuration, Default: "10s", Doc: "for each side"}},
			Metrics: bench.MetricDocs(
				"swaps_per_s", "swaps of one name, each sent as soon as the last is answered", "refused_ratio", "share of swaps of one name refused with 429",
				"appends_per_s", "appends to the log, one at a time", "append_ms", "time of an append to the log", "append_refused_count", "appends to the log answered "+
					"429",
			),
		},
		Run: casRate,
	}
}

func casRate(ctx context.Context, r *bench.Run, args scenario.Args) error {
	clk, length := clock.System(), args.Duration("time")
	st, err := bench.NewModeledStore(r.Seed)
	if err != nil {
		return err
	}
	defer st.Close()
	r.Progress(r.Cell.Probe+": swapping one name", 0, 0)
	gen, err := st.Put(ctx, "one-name", []byte("0"), store.NewWriteID(), store.IfAbsent())
	if err != nil {
		return err
	}
	began, swapped, refused := clk.Monotonic(), 0, 0
	for clk.Monotonic()-began < length {
		next, err := st.Put(ctx, "one-name", fmt.Append(nil, swapped), store.NewWriteID(), store.IfGen(gen))
		switch {
		case err == nil:
			gen = next
			swapped++
		case errors.Is(err, store.ErrThrottled):
			refused++
		default:
			return err
		}
	}
	r.Metrics.Value("swaps_per_s", float64(swapped)/(clk.Monotonic()-began).Seconds())
	r.Metrics.Value("refused_ratio", float64(refused)/float64(max(swapped+refused, 1)))

	r.Progress(r.Cell.Probe+": appending to the log", 0, 0)
	log, err := wal.NewLog(st, wal.Start("casrate"), wal.Options{Epoch: 1, DatabaseID: "casrate", Writer: "experiment"})
	if err != nil {
		return err
	}
	op := []wal.Op{{Kind: wal.OpWrite, Path: "/pg_wal/000000010000000000000001", Data: make([]byte, 258)}}
	before := st.Counted.Ops()
	began, appended := clk.Monotonic(), 0
	for clk.Monotonic()-began < length {
		at := clk.Monotonic()
		if _, err := log.Append(ctx, op); err != nil {
			return err
		}
		appended++
		r.Metrics.Duration("append_ms", clk.Monotonic()-at)
	}
	r.Metrics.Value("appends_per_s", float64(appended)/(clk.Monotonic()-began).Seconds())
	// Every append that was not simply stored would have looked: a GET.
	r.Metrics.Value("append_refused_count", float64(st.Counted.Ops().ClassB-before.ClassB))
	return nil
}
