package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// runtime is compiled PostgreSQL, shared by all tests.
var runtime *pglite.Runtime

func TestMain(m *testing.M) {
	var err error
	if runtime, err = pglite.NewRuntime(context.Background(), pglite.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// A memory file without any snapshot left to restore from is closed by a finalizer, which takes its time.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("runtime.runFinalizers"), goleak.Cleanup(func(code int) {
		if err := runtime.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

func open(t *testing.T, st store.Store, change ...func(*Options)) *Engine {
	t.Helper()
	e, err := tryOpen(t, st, change...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func tryOpen(t *testing.T, st store.Store, change ...func(*Options)) (*Engine, error) {
	t.Helper()
	o := Options{Runtime: runtime, Store: st, Create: true, Mode: ModeSnapshot}
	for _, c := range change {
		c(&o)
	}
	e, err := Open(t.Context(), o)
	if err == nil {
		atEnd(t, e.Abandon)
	}
	return e, err
}

// atEnd runs f when t has ended, like t.Cleanup, which would keep what f refers to, such as a store, until all parallel tests have ended.
func atEnd(t *testing.T, f func()) {
	t.Cleanup(func() {
		run := f
		f = nil
		run()
	})
}

// must runs SQL and returns the last value of the last result.
func must(t *testing.T, e *Engine, sql string) string {
	t.Helper()
	results, err := e.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if len(results) == 0 {
		return ""
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return ""
	}
	row := last.Rows[len(last.Rows)-1]
	return row[len(row)-1]
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st)
	if !e.Opened().Created {
		t.Error("an empty prefix was not reported as created")
	}
	must(t, e, "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 1000) g")
	must(t, e, "ALTER SYSTEM SET cluster_name = 'kept'")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for life := range 3 {
		e := open(t, st, func(o *Options) { o.Create = false })
		if e.Opened().Created {
			t.Error("a database that exists was reported as created")
		}
		if got := must(t, e, "SELECT count(*) FROM t"); got != fmt.Sprint(1000+life) {
			t.Errorf("life %d finds %s rows", life, got)
		}
		if got := must(t, e, "SHOW cluster_name"); got != "kept" {
			t.Errorf("life %d: ALTER SYSTEM did not survive: %q", life, got)
		}
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d, 'later')", 2000+life))
		e.Abandon() // a crash: the insert was acknowledged
	}
}

func TestNoDatabase(t *testing.T) {
	t.Parallel()
	st := store.Count(mem.New(mem.Options{}))
	_, err := tryOpen(t, st, func(o *Options) { o.Create = false })
	if !errors.Is(err, ErrNoDatabase) {
		t.Fatalf("got %v", err)
	}
	if ops := st.Ops(); ops.ClassA != 0 {
		t.Errorf("a failed open wrote %d times", ops.ClassA)
	}
}

func TestReadsAskNothingOfTheBucket(t *testing.T) {
	t.Parallel()
	st := store.Count(mem.New(mem.Options{}))
	e := open(t, st)
	must(t, e, "CREATE TABLE IF NOT EXISTS t (a int)")
	before := st.Ops()
	for range 5 {
		must(t, e, "SELECT count(*) FROM t")
		must(t, e, "CREATE TABLE IF NOT EXISTS t (a int)") // writes no log: nothing to upload
		must(t, e, "BEGIN; ROLLBACK")
	}
	if after := st.Ops(); after != before {
		t.Errorf("idempotent statements cost %+v, before %+v", after, before)
	}
}

func TestAnswerWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	var answer bytes.Buffer
	watching := false
	e := open(t, mem.New(mem.Options{}), func(o *Options) {
		o.Hook = func(_ context.Context, p point.Point) error {
			if watching && !strings.HasPrefix(string(p), "process/") && strings.Contains(answer.String(), "INSERT") {
				t.Errorf("at %s the client had the answer already", p)
			}
			return nil
		}
	})
	must(t, e, "CREATE TABLE t (a int)")
	watching = true
	message, err := (&pgproto3.Query{String: "SELECT 7; INSERT INTO t VALUES (1)"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Exec(t.Context(), message, &answer); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(answer.String(), "INSERT 0 1") {
		t.Errorf("no answer: %q", answer.String())
	}
}

func TestZombieIsFenced(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	zombie := open(t, st)
	must(t, zombie, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	successor := open(t, st)
	_, err := zombie.Query(t.Context(), "INSERT INTO t VALUES (2)")
	if !errors.Is(err, ErrFenced) {
		t.Fatalf("the zombie's commit: %v", err)
	}
	if _, err := zombie.Query(t.Context(), "SELECT * FROM t"); !errors.Is(err, ErrPoisoned) || !errors.Is(err, ErrFenced) {
		t.Errorf("a poisoned engine answered: %v", err)
	}
	if err := zombie.Close(t.Context()); err != nil {
		t.Errorf("close of a poisoned engine: %v", err)
	}
	if got := must(t, successor, "SELECT sum(a) FROM t"); got != "1" {
		t.Errorf("the successor sees %s", got)
	}
	must(t, successor, "INSERT INTO t VALUES (3)")
}

// TestTheFirstReadOfALifeUploadsNothing: what recovery wrote is not a client's commit. (In mode snapshot, the first SELECT after a
// reopening once uploaded the whole database.)
func TestTheFirstReadOfALifeUploadsNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeSnapshot, ModeLog} {
		st := store.Count(mem.New(mem.Options{}))
		with := func(o *Options) { o.Mode, o.LeaseTTL, o.AcquireTimeout = mode, 20*time.Millisecond, 30*time.Second }
		first := open(t, st, with)
		must(t, first, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 10000)")
		first.Abandon()
		for range 2 { // also of a life that wrote nothing
			e := open(t, st, with)
			before := st.Ops()
			if got := must(t, e, "SELECT count(*) FROM t"); got != "10000" {
				t.Errorf("%s: %s rows", mode, got)
			}
			if up := st.Ops().BytesUp - before.BytesUp; up > 4<<10 { // a lease, a record of recovery's own end
				t.Errorf("%s: the first SELECT uploaded %d bytes", mode, up)
			}
			e.Abandon()
		}
		e := open(t, st, with)
		must(t, e, "INSERT INTO t VALUES (0)")
		e.Abandon()
		if got := must(t, open(t, st, with), "SELECT count(*) FROM t"); got != "10001" {
			t.Errorf("%s: %s rows after an insert", mode, got)
		}
	}
}

// TestSuccessorSeesTheLastCommit: the claim comes before the restore, so nothing that the predecessor has acknowledged is missing, and what
// it tries afterwards fails.
func TestSuccessorSeesTheLastCommit(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	old := open(t, st)
	must(t, old, "CREATE TABLE t (a int)")
	late := false
	successor := open(t, st, func(o *Options) {
		o.Hook = func(_ context.Context, p point.Point) error {
			if p == point.ManifestBeforeCAS && !late { // read the manifest, not claimed yet
				late = true
				must(t, old, "INSERT INTO t VALUES (1)")
			}
			return nil
		}
	})
	if !late {
		t.Fatal("the hook never ran")
	}
	if got := must(t, successor, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("the successor sees %s rows", got)
	}
}

func TestSnapshotInAnOpenTransaction(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st)
	must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	must(t, e, "BEGIN; INSERT INTO t SELECT generate_series(2, 5000); UPDATE t SET a = 100 WHERE a = 1")
	stats, err := e.Commit(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Checkpoint == 0 || stats.RawBytes == 0 {
		t.Errorf("stats of a commit in a transaction: %+v", stats)
	}
	e.Abandon()
	if got := must(t, open(t, st), "SELECT string_agg(a::text, ',') FROM t"); got != "1" {
		t.Errorf("the restore shows %s", got)
	}
}

// TestLayerHoldsNoOldLog: a layer has the data and the log from the redo point on, nothing recycled or preallocated.
func TestLayerHoldsNoOldLog(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st)
	must(t, e, "CREATE TABLE t (a int, b text)")
	small := e.LastCommit()
	for range 5 { // much log, little data
		must(t, e, "INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 10000) g; TRUNCATE t")
	}
	if e.LogBytes() < 10<<20 {
		t.Fatalf("only %d bytes of log were written: the test shows nothing", e.LogBytes())
	}
	if last := e.LastCommit(); last.RawBytes > small.RawBytes+4<<20 {
		t.Errorf("the layer grew from %d to %d bytes, the data did not", small.RawBytes, last.RawBytes)
	}
}

func TestOldLayersAreDeleted(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st)
	for i := range 6 {
		must(t, e, fmt.Sprintf("CREATE TABLE t%d (a int)", i))
	}
	indexes := 0
	for a, err := range st.List(t.Context(), "base/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(a.Key, "/index") {
			indexes++
		}
	}
	if indexes != keepLayers {
		t.Errorf("%d layers are in the bucket, %d are kept", indexes, keepLayers)
	}
	e.Abandon()
	if got := must(t, open(t, st), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "6" {
		t.Errorf("the restore has %s tables", got)
	}
}

