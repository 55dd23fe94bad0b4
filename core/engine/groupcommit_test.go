package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// inLog opens in mode log, with a lease that a crash gives up soon.
func inLog(o *Options) {
	o.Mode, o.LeaseTTL, o.AcquireTimeout = ModeLog, 50*time.Millisecond, 10*time.Second
}

func TestLogRoundTrip(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog)
	must(t, e, "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 1000) g")
	must(t, e, "ALTER SYSTEM SET cluster_name = 'kept'")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for life := range 4 {
		e := open(t, st, inLog, func(o *Options) { o.Create = false })
		if got := must(t, e, "SELECT count(*) FROM t"); got != fmt.Sprint(1000+100*life) {
			t.Fatalf("life %d finds %s rows", life, got)
		}
		if got := must(t, e, "SHOW cluster_name"); got != "kept" {
			t.Errorf("life %d: ALTER SYSTEM did not survive: %q", life, got)
		}
		for i := range 100 {
			must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d, 'later')", 2000+100*life+i))
		}
		if life == 2 {
			if err := e.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.Abandon() // a crash: every insert was acknowledged
	}
	report, err := takeover.Verify(t.Context(), st)
	if err != nil || report.Fences == 0 {
		t.Errorf("the log: %+v, %v", report, err)
	}
}

// TestSegmentsAreStraddled writes more log than several segments hold, in small and in large pieces, and crashes.
func TestSegmentsAreStraddled(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "CREATE TABLE t (a int, b text)")
	for i := range 40 {
		must(t, e, fmt.Sprintf("INSERT INTO t SELECT %d, repeat('x', 700) FROM generate_series(1, %d)", i, 1+i*20))
	}
	if e.LogBytes() < 8<<20 {
		t.Fatalf("only %d bytes of log: the test shows nothing", e.LogBytes())
	}
	want := must(t, e, "SELECT count(*) || ' ' || sum(a) FROM t")
	e.Abandon()
	for range 2 {
		e = open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
		if got := must(t, e, "SELECT count(*) || ' ' || sum(a) FROM t"); got != want {
			t.Fatalf("after a crash %s, before %s", got, want)
		}
		e.Abandon()
	}
}

func TestSmallCommitsAreSmall(t *testing.T) {
	t.Parallel()
	counted := store.Count(mem.New(mem.Options{}))
	e := open(t, counted, inLog, func(o *Options) { o.LeaseTTL = time.Hour })
	must(t, e, "CREATE TABLE t (a int PRIMARY KEY, b text)")
	before := counted.Ops()
	const commits = 60
	for i := range commits {
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d, 'value')", i))
	}
	after := counted.Ops()
	if n := after.ClassA - before.ClassA; n != commits {
		t.Errorf("%d commits took %d writes", commits, n)
	}
	if n := after.ClassB - before.ClassB; n != 0 {
		t.Errorf("%d commits took %d reads", commits, n)
	}
	if each := (after.BytesUp - before.BytesUp) / commits; each > 600 {
		t.Errorf("a one-row commit ships %d bytes", each)
	} else {
		t.Logf("a one-row commit ships %d bytes", each)
	}
	before = counted.Ops()
	must(t, e, "SELECT count(*) FROM t")
	if after := counted.Ops(); after != before {
		t.Errorf("a read asked the bucket: %+v", after)
	}
}

func TestLockedSaysByWhom(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.LeaseTTL, o.Writer, o.Address = time.Hour, "first", "10.0.0.1:5432" })
	_, err := tryOpen(t, st, inLog, func(o *Options) { o.AcquireTimeout = 0 })
	var locked *lease.LockedError
	if !errors.As(err, &locked) || !strings.HasPrefix(locked.Holder, "first/") || locked.ExpiresAt.IsZero() {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"first/", "10.0.0.1:5432", "until "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the message lacks %q: %v", part, err)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	open(t, st, inLog, func(o *Options) { o.AcquireTimeout = 0 }) // released: no waiting
}

