package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/keeper"
	"blobpglite/core/manifest"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
	"blobpglite/faults/clockfault"
)

var runtime *pglite.Runtime

func TestMain(m *testing.M) {
	rt, err := pglite.NewRuntime(context.Background(), pglite.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	runtime = rt
	code := m.Run()
	_ = rt.Close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// readOnly is a store that no replica may write to, and that can be out of reach.
type readOnly struct {
	*store.Counted
	t      testing.TB
	down   atomic.Bool
	mu     sync.Mutex
	before func(key string)            // of each Get; nil: nothing
	hook   func(key string, err error) // after each Get; nil: nothing
}

func (s *readOnly) Put(_ context.Context, key string, _ []byte, _ string, _ store.Cond) (store.Gen, error) {
	s.t.Errorf("a replica writes %s", key)
	return 0, store.ErrDenied
}

func (s *readOnly) Delete(_ context.Context, key string) error {
	s.t.Errorf("a replica deletes %s", key)
	return store.ErrDenied
}

func (s *readOnly) Get(ctx context.Context, key string) (store.Object, error) {
	if s.down.Load() {
		return store.Object{}, store.ErrUnavailable
	}
	s.mu.Lock()
	before, hook := s.before, s.hook
	s.mu.Unlock()
	if before != nil {
		before(key)
	}
	o, err := s.Counted.Get(ctx, key)
	if hook != nil {
		hook(key, err)
	}
	return o, err
}

func (s *readOnly) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return s.Counted.List(ctx, prefix, after)
}

// stand is a database with a writer and a replica.
type stand struct {
	t      *testing.T
	all    store.Store
	st     *readOnly // as the replica sees it
	writer *engine.Engine
	r      *Replica
	k      *keeper.Keeper
	last   uint64 // the furthest position that the replica has shown
}

func newStand(t *testing.T, change func(*Options)) *stand {
	t.Helper()
	s := &stand{t: t, all: mem.New(mem.Options{})}
	s.st = &readOnly{Counted: store.Count(s.all), t: t}
	s.open(time.Hour)
	s.write("CREATE TABLE t (a int, b text)")
	o := Options{Engine: engine.Options{Runtime: runtime, Store: s.st}, Poll: 20 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	var err error
	if s.r, err = New(o); err != nil {
		t.Fatal(err)
	}
	if s.k, err = keeper.New(keeper.Options{Open: s.r.Open}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.k.Close(context.Background()), s.r.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open makes another engine the writer.
func (s *stand) open(retain time.Duration) {
	s.t.Helper()
	if s.writer != nil {
		s.writer.Abandon()
	}
	e, err := engine.Open(s.t.Context(), engine.Options{
		Runtime: runtime, Store: s.all, Create: true, Retain: retain, Process: "one", RestoreBudget: -1, LeaseTTL: 500 * time.Millisecond, AcquireTimeout: time.Minute,
		Settings: map[string]string{"autovacuum": "off"}, // only the test writes
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.writer = e
	s.t.Cleanup(e.Abandon)
}

// keep says how long the log is kept.
func (s *stand) keep(d time.Duration) {
	s.t.Helper()
	if _, err := manifest.SetRetain(s.t.Context(), s.all, d, clock.System()); err != nil {
		s.t.Fatal(err)
	}
}

func ask(t testing.TB, e *engine.Engine, sql string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	results, err := e.Query(ctx, sql)
	if err != nil || len(results) == 0 {
		return "", err
	}
	var rows []string
	for _, row := range results[len(results)-1].Rows {
		var cells []string
		for _, v := range row {
			cells = append(cells, fmt.Sprint(v))
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return strings.Join(rows, "\n"), nil
}

func (s *stand) write(sql string) string {
	s.t.Helper()
	out, err := ask(s.t, s.writer, sql)
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// engine is the replica's current one.
func (s *stand) engine() *engine.Engine {
	s.t.Helper()
	e, err := s.k.Engine(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// read queries the replica, and checks that it does not go back.
func (s *stand) read(sql string) string {
	s.t.Helper()
	for range 20 {
		e := s.engine()
		if at := e.Position(); at < s.last && e.Err() == nil {
			s.t.Errorf("the replica was at %x, and is at %x", s.last, at)
		}
		out, err := ask(s.t, e, sql)
		if errors.Is(err, engine.ErrMoved) || errors.Is(err, engine.ErrPoisoned) || errors.Is(err, engine.ErrClosed) {
			continue
		}
		if err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
		s.last = max(s.last, e.Position())
		return out
	}
	s.t.Fatalf("%s: the replica moves all the time", sql)
	return ""
}

const digest = "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM t"

// same waits until the replica is as far as the writer, and compares.
func (s *stand) same(what string) {
	s.t.Helper()
	want, at := s.write(digest), s.writer.Position()
	for range 5 {
		e := s.engine()
		err := e.Await(s.t.Context(), at)
		if errors.Is(err, engine.ErrMoved) || errors.Is(err, engine.ErrClosed) {
			continue
		}
		if err != nil {
			s.t.Fatalf("%s: %v; %+v", what, err, s.r.Status())
		}
		break
	}
	if got := s.read(digest); got != want {
		s.t.Errorf("%s: the replica has %s, the writer %s", what, got, want)
	}
}

// until waits for something that the replica's looks bring about.
func (s *stand) until(what string, f func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for !f() {
		if s.r.clock.Sleep(ctx, 5*time.Millisecond) != nil {
			s.t.Fatalf("%s: %+v", what, s.r.Status())
		}
	}
}

// TestReplicaFollowsItsWriter: through whatever a writer and its successors do.
func TestReplicaFollowsItsWriter(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.same("at the beginning")
	for i := range 3 {
		s.write(fmt.Sprintf("INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, %d) g", 1+i*5000))
		s.same("after an insert")
		if err := s.writer.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.same("after a layer")
		s.open(time.Hour)
		s.same("behind a hand-over")
	}
	for _, sql := range []string{
		"INSERT INTO t SELECT g, sha512(g::text::bytea)::text || sha512((g + 1000000)::text::bytea)::text FROM generate_series(1, 60000) g", "VACUUM FULL t", "CREATE DATABASE other", "DROP DATABASE other", "ALTER SYSTEM SET random_page_cost = 3.5",
	} {
		s.write(sql)
	}
	s.same("at the end")
	if got := s.read("SELECT pg_is_in_recovery(), current_setting('random_page_cost'), now() - pg_last_xact_replay_timestamp() < '1min'"); got != "t|3.5|t" {
		t.Error(got)
	}
	if st := s.r.Status(); st.Moves != 0 || st.Stopped != "" || st.Epoch < 3 || !st.Open {
		t.Errorf("%+v", st)
	}
}

// TestCollectedLog: a writer that keeps nothing collects log that a replica has not read yet. The replica moves, and does not go back.
func TestCollectedLog(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll = time.Minute })
	s.keep(0)
	for i := range 3 {
		s.same("before")
		if _, err := ask(t, s.writer, "SELECT 1"); err != nil {
			t.Fatal(err)
		}
		s.write("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g")
		past := s.r.Status().Seq
		for range 3 {
			s.write("INSERT INTO t VALUES (1, 'y')")
			if err := s.writer.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.all.Get(t.Context(), wal.Key(past+1)); i > 0 && !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("record %d is still there: the test shows nothing: %v", past+1, err)
		}
		s.same("behind a collection")
	}
	if st := s.r.Status(); st.Moves == 0 {
		t.Errorf("it has not moved: the test shows nothing: %+v", st)
	}
}

// TestRestingMakesNoRequest: a replica without queries makes no requests, and the next query sees what is new.
func TestRestingMakesNoRequest(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll, o.Idle = 10*time.Millisecond, 200*time.Millisecond })
	s.same("at the beginning")
	before := s.r.Status().Looks
	s.until("it looks while somebody asks", func() bool { s.read("SELECT 1"); return s.r.Status().Looks > before+5 })
	s.until("it rests", func() bool { return s.r.Status().Resting })
	_ = s.r.clock.Sleep(t.Context(), 50*time.Millisecond) // a look that is under way ends
	ops := s.st.Ops()
	s.write("INSERT INTO t VALUES (1, 'news')")
	s.r.Announce()
	_ = s.r.clock.Sleep(t.Context(), 500*time.Millisecond)
	if got := s.st.Ops(); got != ops {
		t.Errorf("a replica at rest made requests: %+v, before %+v", got, ops)
	}
	if got, want := s.read(digest), s.write(digest); got != want {
		t.Errorf("who comes behind a rest sees %s, the writer has %s", got, want)
	}
}

// TestMaxLag: if the last look is too old, there is a new one first; if that fails, the statement does.
func TestMaxLag(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll, o.MaxLag, o.WaitLimit = time.Minute, time.Nanosecond, 5*time.Second })
	for range 5 {
		s.write("INSERT INTO t VALUES (1, 'x')")
		if got, want := s.read(digest), s.write(digest); got != want {
			t.Errorf("%s, the writer has %s", got, want)
		}
	}
	s.st.down.Store(true)
	if _, err := ask(t, s.engine(), "SELECT 1"); !errors.Is(err, ErrStale) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a bucket: %v", err)
	}
	s.st.down.Store(false)
	s.same("and again")
}

// TestWithoutBucket: without a limit on its lag it serves what it has.
func TestWithoutBucket(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Idle = 50 * time.Millisecond })
	s.same("at the beginning")
	want := s.read(digest)
	s.st.down.Store(true)
	s.write("INSERT INTO t VALUES (1, 'x')")
	s.until("it rests", func() bool { return s.r.Status().Resting })
	if got := s.read(digest); got != want {
		t.Errorf("%s, it had %s", got, want)
	}
	s.until("it tells of trouble", func() bool { s.read("SELECT 1"); return s.r.Status().Trouble != "" })
	s.st.down.Store(false)
	s.same("with the bucket")
}

// TestReadYourWrites: a query that carries a position sees what was written before it.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll, o.WaitLimit = time.Minute, time.Second })
	s.same("at the beginning")
	for i := range 5 {
		s.write(fmt.Sprintf("INSERT INTO t VALUES (%d, 'mine')", 1000+i))
		at := s.write("SHOW blobpglite.position")
		got := s.read("SET blobpglite.wait_for = '" + at + "'; SELECT count(*) FROM t WHERE a = " + fmt.Sprint(1000+i))
		if got != "1" {
			t.Errorf("row %d: %s", i, got)
		}
	}
	_, err := ask(t, s.engine(), "SET blobpglite.wait_for = 'FF/0'")
	if err == nil || !strings.Contains(err.Error(), "55000") || !strings.Contains(err.Error(), "FF/0 was requested") {
		t.Errorf("a position that does not come: %v", err)
	}
}

// TestClockJumps: a replica's wall clock steps by hours, either way: it still follows, reports its true freshness, and shows no older state
// than before.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	clk := clockfault.New(clock.System())
	s := newStand(t, func(o *Options) { o.Engine.Clock, o.MaxLag = clk, 30*time.Second })
	s.same("at the beginning")
	for i, jump := range []time.Duration{6 * time.Hour, -48 * time.Hour, 24 * 365 * time.Hour, -time.Second} {
		clk.Jump(jump)
		s.write(fmt.Sprintf("INSERT INTO t VALUES (%d, 'jump')", i))
		at := s.write("SHOW blobpglite.position")
		if got := s.read("SET blobpglite.wait_for = '" + at + "'; SELECT count(*) FROM t WHERE b = 'jump'"); got != fmt.Sprint(i+1) {
			t.Errorf("behind a step by %v: %s rows", jump, got)
		}
		s.same(fmt.Sprintf("behind a step by %v", jump))
		if st := s.r.Status(); st.Behind < 0 || st.Behind > 30*time.Second || st.Trouble != "" || st.Moves != 0 {
			t.Errorf("behind a step by %v: %+v", jump, st)
		}
	}
	if clk.Fired() != 4 {
		t.Errorf("%d steps", clk.Fired())
	}
}