// TestDeathAtEveryPoint lets an insert die at each fault point that it passes and opens again: acknowledged rows are there, others are
// there at most once, and the database works.
func TestDeathAtEveryPoint(t *testing.T) {
	t.Parallel()
	died := errors.New("died")
	one := oneRow()
	// life opens, inserts, and is gone; it says how many inserts were acknowledged then.
	life := func(t *testing.T, st store.Store, hook point.Hook) (acknowledged int, err error) {
		t.Helper()
		e, err := tryOpen(t, st, func(o *Options) { o.Hook = hook })
		if err != nil {
			return 1, err
		}
		defer e.Abandon()
		if _, err = e.Query(t.Context(), "INSERT INTO t VALUES (2)"); err != nil {
			return 1, err
		}
		return 2, nil
	}
	for _, p := range passedBy(t, func(hook point.Hook) error {
		_, err := life(t, one.copy(t), hook)
		return err
	}, point.RestoreAfterManifest, point.RestoreAfterBase, point.BaseAfterIndex, point.ManifestBeforeCAS, point.CommitBeforeAck) {
		t.Run(strings.ReplaceAll(string(p), "/", "-"), func(t *testing.T) {
			st := one.copy(t)
			var fired atomic.Bool // parts of a layer are uploaded by several goroutines
			acknowledged, err := life(t, st, func(_ context.Context, at point.Point) error {
				if at == p {
					fired.Store(true)
					return died
				}
				return nil
			})
			if fired.Load() != errors.Is(err, died) {
				t.Errorf("fired %t, error %v", fired.Load(), err)
			}
			e := open(t, st)
			got := must(t, e, "SELECT string_agg(a::text, ',' ORDER BY a) FROM t")
			if got != "1,2" && (acknowledged == 2 || got != "1") {
				t.Errorf("after %d acknowledged inserts the table has %s", acknowledged, got)
			}
			must(t, e, "INSERT INTO t VALUES (3)")
		})
	}
}

