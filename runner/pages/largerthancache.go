package pages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

func largerThanCacheVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "larger_than_cache",
			Doc: "on a store in memory: several sessions read and write a database many times larger than what its process keeps in " +
				"memory; it takes layers, and crashes repeatedly, during work and in turn at each point that evicted pages pass; finally " +
				"it is opened entirely in memory and compared with the ledger",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "cache", Kind: scenario.KindSize, Required: true, Doc: "the engine's Cache"},
				{Name: "lives", Kind: scenario.KindInt, Default: "5", Doc: "each ends in a crash"},
				{Name: "statements", Kind: scenario.KindInt, Default: "200", Doc: "per session and life"},
				{Name: "sessions", Kind: scenario.KindInt, Default: "4", Doc: "concurrent"},
			},
			Metrics: bench.MetricDocs(
				"times_ratio", "uncompressed size of the layer over the cache", "resident_ratio", "peak bytes of pages in memory, over the cache",
				"first_row_bytes", "bytes read from the bucket until a life's first row", "statement_ms", "time of a statement, "+
					"including pages it had to fetch",
				"acknowledged_count", "acknowledged updates", "deaths_count", "deaths at a fault point", "missed_count", "lives in which the fault point was not reached", "layers_count", "layers taken", "fetched_ratio", "bytes fetched by a life over "+
					"the size of the layer",
			),
		},
		Run: largerThanCache,
	}
}

// cachedRun is a database larger than its cache, and the ledger of what was done to it.
type cachedRun struct {
	r          *bench.Run
	st         *store.Counted
	cache      int64
	rows       int
	statements int
	sessions   int

	sum      atomic.Int64 // of updates that were acknowledged
	unsure   atomic.Int64 // of those that a crash left without an answer
	resident int64
}

func largerThanCache(ctx context.Context, r *bench.Run, args scenario.Args) error {
	c := &cachedRun{
		r: r, st: store.Count(mem.New(mem.Options{})), cache: int64(args.Size("cache")), statements: args.Int("statements"), sessions: args.Int("sessions"),
	}
	e, err := c.open(ctx, 0, true, nil)
	if err != nil {
		return err
	}
	r.Progress(r.Cell.Probe+": loading", 0, 0)
	c.rows, err = workload.PageRows(ctx, e, int64(args.Size("size")))
	if err = errors.Join(err, e.Close(ctx)); err != nil {
		return err
	}
	lives := args.Int("lives")
	for life := range lives {
		r.Progress(r.Cell.Probe+": living and crashing", int64(life), int64(lives))
		if err := c.live(ctx, life); err != nil {
			return fmt.Errorf("life %d: %w", life+1, err)
		}
	}
	r.Metrics.Value("resident_ratio", float64(c.resident)/float64(c.cache))
	return c.compare(ctx)
}

func (c *cachedRun) open(ctx context.Context, cache int64, create bool, hook point.Hook) (*engine.Engine, error) {
	return engine.Open(ctx, engine.Options{
		Runtime: c.r.Runtime, Store: c.st, Create: create, Cache: cache, RestoreBudget: -1, Settings: map[string]string{"shared_buffers": "8MB"},
		AcquireTimeout: time.Minute, LeaseTTL: time.Second, Hook: hook,
	})
}

// live is one life of the engine, ended by a crash.
func (c *cachedRun) live(ctx context.Context, life int) error {
	before := c.st.Ops().BytesDown
	all := int64(c.statements * c.sessions)
	rng := rand.New(rand.NewPCG(c.r.Seed, uint64(life)))
	k := &crash{at: all/2 + rng.Int64N(all/2), from: all / 4, point: deathOf(life)}
	e, err := c.open(ctx, c.cache, false, k.passes)
	if err != nil {
		return err
	}
	k.engine = e
	defer k.ended.Wait()
	defer e.Abandon()
	if _, err := e.Query(ctx, fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+life)); err != nil {
		return err
	}
	c.r.Metrics.Value("first_row_bytes", float64(c.st.Ops().BytesDown-before))
	c.r.Metrics.Value("times_ratio", float64(e.Opened().RawBytes)/float64(c.cache))
	work, ctx := errgroup.WithContext(ctx)
	for s := range c.sessions {
		work.Go(func() error { return c.session(ctx, k, rand.New(rand.NewPCG(c.r.Seed, uint64(1000*(life+1)+s)))) })
	}
	work.Go(func() error {
		for n := int64(1); n < 3; n++ { // one third of the way, and two
			for k.done.Load() < n*k.at/3 && !k.happened.Load() {
				if err := clock.System().Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			if k.happened.Load() {
				return nil
			}
			if err := e.Compact(ctx); err == nil {
				c.r.Metrics.Value("layers_count", 1)
			} else if !k.happened.Load() {
				return err
			}
		}
		return nil
	})
	if err := work.Wait(); err != nil {
		return err
	}
	if k.point != "" {
		c.r.Metrics.Value("deaths_count", float64(k.struck.Load()))
		c.r.Metrics.Value("missed_count", float64(1-k.struck.Load()))
	}
	s := e.Stats().Cache
	c.resident = max(c.resident, s.Resident)
	c.r.Metrics.Value("fetched_ratio", float64(s.Pages.Bytes)/float64(e.Opened().Stored))
	return nil
}