// TestDamagedLog: a replica stays at the last good record, says so, and continues when there is a newer layer.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"damaged", "missing"} {
		t.Run(how, func(t *testing.T) {
			s := newStand(t, nil)
			s.keep(time.Second) // the manifest is looked at four times in that
			s.same("at the beginning")
			want := s.read(digest)
			s.st.down.Store(true)
			bad := s.r.Status().Seq + 1
			s.write("INSERT INTO t VALUES (1, 'lost')")
			s.write("INSERT INTO t VALUES (2, 'behind it')")
			o, err := s.all.Get(t.Context(), wal.Key(bad))
			if err == nil && how == "damaged" {
				o.Body[len(o.Body)-1] ^= 1
				_, err = s.all.Put(t.Context(), wal.Key(bad), o.Body, "damage", store.Always())
			} else if err == nil {
				err = s.all.Delete(t.Context(), wal.Key(bad))
			}
			if err != nil {
				t.Fatal(err)
			}
			s.st.down.Store(false)
			s.until("it says so", func() bool { s.read("SELECT 1"); return s.r.Status().Stopped != "" })
			if got := s.read(digest); got != want {
				t.Errorf("it shows %s, and had %s", got, want)
			}
			if err := s.writer.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			signal(s.r.current().kick)
			s.same("at a newer layer")
		})
	}
}