func TestLogZombieIsFenced(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	zombie := open(t, st, inLog)
	must(t, zombie, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	// The zombie believes in its lease: its clock stands still, as in a frozen process.
	zombie.commits.(*logMode).opened.Lease = holds(t)
	successor := open(t, st, inLog)
	if _, err := zombie.Query(t.Context(), "INSERT INTO t VALUES (2)"); !errors.Is(err, ErrFenced) {
		t.Fatalf("the zombie's commit: %v", err)
	}
	if _, err := zombie.Query(t.Context(), "SELECT * FROM t"); !errors.Is(err, ErrPoisoned) || !errors.Is(err, ErrFenced) {
		t.Errorf("a poisoned engine answered: %v", err)
	}
	if got := must(t, successor, "SELECT sum(a) FROM t"); got != "1" {
		t.Errorf("the successor sees %s", got)
	}
	must(t, successor, "INSERT INTO t VALUES (3)")
}

// holds is a lease on nothing that never expires.
func holds(t *testing.T) *lease.Lease {
	t.Helper()
	l, err := lease.Acquire(t.Context(), lease.Options{Store: mem.New(mem.Options{}), Holder: "zombie", TTL: 1000 * time.Hour}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLostLeaseFencesReads: a writer whose lease another one has taken answers no read either.
func TestLostLeaseFencesReads(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	old := open(t, st, inLog)
	must(t, old, "CREATE TABLE t (a int)")
	open(t, st, inLog) // waits until the lease has expired
	if _, err := old.Query(t.Context(), "SELECT count(*) FROM t"); !errors.Is(err, ErrFenced) {
		t.Errorf("got %v", err)
	}
}

// TestGroupCommit: commits that arrive while an append is in flight share the next one.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	slow := &slowLog{Store: mem.New(mem.Options{}), gate: make(chan struct{})}
	e := open(t, slow, inLog, func(o *Options) { o.LeaseTTL = time.Hour })
	must(t, e, "CREATE TABLE t (a int)")
	const clients = 32
	var conns []*pgconn.PgConn
	for range clients {
		conns = append(conns, client(t, e))
	}
	slow.hold(true)
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			if _, err := try(context.Background(), c, fmt.Sprintf("INSERT INTO t VALUES (%d)", i)); err != nil {
				t.Error(err)
			}
		})
	}
	// Statements run while the first append is held: all of them are through PostgreSQL before any is acknowledged.
	log := e.commits.(*logMode).log
	waiting := func() int {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.queued()
	}
	for waiting() < clients {
		<-slow.gate // the append that is held, again and again, until all wait
		slow.gate <- struct{}{}
	}
	slow.hold(false)
	<-slow.gate
	wg.Wait()
	if slow.appends > 3 {
		t.Errorf("%d commits took %d appends", clients, slow.appends)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != fmt.Sprint(clients) {
		t.Errorf("%s rows", got)
	}
}

// slowLog holds every append while its flag is set, ticking at its gate.
type slowLog struct {
	store.Store
	gate    chan struct{}
	mu      sync.Mutex
	held    bool
	appends int
}

func (s *slowLog) hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.appends = on, 0
}

func (s *slowLog) holding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

func (s *slowLog) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if strings.HasPrefix(key, wal.Prefix()) {
		if s.holding() {
			for s.gate <- (struct{}{}); s.holding(); s.gate <- (struct{}{}) {
				<-s.gate
			}
		}
		s.mu.Lock()
		s.appends++
		s.mu.Unlock()
	}
	return s.Store.Put(ctx, key, body, id, cond)
}

