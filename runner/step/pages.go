package step

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/runner/scenario"
)

// Rows of the databases that these verbs make: text of hexadecimal digits, which PostgreSQL keeps in the row and zstd halves.
const (
	pageRowBytes = 850
	pagePad      = "(SELECT string_agg(md5((g * 31 + i)::text), '') FROM generate_series(1, 24) i)"
)

// pageRows makes a table of size bytes, all of whose pages are as they will stay if nobody writes them.
func pageRows(ctx context.Context, e *engine.Engine, size int64) (rows int, err error) {
	rows = int(size / pageRowBytes)
	for _, sql := range pageStatements(rows) {
		if _, err := e.Query(ctx, sql); err != nil {
			return 0, err
		}
	}
	return rows, e.Compact(ctx)
}

// pageBatch is how many rows one statement makes.
const pageBatch = 50_000

// pageStatements make the table.
func pageStatements(rows int) []string {
	statements := []string{"CREATE TABLE p (id int, n int NOT NULL DEFAULT 0, pad text)"}
	for first := 1; first <= rows; first += pageBatch {
		statements = append(statements, fmt.Sprintf("INSERT INTO p SELECT g, 0, %s FROM generate_series(%d, %d) g", pagePad, first, min(first+pageBatch-1, rows)))
	}
	return append(statements, "ALTER TABLE p ADD PRIMARY KEY (id)", "VACUUM (FREEZE, ANALYZE) p")
}

func largerThanCacheVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "larger_than_cache",
			Doc: "on a store in memory: a database that is many times larger than what its process keeps of it in memory is read and written by " +
				"several sessions, takes layers, and crashes, again and again; then it is opened with all of it in memory and compared with the ledger",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "cache", Kind: scenario.KindSize, Required: true, Doc: "the engine's Cache"},
				{Name: "lives", Kind: scenario.KindInt, Default: "5", Doc: "each ends by a crash"},
				{Name: "statements", Kind: scenario.KindInt, Default: "200", Doc: "of each session in each life"},
				{Name: "sessions", Kind: scenario.KindInt, Default: "4", Doc: "at once"},
			},
			Metrics: metricDocs(
				"times_ratio", "the layer, uncompressed, over the cache", "resident_ratio", "the most that was in memory, over the cache",
				"first_row_bytes", "read from the bucket until the first row of a life was there", "statement_ms", "each, pages that had to be fetched included",
				"acknowledged_count", "updates", "layers_count", "taken", "fetched_ratio", "bytes fetched over the layer's, in a life",
			),
		},
		run: largerThanCache,
	}
}

// cachedRun is a database that is larger than its cache, and the ledger of what was done to it.
type cachedRun struct {
	r          *Run
	st         *store.Counted
	cache      int64
	rows       int
	statements int
	sessions   int

	sum      atomic.Int64 // of updates that were acknowledged
	unsure   atomic.Int64 // of those that a crash has left without an answer
	resident int64
}

