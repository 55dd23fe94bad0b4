package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// slowClock is a clock that runs ten thousand times too slow for measurements, but sleeps as it should.
type slowClock struct{ clock.Clock }

func (c slowClock) Monotonic() time.Duration { return c.Clock.Monotonic() / 10_000 }

// TestReadModes: a writer was taken over, and its clock says that its lease is still good. In read mode lease it answers with data that has
// changed since; in strict it does not.
func TestReadModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []ReadMode{ReadLease, ReadStrict} {
		t.Run(string(mode), func(t *testing.T) {
			st := mem.New(mem.Options{})
			zombie := open(t, st, inLog, func(o *Options) { o.ReadMode, o.Clock = mode, slowClock{clock.System()} })
			must(t, zombie, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
			if got := must(t, zombie, "SELECT a FROM t"); got != "1" {
				t.Errorf("before the takeover: %s", got)
			}
			successor := open(t, st, inLog)
			must(t, successor, "UPDATE t SET a = 2")
			if !zombie.commits.(*logMode).opened.Lease.Valid() {
				t.Fatal("the zombie knows that its lease has run out: the test shows nothing")
			}
			results, err := zombie.Query(t.Context(), "SELECT a FROM t")
			switch mode {
			case ReadLease: // not promised
				if err != nil || results[0].Rows[0][0] != "1" {
					t.Errorf("%v, %v", results, err)
				}
			case ReadStrict:
				if !errors.Is(err, ErrFenced) {
					t.Errorf("an old answer: %v, %v", results, err)
				}
				if _, err := zombie.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrPoisoned) {
					t.Errorf("it goes on: %v", err)
				}
			}
			if got := must(t, successor, "SELECT a FROM t"); got != "2" {
				t.Errorf("the successor reads %s", got)
			}
		})
	}
}

// TestStrictReadsCostOneGet: an answer is proved by one read of the bucket, and an idle engine makes no requests.
func TestStrictReadsCostOneGet(t *testing.T) {
	t.Parallel()
	slow := &slowReads{Store: mem.New(mem.Options{})}
	st := store.Count(slow)
	e := open(t, st, inLog, func(o *Options) { o.ReadMode, o.LeaseTTL = ReadStrict, time.Hour })
	must(t, e, "CREATE TABLE t (a int)")
	before := st.Ops()
	for range 5 {
		must(t, e, "SELECT count(*) FROM t")
	}
	if ops := st.Ops(); ops.ClassB-before.ClassB != 5 || ops.ClassA != before.ClassA {
		t.Errorf("5 reads: %d GETs, %d others", ops.ClassB-before.ClassB, ops.ClassA-before.ClassA)
	}
	// A long answer leaves in pieces, each proved: whatever arrived while the previous piece was proved is one piece.
	slow.set.Store(true)
	before = st.Ops()
	if got := must(t, e, "SELECT repeat('x', 1000), max(g) OVER () FROM generate_series(1, 30000) g"); got != "30000" {
		t.Errorf("got %s", got)
	}
	if n := st.Ops().ClassB - before.ClassB; n < 3 || n > 100 {
		t.Errorf("an answer of 30 MB: %d GETs", n)
	}
}

// slowReads is a store whose reads of the log are slow while it is set.
type slowReads struct {
	store.Store
	set atomic.Bool
}

func (s *slowReads) Get(ctx context.Context, key string) (store.Object, error) {
	if s.set.Load() {
		if err := clock.System().Sleep(ctx, 20*time.Millisecond); err != nil {
			return store.Object{}, err
		}
	}
	return s.Store.Get(ctx, key)
}

// unreadable is a store that does not answer reads of the log while it is set.
type unreadable struct {
	store.Store
	set atomic.Bool
}

func (u *unreadable) Get(ctx context.Context, key string) (store.Object, error) {
	if u.set.Load() && strings.HasPrefix(key, wal.Prefix()) {
		return store.Object{}, &store.OpError{Op: "get", Key: key, Err: store.ErrUnavailable}
	}
	return u.Store.Get(ctx, key)
}

// TestAnUnprovedReadCostsOnlyTheAnswer: the bucket is unreachable for a while.
func TestAnUnprovedReadCostsOnlyTheAnswer(t *testing.T) {
	t.Parallel()
	st := &unreadable{Store: mem.New(mem.Options{})}
	e := open(t, st, inLog, func(o *Options) { o.ReadMode, o.LeaseTTL = ReadStrict, time.Hour })
	must(t, e, "CREATE TABLE t (a int)")
	st.set.Store(true)
	if _, err := e.Query(t.Context(), "SELECT count(*) FROM t"); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrPoisoned) {
		t.Errorf("got %v", err)
	}
	if _, err := e.Query(t.Context(), "INSERT INTO t VALUES (1)"); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrPoisoned) {
		t.Errorf("a commit that is durable: %v", err)
	}
	st.set.Store(false)
	if got := must(t, e, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("and then: %s", got)
	}
}

// TestStrictReadsBesideCommits: readers check while appends are in flight, and never see a fence that is not there.
func TestStrictReadsBesideCommits(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.ReadMode, o.LeaseTTL = ReadStrict, time.Hour })
	must(t, e, "CREATE TABLE t (a int)")
	errs := make(chan error)
	const clients, each = 6, 40
	for c := range clients {
		go func() {
			for i := range each {
				sql := "SELECT count(*) FROM t"
				if c%2 == 0 {
					sql = fmt.Sprintf("INSERT INTO t VALUES (%d)", i)
				}
				if _, err := e.Query(context.Background(), sql); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != fmt.Sprint(clients/2*each) {
		t.Errorf("%s rows", got)
	}
}

func TestUnknownReadModeIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := tryOpen(t, mem.New(mem.Options{}), func(o *Options) { o.ReadMode = "eventual" }); err == nil || !strings.Contains(err.Error(), "eventual") {
		t.Errorf("got %v", err)
	}
}
