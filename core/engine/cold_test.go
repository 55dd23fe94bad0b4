package engine

import (
	"fmt"
	"testing"

	"blobpglite/core/store/mem"
)

// TestFirstRowsOfWhatWasLoaded: a database that was loaded and put to sleep gets its first row without waiting for the catalogs' pages one
// by one, from its first cold start on, although its layer has no boot set. That life makes one as it ends, and from then on no first row
// waits; it is the only layer taken by lives that only read.
func TestFirstRowsOfWhatWasLoaded(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.Cache = 1 << 30 })
	must(t, e, "CREATE TABLE t (id int PRIMARY KEY, pad text)")
	must(t, e, "INSERT INTO t "+rowsSQL(bulkRows))
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	loaded := layers(t, st)
	e = open(t, st, inLog, func(o *Options) { o.Cache, o.RestoreBudget = LeastCache, -1 })
	must(t, e, "SELECT length(pad) FROM t WHERE id = 4711")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := layers(t, st); n != loaded {
		t.Errorf("layer %d was taken by a life that was told to take none", n)
	}
	var seqs []int
	for life := range 4 {
		e := open(t, st, inLog, func(o *Options) { o.Cache = LeastCache })
		before := e.Stats().Cache.Pages
		if got := must(t, e, "SELECT length(pad) FROM t WHERE id = 4711"); got != fmt.Sprint(padBytes) {
			t.Fatal(got)
		}
		after := e.Stats().Cache.Pages
		t.Logf("life %d: %d records; %d frames waited for at the opening, %d at the first row, in %d requests, %d bytes",
			life, e.Opened().Records, before.Waited, after.Waited-before.Waited, after.Requests, after.Bytes)
		most := int64(5) // the index's root, its leaf, the row
		if life > 0 {
			most = 0
		}
		if n := after.Waited - before.Waited; n > most {
			t.Errorf("life %d: the first row waited %d times", life, n)
		}
		if life == 2 { // reads elsewhere: not a reason for another boot set
			must(t, e, "SELECT sum(length(pad)) FROM t WHERE id IN (1, 33333, 44444, 55555)")
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, layers(t, st))
	}
	if seqs[0] == loaded || seqs[1] != seqs[0] || seqs[3] != seqs[0] {
		t.Errorf("the newest layer was %d when all was loaded, and %v at the ends of the lives: want one more, after the first", loaded, seqs)
	}
}

// TestPrefetch: how far recovery and scans prefetch follows from the cache, unless it is set explicitly.
func TestPrefetch(t *testing.T) {
	t.Parallel()
	const show = "SELECT current_setting('maintenance_io_concurrency') || ' ' || current_setting('effective_io_concurrency')"
	st := mem.New(mem.Options{})
	for i, c := range []struct {
		cache int64
		want  string
	}{{0, "16 16"}, {LeastCache, "24 24"}, {1 << 30, "256 256"}, {1 << 30, "256 7"}} {
		e := open(t, st, inLog, func(o *Options) { o.Cache = c.cache })
		if got := must(t, e, show); got != c.want {
			t.Errorf("a cache of %d bytes: %s, want %s", c.cache, got, c.want)
		}
		if i == 2 {
			must(t, e, "ALTER SYSTEM SET effective_io_concurrency = 7")
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, st, inLog, func(o *Options) { o.Cache, o.Settings = 1<<30, map[string]string{"maintenance_io_concurrency": "3"} })
	if got := must(t, e, show); got != fmt.Sprint(3, 7) {
		t.Errorf("with a setting: %s", got)
	}
}

// TestRecoveryAsksAhead: the pages changed by the log after a layer are requested ahead of its replay, so that recovery need not wait for
// them.
func TestRecoveryAsksAhead(t *testing.T) {
	t.Parallel()
	st := large(t)
	e := open(t, st, inLog, cached)
	must(t, e, "UPDATE t SET n = n + 1 WHERE id % 150 = 0")
	e.Abandon()
	type figures struct{ ahead, used, waited int64 }
	recover := func(prefetch string) figures {
		e := open(t, st, inLog, cached, func(o *Options) { o.Settings["recovery_prefetch"] = prefetch })
		defer e.Abandon()
		s := e.Stats()
		if n := e.Opened().Records; n == 0 {
			t.Fatal("there is nothing to recover")
		}
		return figures{s.Cache.Pages.Ahead, s.Cache.Pages.AheadUsed, s.Cluster.Fetches}
	}
	without, with := recover("off"), recover("try")
	t.Logf("of 400 pages: %+v without advice, %+v with it", without, with)
	// The number of waits is only informative here: what was requested may still be on its way, since a store in memory has no latency to
	// hide.
	if with.ahead < without.ahead+100 || with.used < without.used+100 {
		t.Errorf("of 400 pages: %+v without advice, %+v with it", without, with)
	}
}