func largerThanCache(ctx context.Context, r *Run, args scenario.Args) error {
	c := &cachedRun{
		r: r, st: store.Count(mem.New(mem.Options{})), cache: int64(args.Size("cache")), statements: args.Int("statements"), sessions: args.Int("sessions"),
	}
	e, err := c.open(ctx, 0, true)
	if err != nil {
		return err
	}
	r.Progress(r.Cell.Probe+": loading", 0, 0)
	c.rows, err = pageRows(ctx, e, int64(args.Size("size")))
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

func (c *cachedRun) open(ctx context.Context, cache int64, create bool) (*engine.Engine, error) {
	return engine.Open(ctx, engine.Options{
		Runtime: c.r.Runtime, Store: c.st, Create: create, Cache: cache, RestoreBudget: -1, Settings: map[string]string{"shared_buffers": "8MB"},
		AcquireTimeout: time.Minute, LeaseTTL: time.Second,
	})
}

// live is one life of the engine, ended by a crash.
func (c *cachedRun) live(ctx context.Context, life int) error {
	before := c.st.Ops().BytesDown
	e, err := c.open(ctx, c.cache, false)
	if err != nil {
		return err
	}
	defer e.Abandon()
	if _, err := e.Query(ctx, fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+life)); err != nil {
		return err
	}
	c.r.Metrics.Value("first_row_bytes", float64(c.st.Ops().BytesDown-before))
	c.r.Metrics.Value("times_ratio", float64(e.Opened().RawBytes)/float64(c.cache))
	work, ctx := errgroup.WithContext(ctx)
	all := int64(c.statements * c.sessions)
	k := &crash{engine: e, at: all/2 + rand.New(rand.NewPCG(c.r.Seed, uint64(life))).Int64N(all/2)}
	for s := range c.sessions {
		work.Go(func() error { return c.session(ctx, k, rand.New(rand.NewPCG(c.r.Seed, uint64(1000*(life+1)+s)))) })
	}
	work.Go(func() error {
		for n := int64(1); n < 3; n++ { // one third of the way, and two
			for k.done.Load() < n*k.at/3 {
				if err := clock.System().Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			if err := e.Compact(ctx); err != nil && !k.happened.Load() {
				return err
			}
			c.r.Metrics.Value("layers_count", 1)
		}
		return nil
	})
	if err := work.Wait(); err != nil {
		return err
	}
	s := e.Stats().Cache
	c.resident = max(c.resident, s.Resident)
	c.r.Metrics.Value("fetched_ratio", float64(s.Pages.Bytes)/float64(e.Opened().Stored))
	return nil
}

// crash ends an engine in mid-work, when so many statements were done.
type crash struct {
	engine   *engine.Engine
	at       int64
	done     atomic.Int64
	happened atomic.Bool
}

func (k *crash) step() {
	if k.done.Add(1) == k.at {
		k.happened.Store(true)
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
		c.r.check(checkChecksum, fmt.Sprintf("the bucket: %v", err))
	}
	e, err := c.open(ctx, 0, false)
	if err != nil {
		return err
	}
	defer e.Abandon()
	least, most := c.sum.Load(), c.sum.Load()+c.unsure.Load()
	for _, q := range []struct{ check, sql, want string }{
		{checkDurability, fmt.Sprintf("SELECT CASE WHEN sum(n) BETWEEN %d AND %d THEN 'as acknowledged' ELSE sum(n)::text END FROM p", least, most), "as acknowledged"},
		{checkChecksum, "SELECT count(*) FROM p g WHERE pad = (SELECT string_agg(md5((g.id * 31 + i)::text), '') FROM generate_series(1, 24) i)", strconv.Itoa(c.rows)},
		{checkChecksum, "CREATE EXTENSION IF NOT EXISTS amcheck; SELECT coalesce(bt_index_check('p_pkey', true)::text, '')", ""},
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
		c.r.check(q.check, wrong)
	}
	return nil
}

func wakeSizeVerb() verb {
	return verb{
		Verb: scenario.Verb{
			Name: "wake_size",
			Doc: "on the modelled bucket, in one warm process: opens a database by what it needs first, in turns with one that reads all of it first, " +
				"to the first row of a lookup; then another lookup, and a scan of all of it",
			Args: []scenario.Arg{
				{Name: "size", Kind: scenario.KindSize, Required: true, Doc: "rows"},
				{Name: "turns", Kind: scenario.KindInt, Default: "5", Doc: "of each"},
			},
			Metrics: metricDocs(
				"wake_ms", "to the first row", "wake_eager_ms", "with all of it read first", "wake_ratio", "turn by turn",
				"wake_read_bytes", "from the bucket, to the first row", "wake_class_a_count", "requests of class A, to the first row", "wake_class_a_eager_count", "with all of it read first",
				"lookup_ms", "of a row that was not read before", "lookup_eager_ms", "with all of it in memory",
				"scan_ms", "from the opening to the end of a scan, less what came between", "scan_eager_ms", "with all of it read first", "scan_ratio", "turn by turn",
			),
		},
		run: wakeSize,
	}
}

// wakeTook is what one wake took.
type wakeTook struct {
	wake, lookup, scan time.Duration
	ops                store.Ops
}

func wakeSize(ctx context.Context, r *Run, args scenario.Args) error {
	bucket := mem.New(mem.Options{})
	options := func(st store.Store, cache int64) engine.Options {
		return engine.Options{
			Runtime: r.Runtime, Store: st, Create: true, Cache: cache, RestoreBudget: -1, LeaseTTL: time.Second, AcquireTimeout: time.Minute,
		}
	}
	e, err := engine.Open(ctx, options(bucket, 0))
	if err != nil {
		return err
	}
	r.Progress(r.Cell.Probe+": loading", 0, 0)
	rows, err := pageRows(ctx, e, int64(args.Size("size")))
	if err = errors.Join(err, e.Close(ctx)); err != nil {
		return err
	}
	turns := args.Int("turns")
	caches := [2]int64{4 << 30, 0}
	for turn := range turns + 1 { // of the first one the boot set is noted
		r.Progress(r.Cell.Probe+": waking, in turns", int64(turn), int64(turns))
		var took [2]wakeTook
		for i := range caches {
			side := (turn + i) % 2
			counted := store.Count(bucket)
			st, err := slowed(counted, r.Seed+uint64(2*turn+side))
			if err != nil {
				return err
			}
			if took[side], err = wakeOnce(ctx, options(st, caches[side]), counted, turn, rows, side == 0); err != nil {
				return err
			}
			st.Close()
		}
		if turn > 0 {
			r.wakeMetrics(took)
		}
	}
	return nil
}

func (r *Run) wakeMetrics(took [2]wakeTook) {
	m, lazy, eager := r.Metrics, took[0], took[1]
	m.Duration("wake_ms", lazy.wake)
	m.Duration("wake_eager_ms", eager.wake)
	m.Value("wake_ratio", float64(lazy.wake)/float64(eager.wake))
	m.Value("wake_read_bytes", float64(lazy.ops.BytesDown))
	m.Value("wake_class_a_count", float64(lazy.ops.ClassA))
	m.Value("wake_class_a_eager_count", float64(eager.ops.ClassA))
	m.Duration("lookup_ms", lazy.lookup)
	m.Duration("lookup_eager_ms", eager.lookup)
	m.Duration("scan_ms", lazy.wake+lazy.scan)
	m.Duration("scan_eager_ms", eager.wake+eager.scan)
	m.Value("scan_ratio", float64(lazy.wake+lazy.scan)/float64(eager.wake+eager.scan))
}

// wakeOnce opens, looks up, scans, and ends; who notes takes a layer that knows what was wanted first.
func wakeOnce(ctx context.Context, o engine.Options, counted *store.Counted, turn, rows int, notes bool) (t wakeTook, err error) {
	clk := clock.System()
	at := clk.Monotonic()
	lap := func() time.Duration {
		now := clk.Monotonic()
		defer func() { at = now }()
		return now - at
	}
	e, err := engine.Open(ctx, o)
	if err != nil {
		return t, err
	}
	defer e.Abandon()
	query := func(sql string) {
		if err == nil {
			_, err = e.Query(ctx, sql)
		}
	}
	query(fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+rows/2+turn))
	t.wake, t.ops = lap(), counted.Ops()
	query(fmt.Sprintf("SELECT n FROM p WHERE id = %d", 1+(turn+1)*rows/20))
	t.lookup = lap()
	query("SELECT sum(length(pad)) FROM p")
	t.scan = lap()
	if notes && err == nil {
		query(fmt.Sprintf("UPDATE p SET n = n + 1 WHERE id = %d", 1+rows/2+turn))
		err = errors.Join(err, e.Compact(ctx))
	}
	return t, errors.Join(err, e.Close(ctx))
}