// deathOf is the point at which a life ends; empty: at none in particular.
func deathOf(life int) point.Point {
	points := append(point.OfCache(), "")
	return points[life%len(points)]
}

// crash ends an engine in the middle of its work: at a point, if it is passed after the first from statements, or after a number of
// statements.
type crash struct {
	engine   *engine.Engine
	at, from int64
	point    point.Point
	done     atomic.Int64
	happened atomic.Bool
	struck   atomic.Int64 // 1: at the point
	ended    sync.WaitGroup
}

// errDied ends what passes the point.
var errDied = errors.New("the process has died")

// passes is the engine's hook. What passes the point is waited for at the engine's end, so that end comes from elsewhere.
func (k *crash) passes(_ context.Context, p point.Point) error {
	if k.happened.Load() {
		return errDied
	}
	if p != k.point || k.done.Load() < k.from || !k.happened.CompareAndSwap(false, true) {
		return nil
	}
	k.struck.Store(1)
	k.ended.Go(k.engine.Abandon)
	return errDied
}

func (k *crash) step() {
	if k.done.Add(1) == k.at && k.happened.CompareAndSwap(false, true) {
		k.engine.Abandon()
	}
}

// session reads and writes rows all over the table, and now and then many in a row, until the crash.
func (c *cachedRun) session(ctx context.Context, k *crash, rng *rand.Rand) error {
	clk := clock.System()
	for i := range c.statements {
		id, n := 1+rng.IntN(c.rows), 1+rng.IntN(100)
		sql := fmt.Sprintf("UPDATE p SET n = n + %d WHERE id = %d", n, id)
		switch i % 10 {
		case 3, 5, 7:
			sql, n = fmt.Sprintf("SELECT length(pad) FROM p WHERE id = %d", id), 0
		case 9:
			sql, n = fmt.Sprintf("SELECT sum(length(pad)) FROM p WHERE id BETWEEN %d AND %d", id, id+2000), 0
		}
		at := clk.Monotonic()
		_, err := k.engine.Query(ctx, sql)
		if k.happened.Load() && err != nil {
			c.unsure.Add(int64(n))
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		c.r.Metrics.Duration("statement_ms", clk.Monotonic()-at)
		if c.sum.Add(int64(n)); n > 0 {
			c.r.Metrics.Value("acknowledged_count", 1)
		}
		k.step()
	}
	return nil
}

// compare opens the database with all of it in memory.
func (c *cachedRun) compare(ctx context.Context) error {
	if _, err := takeover.VerifyWith(ctx, c.st, takeover.VerifyOptions{Deep: true}); err != nil {
		c.r.Check(bench.CheckChecksum, fmt.Sprintf("the bucket: %v", err))
	}
	e, err := c.open(ctx, 0, false, nil)
	if err != nil {
		return err
	}
	defer e.Abandon()
	least, most := c.sum.Load(), c.sum.Load()+c.unsure.Load()
	for _, q := range []struct{ check, sql, want string }{
		{bench.CheckDurability, fmt.Sprintf("SELECT CASE WHEN sum(n) BETWEEN %d AND %d THEN 'as acknowledged' ELSE sum(n)::text END FROM p", least, most), "as acknowledged"},
		{bench.CheckChecksum, "SELECT count(*) FROM p g WHERE pad = (SELECT string_agg(md5((g.id * 31 + i)::text), '') FROM generate_series(1, 24) i)", strconv.Itoa(c.rows)},
		{bench.CheckChecksum, "CREATE EXTENSION IF NOT EXISTS amcheck; SELECT coalesce(bt_index_check('p_pkey', true)::text, '')", ""},
	} {
		results, err := e.Query(ctx, q.sql)
		got := ""
		if err == nil {
			got = results[len(results)-1].Rows[0][0]
		}
		wrong := ""
		if err != nil || got != q.want {
			wrong = fmt.Sprintf("%s: %s instead of %s (%v)", q.sql, got, q.want, err)
		}
		c.r.Check(q.check, wrong)
	}
	return nil
}
