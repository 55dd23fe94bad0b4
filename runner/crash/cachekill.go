package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/runner/bench"
	"blobpglite/runner/cluster"
	"blobpglite/runner/node"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func cacheKillVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "cachekill",
			Doc: "like killpoint, on a database of which only a small part may be in memory: a large table is read and written everywhere " +
				"while the clients work, and SIGKILL comes where pages are evicted, where they are noted as part of a new layer, and at " +
				"points of commits, layers and openings. The next process finds what was acknowledged, in the large table too",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows of the large table"},
				{Name: "cache", Kind: scenario.KindSize, Required: true, Doc: "the engine's Cache"},
				{Name: "rounds", Kind: scenario.KindInt, Default: "1", Doc: "deaths at each point"},
				{Name: "clients", Kind: scenario.KindInt, Default: "3", Doc: "that work concurrently, in addition to two on the large table"},
			},
			Metrics: append(killpointVerb().Metrics, bench.MetricDocs(
				"times_ratio", "size of the large table over the cache", "page_updates_count", "acknowledged updates of the large table in one life", "page_unknown_count", "updates of the large table "+
					"interrupted by a death",
			)...),
		},
		Run: cacheKill,
	}
}

// cacheSites are points at which a database larger than its cache is killed.
func cacheSites() []faultSite {
	list := []faultSite{
		{point.RestoreAfterBase, atOpening, 1}, {point.ManifestAfterCAS, atOpening, 1}, {point.WalBeforePut, atLoad, 40}, {point.WalAfterPut, atLoad, 40},
		{point.BaseAfterSegment, atLayer, 2}, {point.ManifestAfterCAS, atLayer, 2}, {point.GCAfterDelete, atLayer, 2},
	}
	for _, p := range point.OfCache() {
		site := faultSite{p, atLoad, 6}
		if p == point.CacheBeforeSettle || p == point.CacheAfterSettle {
			site = faultSite{p, atLayer, 2}
		}
		list = append(list, site)
	}
	return list
}

func cacheKill(ctx context.Context, r *bench.Run, args scenario.Args) error {
	cache := int64(args.Size("cache"))
	k := &killRun{
		Lifeline: cluster.Lifeline{Run: r, Mode: engine.ModeLog, Random: rand.New(rand.NewPCG(r.Seed, 0x63616368)), Change: func(o *node.OpenArgs) {
			o.Cache, o.Settings = cache, map[string]string{"shared_buffers": "8MB"}
		}},
		clients: args.Int("clients"), pages: &killPages{size: int64(args.Size("size")), cache: cache},
	}
	return k.all(ctx, cacheSites(), args.Int("rounds"))
}

// killPages is a large table, in addition to what the clients of a killRun work on, and the ledger of what was done to it.
type killPages struct {
	size, cache int64
	rows        int
	sum         atomic.Int64 // of updates that were acknowledged
	unsure      atomic.Int64 // of those that a death left without an answer
	before      int64        // sum at the end of the life before
}

// forget is for a new database: it has no large table yet.
func (p *killPages) forget() {
	if p == nil {
		return
	}
	p.rows, p.before = 0, 0
	p.sum.Store(0)
	p.unsure.Store(0)
}

// fillPages makes the table in a new database.
func (k *killRun) fillPages(ctx context.Context) error {
	p := k.pages
	if p == nil || p.rows > 0 {
		return nil
	}
	p.rows = int(p.size / workload.PageRowBytes)
	statements := workload.PageStatements(p.rows)
	for i, sql := range statements {
		k.Run.Progress(k.Run.Cell.Probe+": making the large table", int64(i), int64(len(statements)))
		if _, _, err := k.Serving.Query(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	size, err := k.pageNumber(ctx, "SELECT pg_total_relation_size('p')")
	k.Run.Metrics.Value("times_ratio", float64(size)/float64(p.cache))
	return err
}

// beside works on the large table until the process has gone, while act runs.
func (k *killRun) beside(ctx context.Context, m *cluster.Member, act func()) func() {
	if k.pages == nil {
		return act
	}
	seeds := [2]uint64{k.Random.Uint64(), k.Random.Uint64()}
	return func() {
		done := make(chan struct{})
		for i, seed := range seeds {
			go func() {
				defer func() { done <- struct{}{} }()
				k.pages.work(ctx, m, int64(1000+i), rand.New(rand.NewPCG(seed, 1)))
			}()
		}
		if act != nil {
			act()
		}
		for range seeds {
			<-done
		}
	}
}

// work reads and writes rows all over the table, and now and then many in a row, until the process has gone.
func (p *killPages) work(ctx context.Context, m *cluster.Member, session int64, rng *rand.Rand) {
	for i := 0; ; i++ {
		id, n := 1+rng.IntN(p.rows), int64(1+rng.IntN(100))
		sql := fmt.Sprintf("UPDATE p SET n = n + %d WHERE id = %d", n, id)
		switch i % 4 {
		case 1:
			sql, n = fmt.Sprintf("SELECT length(pad) FROM p WHERE id = %d", id), 0
		case 3:
			sql, n = fmt.Sprintf("SELECT sum(length(pad)) FROM p WHERE id BETWEEN %d AND %d", id, id+20_000), 0
		}
		err := m.Do(ctx, node.Query, node.QueryArgs{SQL: sql, InSession: node.InSession{Session: session}}, nil)
		if err != nil {
			p.unsure.Add(n)
			return
		}
		p.sum.Add(n)
	}
}

// pageNumber returns the single number that a statement returns.
func (k *killRun) pageNumber(ctx context.Context, sql string) (int64, error) {
	rows, _, err := k.Serving.Query(ctx, sql)
	if err != nil {
		return 0, fmt.Errorf("%.60s: %w", sql, err)
	}
	return strconv.ParseInt(rows[0][0][0], 10, 64)
}

// checkPages compares the table with the ledger, in the process that was opened after a death.
func (k *killRun) checkPages(ctx context.Context) error {
	p := k.pages
	if p == nil || k.Serving == nil || k.Run.Failed() {
		return nil
	}
	const sample = 2000
	at := 1 + k.Random.IntN(max(1, p.rows-sample))
	least, most := p.sum.Load(), p.sum.Load()+p.unsure.Load()
	k.Run.Metrics.Value("page_updates_count", float64(least-p.before))
	k.Run.Metrics.Value("page_unknown_count", float64(most-least))
	for _, q := range []struct {
		check, sql  string
		least, most int64
	}{
		{bench.CheckDurability, "SELECT sum(n) FROM p", least, most},
		{bench.CheckChecksum, "SELECT count(*) FROM p", int64(p.rows), int64(p.rows)},
		{bench.CheckChecksum, fmt.Sprintf("SELECT count(*) FROM p WHERE id BETWEEN %d AND %d AND pad = %s", at, at+sample-1, workload.PagePadOf("id")), sample, sample},
	} {
		n, err := k.pageNumber(ctx, q.sql)
		if err != nil {
			return k.Run.Blame(q.check, "the large table cannot be read", err)
		}
		k.Run.Check(q.check, bench.Wrongf(n < q.least || n > q.most, "%s: %d, not between %d and %d", q.sql, n, q.least, q.most))
		if q.check == bench.CheckDurability { // what is known now is what counts from now on
			p.sum.Store(n)
			p.unsure.Store(0)
			p.before = n
		}
	}
	return nil
}