func TestCompactionAndCollection(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "CREATE TABLE t (a int)")
	for i := range 20 {
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, e, "INSERT INTO t VALUES (100)")
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil || len(m.Layers) != 1 || m.WalStart < 20 {
		t.Fatalf("the manifest: %+v, %v", m, err)
	}
	fences, data := 0, 0
	for a, err := range st.List(t.Context(), wal.Prefix(), "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := st.Get(t.Context(), a.Key)
		if err != nil {
			t.Fatal(err)
		}
		if fence, err := wal.IsFence(o.Body); err != nil {
			t.Error(err)
		} else if fence {
			fences++
		} else {
			data++
		}
	}
	if fences != 1 || data != 1 {
		t.Errorf("%d fences and %d records are left, want the fence and the insert behind the layer", fences, data)
	}
	e.Abandon()
	if got := must(t, open(t, st, inLog), "SELECT count(*) FROM t"); got != "21" {
		t.Errorf("%s rows after the restore", got)
	}
}

// TestBudgetIsKept: enough small commits start a compaction by themselves, while clients keep working.
func TestBudgetIsKept(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.RestoreBudget = 50 * replayRecord })
	must(t, e, "CREATE TABLE t (a int)")
	inserted := 0
	for moved := false; !moved && inserted < 50_000; inserted++ {
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", inserted))
		m, _, err := manifest.Load(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		moved = m.WalStart > 10
	}
	e.Abandon()
	e = open(t, st, inLog)
	if n := e.Opened().Records; n >= inserted {
		t.Errorf("%d records were replayed after %d inserts: no layer was taken", n, inserted)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != fmt.Sprint(inserted) {
		t.Errorf("%s rows, %d were inserted", got, inserted)
	}
}

// TestLogDeathAtEveryPoint lets a life die at each fault point that it passes: acknowledged rows are there afterwards, others are there at
// most once. The lease expires before the first statement of that life, and so is renewed in front of it: a background renewal, whose
// failure affects no one, never happens.
func TestLogDeathAtEveryPoint(t *testing.T) {
	t.Parallel()
	died := errors.New("died")
	ours := func(o *Options) { o.Process = "p" } // so that no opening waits for a dead process's lease
	one := oneRow(inLog, ours)
	// life opens, inserts, takes a layer, and ends; it says how many inserts were acknowledged then.
	life := func(t *testing.T, st store.Store, hook point.Hook) (acknowledged int, err error) {
		t.Helper()
		clk := &shifted{Clock: clock.System()}
		e, err := tryOpen(t, st, inLog, ours, func(o *Options) {
			o.Hook, o.RestoreBudget, o.LeaseTTL, o.Clock = hook, -1, time.Hour, clk
		})
		if err != nil {
			return 1, err
		}
		defer e.Abandon()
		clk.by.Store(int64(2 * time.Hour))
		if _, err = e.Query(t.Context(), "INSERT INTO t VALUES (2)"); err != nil {
			return 1, err
		}
		if _, err = e.Query(t.Context(), "INSERT INTO t SELECT g FROM generate_series(1, 0) g"); err == nil {
			err = e.Compact(t.Context())
		}
		if err == nil {
			err = e.Close(t.Context())
		}
		return 2, err
	}
	for _, p := range passedBy(t, func(hook point.Hook) error {
		_, err := life(t, one.copy(t), hook)
		return err
	}, point.LeaseAfterAcquire, point.FenceAfterPut, point.LeaseBeforeRenew, point.WalBeforePut, point.WalAfterPut, point.CommitBeforeAck,
		point.BaseAfterIndex, point.ManifestAfterCAS, point.GCBeforeDelete, point.GCAfterDelete, point.LeaseBeforeRelease) {
		t.Run(strings.ReplaceAll(string(p), "/", "-"), func(t *testing.T) {
			st := one.copy(t)
			var mu sync.Mutex
			fired := false
			acknowledged, err := life(t, st, func(_ context.Context, at point.Point) error {
				mu.Lock()
				defer mu.Unlock()
				if at == p {
					fired = true
					return died
				}
				return nil
			})
			mu.Lock()
			if fired != errors.Is(err, died) {
				t.Errorf("fired %t, error %v", fired, err)
			}
			mu.Unlock()
			e := open(t, st, inLog, ours)
			got := must(t, e, "SELECT string_agg(a::text, ',' ORDER BY a) FROM t")
			if got != "1,2" && (acknowledged == 2 || got != "1") {
				t.Errorf("after %d acknowledged inserts the table has %s", acknowledged, got)
			}
			must(t, e, "INSERT INTO t VALUES (3)")
		})
	}
}

func TestLogDamage(t *testing.T) {
	t.Parallel()
	tables := &fixture{make: func(t *testing.T, st store.Store) {
		t.Helper()
		e := open(t, st, inLog)
		for i := range 5 {
			must(t, e, fmt.Sprintf("CREATE TABLE t%d (a int)", i))
		}
		e.Abandon()
	}}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, st store.Store)
		is     error
		says   string
	}{
		{"broken CRC", func(t *testing.T, st store.Store) {
			rewrite(t, st, wal.Key(3), func(b []byte) []byte { b[len(b)-10] ^= 1; return b })
		}, wal.ErrCorrupt, "record 3"},
		{"missing number", func(t *testing.T, st store.Store) {
			rewrite(t, st, wal.Key(3), func([]byte) []byte { return nil })
		}, wal.ErrCorrupt, "record 3"},
		{"swapped", func(t *testing.T, st store.Store) {
			o, err := st.Get(t.Context(), wal.Key(3))
			if err != nil {
				t.Fatal(err)
			}
			rewrite(t, st, wal.Key(4), func([]byte) []byte { return o.Body })
		}, wal.ErrCorrupt, "record 4"},
		{"newer version", func(t *testing.T, st store.Store) {
			rewrite(t, st, wal.Key(4), func(b []byte) []byte { b[4] = 9; return b })
		}, ErrVersion, "record 4"},
		{"not a record", func(t *testing.T, st store.Store) {
			rewrite(t, st, wal.Key(4), func([]byte) []byte { return []byte("hello") })
		}, wal.ErrCorrupt, wal.Key(4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := tables.copy(t)
			c.damage(t, st)
			before := objects(t, st)
			_, err := tryOpen(t, st, inLog)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that is %v and names %q", err, c.is, c.says)
			}
			after := objects(t, st)
			delete(before, lease.Key)
			delete(after, lease.Key)
			if fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("the bucket changed:\n%v\n%v", before, after)
			}
			if _, err := takeover.Verify(t.Context(), st); !errors.Is(err, wal.ErrCorrupt) && !errors.Is(err, wal.ErrNewer) {
				t.Errorf("the verification says %v", err)
			}
		})
	}
}

