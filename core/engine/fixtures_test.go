package engine

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// fixture is a database that several tests start from. It is made once; each test gets its own bucket, which shares the bytes.
type fixture struct {
	make func(t *testing.T, st store.Store) // it ends the engines that it opens
	once sync.Once
	made *mem.Store // nil: not yet, or it failed
}

// copy is a bucket with the database.
func (f *fixture) copy(t *testing.T) *mem.Store {
	t.Helper()
	f.once.Do(func() {
		st := mem.New(mem.Options{})
		f.make(t, st)
		f.made = st
	})
	if f.made == nil {
		t.Fatal("the test that was to make this database failed at it")
	}
	to := mem.New(mem.Options{})
	for a, err := range f.made.List(t.Context(), "", "") {
		if err == nil {
			_, err = to.CopyFrom(t.Context(), a.Key, f.made, a.Key, a.WriteID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// oneRow has a table of one row; the writer that made it has died.
func oneRow(change ...func(*Options)) *fixture {
	return &fixture{make: func(t *testing.T, st store.Store) {
		t.Helper()
		e := open(t, st, change...)
		must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
		e.Abandon()
	}}
}

// passedBy are the fault points that an undisturbed life passes, and must include least: at the others a life cannot die.
func passedBy(t *testing.T, life func(point.Hook) error, least ...point.Point) (passed []point.Point) {
	t.Helper()
	var mu sync.Mutex
	at := map[point.Point]bool{}
	if err := life(func(_ context.Context, p point.Point) error {
		mu.Lock()
		defer mu.Unlock()
		at[p] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, p := range point.All() {
		if at[p] {
			passed = append(passed, p)
		}
	}
	for _, p := range least {
		if !at[p] {
			t.Errorf("%s was not passed: nobody dies there", p)
		}
	}
	t.Logf("passed: %v", passed)
	return passed
}

// bulkRows is how many rows bulk has, and padBytes how long the pad of each is.
const bulkRows, padBytes = 60_000, 24 * 32

// rowsSQL makes n rows: a number, and a pad that is not compressed to nothing.
func rowsSQL(n int) string {
	return fmt.Sprintf("SELECT g AS id, (SELECT string_agg(md5((g * 31 + i)::text), '') FROM generate_series(1, %d) i) AS pad FROM generate_series(1, %d) g", padBytes/32, n)
}

// bulk has some 75 MB: more than a cache of LeastCache holds.
var bulk = fixture{make: func(t *testing.T, st store.Store) {
	t.Helper()
	e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "CREATE TABLE t (id int, n int, pad text)")
	must(t, e, "INSERT INTO t SELECT id, 0, pad FROM ("+rowsSQL(bulkRows)+") r")
	must(t, e, "ALTER TABLE t ADD PRIMARY KEY (id)")
	must(t, e, "VACUUM (ANALYZE) t")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}}

// large is a bucket with the database bulk.
func large(t *testing.T) *mem.Store {
	t.Helper()
	return bulk.copy(t)
}
