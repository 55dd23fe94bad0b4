package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// cached are options of an engine that keeps little in memory.
func cached(o *Options) {
	o.Cache, o.RestoreBudget = LeastCache, -1
	o.Settings = map[string]string{"shared_buffers": "4MB"}
}

// memory is how much of an engine's files is in memory, and how much is away.
func memory(t *testing.T, e *Engine) (resident, away int64) {
	t.Helper()
	if err := e.server.locked(func(c *pglite.Cluster) { resident, away = c.Data().ResidentBytes(), c.Data().AwayBytes() }); err != nil {
		t.Fatal(err)
	}
	return resident, away
}

// waitUntil looks again and again; the time limit of the tests is its own.
func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCache: a database that is larger than what may be in memory opens by reading little of it, is read, written, covered by layers,
// crashes, and has the same contents as one that is entirely in memory.
func TestCache(t *testing.T) {
	t.Parallel()
	const seed = 20261129
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	st := store.Count(large(t))
	sum := int64(0)
	contents := func() string { return fmt.Sprintf("%d %d %d", bulkRows, sum, bulkRows*padBytes) }
	for life := range 3 {
		before := st.Ops().BytesDown
		e := open(t, st, inLog, cached)
		if got := must(t, e, "SELECT pad FROM t WHERE id = 4711"); len(got) != padBytes {
			t.Fatalf("%d bytes", len(got))
		}
		opened := e.Opened()
		if read := st.Ops().BytesDown - before; opened.Stored < 15<<20 || read*2 > opened.Stored {
			t.Errorf("life %d: the first row took %d bytes of %d", life, read, opened.Stored)
		}
		stats := e.Stats()
		if read := st.Ops().BytesDown - before; opened.ReadBytes == 0 || stats.WakeBytes < opened.ReadBytes || stats.WakeBytes > read || life == 0 && stats.WakeBytes*2 < read {
			t.Errorf("life %d: the opening has read %d bytes, the wake %d, of %d that came", life, opened.ReadBytes, stats.WakeBytes, read)
		}
		if u := stats.Use; u.StoredBytes != opened.Stored || u.LiveBytes == 0 || u.LiveBytes > u.StoredBytes {
			t.Errorf("life %d: of %d bytes: %+v", life, opened.Stored, u)
		}
		if _, away := memory(t, e); away < 30<<20 {
			t.Errorf("life %d: %d bytes are away", life, away)
		}
		for range 2 {
			for range 40 {
				n := rng.IntN(100)
				sum += int64(n)
				must(t, e, fmt.Sprintf("UPDATE t SET n = n + %d WHERE id = %d", n, 1+rng.IntN(bulkRows)))
			}
			if got := must(t, e, "SELECT count(*) || ' ' || sum(n) || ' ' || sum(length(pad)) FROM t"); got != contents() {
				t.Fatalf("life %d: %s, the sum is %d", life, got, sum)
			}
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s := e.Stats(); s.Use.StoredBytes != s.Layer.Written.StoredBytes {
				t.Errorf("life %d: a layer of %d bytes: %+v", life, s.Layer.Written.StoredBytes, s.Use)
			}
			waitUntil(t, func() bool { resident, _ := memory(t, e); return resident <= LeastCache+hydrateBytes })
		}
		e.Abandon()
		if _, err := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true}); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, st, inLog)
	if got := must(t, e, "SELECT count(*) || ' ' || sum(n) || ' ' || sum(length(pad)) FROM t"); got != contents() {
		t.Errorf("all in memory: %s, the sum is %d", got, sum)
	}
}

// TestCacheOfWriters: clients that write faster than layers can be taken wait for them; memory use is bounded.
func TestCacheOfWriters(t *testing.T) {
	t.Parallel()
	st := large(t)
	e := open(t, st, inLog, cached)
	done := make(chan struct{})
	most := make(chan int64)
	go func() {
		n := int64(0)
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			if resident, _ := memory(t, e); resident > n {
				n = resident
			}
			_ = clock.System().Sleep(t.Context(), time.Millisecond)
		}
		most <- n
	}()
	for range 2 {
		must(t, e, "UPDATE t SET n = n + 1")
	}
	close(done)
	if n := <-most; n > 2*LeastCache+24<<20 {
		t.Errorf("%d bytes were in memory, the budget is %d", n, LeastCache)
	}
	if e.Stats().Layer.Seq == 0 {
		t.Error("no layer was taken")
	}
	e.Abandon()
	e = open(t, st, inLog, cached)
	if got := must(t, e, "SELECT sum(n) FROM t"); got != fmt.Sprint(2*bulkRows) {
		t.Errorf("the sum is %s", got)
	}
}

// TestCacheOfSorts: memory that no layer frees, such as the files of a large sort, is not a reason to wait for one.
func TestCacheOfSorts(t *testing.T) {
	t.Parallel()
	st := large(t)
	e := open(t, st, inLog, cached, func(o *Options) { o.TempMemory = -1 })
	must(t, e, "UPDATE t SET n = n + 1 WHERE id % 3 = 0")
	got := must(t, e, "SET work_mem = '64kB'; SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM (SELECT pad, n FROM t ORDER BY md5(pad), pad OFFSET 0) s")
	if got != fmt.Sprint(bulkRows) {
		t.Errorf("%s rows", got)
	}
	must(t, e, "CREATE TEMPORARY TABLE copy AS SELECT * FROM t; UPDATE copy SET n = n + 1; UPDATE t SET n = n + 1")
}

// outage is a store whose pages cannot be read while it is on.
type outage struct {
	store.Store
	on chan bool
}

func (o *outage) Get(ctx context.Context, key string) (store.Object, error) {
	if on := <-o.on; true {
		o.on <- on
		if on && strings.HasPrefix(key, "page/") {
			return store.Object{}, &store.OpError{Op: "get", Key: key, Err: store.ErrDenied}
		}
	}
	return o.Store.Get(ctx, key)
}

// TestCacheOutage: pages that cannot be read are an error of the statement, which works again when the bucket does.
func TestCacheOutage(t *testing.T) {
	t.Parallel()
	st := &outage{Store: large(t), on: make(chan bool, 1)}
	st.on <- false
	e := open(t, st, inLog, cached)
	must(t, e, "SELECT 1")
	<-st.on
	st.on <- true
	if _, err := e.Query(t.Context(), "SELECT sum(length(pad)) FROM t"); err == nil || !strings.Contains(err.Error(), "58030") {
		t.Errorf("while it is out: %v", err)
	}
	must(t, e, "SELECT 1")
	<-st.on
	st.on <- false
	if got := must(t, e, "SELECT sum(length(pad)) FROM t"); got != fmt.Sprint(bulkRows*padBytes) {
		t.Errorf("afterwards: %s", got)
	}
}

// TestCacheTooSmall: the error names the smallest cache that works.
func TestCacheTooSmall(t *testing.T) {
	t.Parallel()
	_, err := tryOpen(t, mem.New(mem.Options{}), inLog, func(o *Options) { o.Cache = LeastCache - 1 })
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(LeastCache)) {
		t.Errorf("%v", err)
	}
}
