package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
	"blobpglite/runner/workload"
)

// What is wrong with pages.
const (
	faultBlackout = "blackout"
	faultDamaged  = "damaged"
	faultGone     = "gone"
)

func pageFaultsVerb() bench.Verb {
	return bench.Verb{
		Verb: scenario.Verb{
			Name: "pagefaults",
			Doc: "on a store in memory: a database larger than its cache is scanned while its pages are unavailable, or with a damaged " +
				"frame, or a missing segment; the statement gets an error, everything else is served and written, layers are taken, " +
				"verify names the object; and when the bucket is as before, so are the rows",
			Args: []scenario.Arg{
				{Name: "fault", Required: true, OneOf: []string{faultBlackout, faultDamaged, faultGone}, Doc: "of pages read during the scan"},
				{Name: "size", Kind: scenario.KindSize, Default: "100MB", Doc: "rows"},
			},
			Metrics: bench.MetricDocs("rows_ratio", "share of rows that a scan had returned when a blackout made its pages unavailable", "refused_ms", "time until the statement is "+
				"told that its pages are unavailable", "served_count", "statements served in the meantime, as they needed no unavailable pages"),
		},
		Run: runPageFaults,
	}
}

// pageOutage is a store whose page segments cannot be read while it is out.
type pageOutage struct {
	store.Store
	out atomic.Bool
}

func (o *pageOutage) unavailable(key string) error {
	if o.out.Load() && strings.HasPrefix(key, base.SegmentPrefix()) {
		return &store.OpError{Op: "get", Key: key, Err: store.ErrUnavailable}
	}
	return nil
}

func (o *pageOutage) Get(ctx context.Context, key string) (store.Object, error) {
	if err := o.unavailable(key); err != nil {
		return store.Object{}, err
	}
	return o.Store.Get(ctx, key)
}

func (o *pageOutage) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	if err := o.unavailable(key); err != nil {
		return store.Object{}, err
	}
	return o.Store.(store.RangeGetter).GetRange(ctx, key, offset, length)
}