func TestUnknownCommitPoisons(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	lossy := &losesManifest{Store: st}
	e := open(t, lossy)
	must(t, e, "CREATE TABLE t (a int)")
	lossy.on = true
	if _, err := e.Query(t.Context(), "INSERT INTO t VALUES (1)"); !errors.Is(err, ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	lossy.on = false
	if _, err := e.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrPoisoned) {
		t.Errorf("after an unknown commit the engine answered: %v", err)
	}
	got := must(t, open(t, st), "SELECT count(*) FROM t") // either is right; it must open
	if got != "0" && got != "1" {
		t.Errorf("%s rows", got)
	}
}

// losesManifest answers no request that concerns the manifest.
type losesManifest struct {
	store.Store
	on bool
}

func (l *losesManifest) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if l.on && key == manifest.Key {
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return l.Store.Put(ctx, key, body, id, cond)
}

// TestDamage: the error names what is wrong with the bucket, and nothing in the bucket changes except the claim.
func TestDamage(t *testing.T) {
	t.Parallel()
	one := oneRow()
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, st store.Store)
		is     error
		says   string
	}{
		{"corrupt segment", func(t *testing.T, st store.Store) {
			rewrite(t, st, "/000000", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, base.ErrCorrupt, "segment \"page/"},
		{"truncated segment", func(t *testing.T, st store.Store) {
			rewrite(t, st, "/000000", func(b []byte) []byte { return b[:len(b)-9] })
		}, base.ErrCorrupt, "segment \"page/"},
		{"corrupt index", func(t *testing.T, st store.Store) {
			rewrite(t, st, "/index", func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
		}, base.ErrCorrupt, "index"},
		{"missing segment", func(t *testing.T, st store.Store) {
			rewrite(t, st, "/000000", func([]byte) []byte { return nil })
		}, store.ErrNotFound, "page/"},
		{"newer manifest", func(t *testing.T, st store.Store) {
			rewrite(t, st, manifest.Key, func(b []byte) []byte { return bytes.Replace(b, []byte(`"format":3`), []byte(`"format":99`), 1) })
		}, ErrVersion, "99"},
		{"manifest of another PostgreSQL", func(t *testing.T, st store.Store) {
			rewrite(t, st, manifest.Key, func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"postgres":"18`), []byte(`"postgres":"17`), 1)
			})
		}, ErrVersion, "PostgreSQL 17"},
		{"manifest that is none", func(t *testing.T, st store.Store) {
			rewrite(t, st, manifest.Key, func(b []byte) []byte { return b[:20] })
		}, manifest.ErrCorrupt, "manifest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := one.copy(t)
			c.damage(t, st)
			before := objects(t, st)
			_, err := tryOpen(t, st)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that is %v and names %q", err, c.is, c.says)
			}
			after := objects(t, st)
			delete(before, manifest.Key) // the claim
			delete(after, manifest.Key)
			if fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("the bucket changed:\n%v\n%v", before, after)
			}
		})
	}
}

// rewrite changes the newest object whose key ends in suffix; nil deletes it.
func rewrite(t *testing.T, st store.Store, suffix string, change func([]byte) []byte) {
	t.Helper()
	key := ""
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(a.Key, suffix) {
			key = a.Key
		}
	}
	if key == "" {
		t.Fatalf("no object %s", suffix)
	}
	o, err := st.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if b := change(bytes.Clone(o.Body)); b == nil {
		err = st.Delete(t.Context(), key)
	} else {
		_, err = st.Put(t.Context(), key, b, store.NewWriteID(), store.Always())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func objects(t *testing.T, st store.Store) map[string]store.Gen {
	t.Helper()
	all := map[string]store.Gen{}
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all[a.Key] = a.Gen
	}
	return all
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, func(o *Options) { o.MaxBytes = 64 << 20 })
	must(t, e, "CREATE TABLE t (a text)")
	_, err := e.Query(t.Context(), "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "53100" {
		t.Fatalf("got %v, want SQLSTATE 53100", err)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != "0" {
		t.Errorf("%s rows after a full disk", got)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"Runtime": {Store: mem.New(mem.Options{})},
		"Store":   {Runtime: runtime},
		"mode":    {Runtime: runtime, Store: mem.New(mem.Options{}), Mode: "nonsense"},
		"cache":   {Runtime: runtime, Store: mem.New(mem.Options{}), Cache: 1},
		"fsync":   {Runtime: runtime, Store: mem.New(mem.Options{}), Settings: map[string]string{"fsync": "off"}},
	} {
		if _, err := Open(t.Context(), o); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("without a proper %s: %v", name, err)
		}
	}
}