func TestRelaxedDurability(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{Interval, Sleep} {
		t.Run(string(d), func(t *testing.T) {
			counted := store.Count(mem.New(mem.Options{}))
			e := open(t, counted, inLog, func(o *Options) {
				o.Durability, o.FlushInterval, o.IdleFlush, o.LeaseTTL = d, time.Hour, time.Hour, time.Hour
			})
			must(t, e, "CREATE TABLE t (a int)")
			before := counted.Ops()
			for i := range 50 {
				must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
			}
			if n := counted.Ops().ClassA - before.ClassA; n > 0 {
				t.Errorf("50 commits took %d writes", n)
			}
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := must(t, open(t, counted, inLog), "SELECT count(*) FROM t"); got != "50" {
				t.Errorf("%s rows after an orderly close", got)
			}
		})
	}
}

func TestSnapshotModeRefusesALog(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog)
	must(t, e, "CREATE TABLE t (a int)")
	e.Abandon()
	if _, err := tryOpen(t, st); !errors.Is(err, ErrMode) {
		t.Errorf("got %v", err)
	}
}

func TestLogContinuesASnapshot(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st)
	must(t, e, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open(t, st, inLog)
	must(t, e, "INSERT INTO t VALUES (2)")
	e.Abandon()
	if got := must(t, open(t, st, inLog), "SELECT sum(a) FROM t"); got != "3" {
		t.Errorf("sum %s", got)
	}
}