// told is a log to be read.
type told struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *told) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *told) names(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

// faultyPages is a database with a fault.
type faultyPages struct {
	r     *bench.Run
	st    *pageOutage
	log   told
	fault string
	want  string // the result of a scan
	rows  int    // of the table

	object string // the damaged or missing one
	body   []byte // its original content
}

func runPageFaults(ctx context.Context, r *bench.Run, args scenario.Args) error {
	f := &faultyPages{r: r, st: &pageOutage{Store: mem.New(mem.Options{})}, fault: args.String("fault")}
	e, err := f.open(ctx, 0)
	if err != nil {
		return err
	}
	r.Progress(r.Cell.Probe+": loading", 0, 0)
	f.rows, err = workload.PageRows(ctx, e, int64(args.Size("size")))
	var path string
	for _, q := range []struct {
		sql string
		to  *string
	}{
		{"CREATE TABLE other (a int); INSERT INTO other SELECT generate_series(1, 1000)", nil}, {scanPages, &f.want}, {"SELECT pg_relation_filepath('p')", &path},
	} {
		if err == nil {
			err = f.ask(ctx, e, q.sql, q.to)
		}
	}
	if err = errors.Join(err, e.Compact(ctx), e.Close(ctx)); err != nil {
		return err
	}
	if err := f.strike(ctx, "/"+path); err != nil {
		return err
	}
	if e, err = f.open(ctx, engine.LeastCache); err != nil {
		r.Check(checkContained, fmt.Sprintf("it does not open: %v", err))
		return nil
	}
	defer e.Abandon()
	if err := f.live(ctx, e); err != nil {
		return err
	}
	return errors.Join(f.check(ctx, e), e.Close(ctx))
}

const scanPages = "SELECT count(*) || ' ' || sum(length(pad)) FROM p"

func (f *faultyPages) open(ctx context.Context, cache int64) (*engine.Engine, error) {
	return engine.Open(ctx, engine.Options{
		Runtime: f.r.Runtime, Store: f.st, Create: true, Cache: cache, RestoreBudget: -1, LeaseTTL: time.Second, AcquireTimeout: time.Minute,
		Settings: map[string]string{"shared_buffers": "4MB"}, Logger: slog.New(slog.NewTextHandler(&f.log, nil)),
	})
}

func (f *faultyPages) ask(ctx context.Context, e *engine.Engine, sql string, to *string) error {
	results, err := e.Query(ctx, sql)
	if err != nil {
		return fmt.Errorf("%.60s: %w", sql, err)
	}
	if to != nil {
		*to = results[len(results)-1].Rows[0][0]
	}
	return nil
}

// strike breaks the frame that holds the middle of a table, or takes its segment away.
func (f *faultyPages) strike(ctx context.Context, path string) error {
	if f.fault == faultBlackout {
		return nil
	}
	m, _, err := manifest.Load(ctx, f.st)
	if err != nil {
		return err
	}
	newest := m.Layers[len(m.Layers)-1]
	l, err := base.ReadIndex(ctx, f.st, newest.Key, base.Expected(m, newest))
	if err != nil {
		return err
	}
	const middle = 5000 // of pages, past what a first row needs
	at, ok := l.Place(path, middle)
	if !ok {
		return fmt.Errorf("%s has no page %d", path, middle)
	}
	o, err := f.st.Get(ctx, at.Object)
	if err != nil {
		return err
	}
	f.object, f.body = at.Object, o.Body
	if f.fault == faultGone {
		return f.st.Delete(ctx, f.object)
	}
	body := bytes.Clone(o.Body)
	body[at.Offset+at.Length/2] ^= 1
	_, err = f.st.Put(ctx, f.object, body, "", store.Always())
	return err
}

// live is what is done while the fault is there.
func (f *faultyPages) live(ctx context.Context, e *engine.Engine) error {
	clk := clock.System()
	if f.fault == faultBlackout {
		for range 2 { // after that, what these statements need is in memory, including catalogs
			if err := f.ask(ctx, e, "UPDATE other SET a = a + 1 WHERE a % 20 = 0", nil); err != nil {
				return err
			}
		}
	}
	f.r.Progress(f.r.Cell.Probe+" "+f.r.Cell.Label+": scanning", 0, 0)
	at := clk.Monotonic()
	var err error
	if f.fault == faultBlackout {
		err = f.scanIntoBlackout(ctx, e, func() { at = clk.Monotonic() })
	} else {
		_, err = e.Query(ctx, scanPages)
	}
	f.r.Metrics.Duration("refused_ms", clk.Monotonic()-at)
	f.r.Check(checkContained, bench.Wrongf(err == nil || !strings.Contains(err.Error(), "58030"), "the scan: %v, not 58030", err))
	if f.object != "" {
		f.r.Check(checkContained, bench.Wrongf(!f.log.names(f.object), "the log does not name %s", f.object))
	}
	for i := range 20 {
		err := f.ask(ctx, e, fmt.Sprintf("UPDATE other SET a = a + 1 WHERE a %% 20 = %d", i), nil)
		f.r.Check(checkContained, bench.Wrongf(err != nil, "another table: %v", err))
		f.r.Metrics.Value("served_count", 1)
	}
	if f.fault == faultBlackout {
		f.st.out.Store(false)
		return nil
	}
	for range 3 {
		err := f.ask(ctx, e, "UPDATE other SET a = a + 1", nil)
		f.r.Check(checkContained, bench.Wrongf(err != nil, "another table: %v", err))
		err = e.Compact(ctx)
		f.r.Check(checkContained, bench.Wrongf(err != nil, "a layer: %v", err))
	}
	_, err = takeover.VerifyWith(ctx, f.st, takeover.VerifyOptions{Deep: true})
	f.r.Check(bench.CheckVerified, bench.Wrongf(err == nil || !strings.Contains(err.Error(), f.object), "verify does not name %s: %v", f.object, err))
	_, err = f.st.Put(ctx, f.object, f.body, "", store.Always())
	return err
}

// scanIntoBlackout reads the table row by row; once a tenth of it is there, its pages are no longer available. It returns the scan's error.
func (f *faultyPages) scanIntoBlackout(ctx context.Context, e *engine.Engine, begins func()) error {
	c, err := bench.Connect(ctx, e)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	scan, rows := c.ExecParams(ctx, "SELECT id, pad FROM p", nil, nil, nil, nil), 0
	for scan.NextRow() {
		if rows++; rows == f.rows/10 {
			f.st.out.Store(true)
			begins()
		}
	}
	_, err = scan.Close()
	f.r.Metrics.Value("rows_ratio", float64(rows)/float64(f.rows))
	f.r.Check(checkContained, bench.Wrongf(rows < f.rows/10 || rows >= f.rows, "the scan returned %d of %d rows: the outage did not interrupt it", rows, f.rows))
	return err
}

// check is when the bucket is as it was.
func (f *faultyPages) check(ctx context.Context, e *engine.Engine) error {
	got := ""
	err := f.ask(ctx, e, scanPages, &got)
	f.r.Check(bench.CheckChecksum, bench.Wrongf(err != nil || got != f.want, "afterwards a scan returns %s, not %s: %v", got, f.want, err))
	_, err = takeover.VerifyWith(ctx, f.st, takeover.VerifyOptions{Deep: true})
	f.r.Check(bench.CheckVerified, bench.Wrongf(err != nil, "afterwards: %v", err))
	return nil
}
