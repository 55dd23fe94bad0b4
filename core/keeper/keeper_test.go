package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/engine"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/faults/storefault"
)

var rt *pglite.Runtime

func TestMain(m *testing.M) {
	var err error
	if rt, err = pglite.NewRuntime(context.Background(), pglite.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// A memory file without any snapshot left to restore from is closed by a finalizer, which takes its time.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("runtime.runFinalizers"), goleak.Cleanup(func(code int) {
		if err := rt.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

func options(st store.Store) engine.Options {
	return engine.Options{
		Runtime: rt, Store: st, Create: true, LeaseTTL: 50 * time.Millisecond, AcquireTimeout: 10 * time.Second,
	}
}

func newKeeper(t *testing.T, open func(context.Context) (*engine.Engine, error)) *Keeper {
	t.Helper()
	k, err := New(Options{Open: open})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestOneOpening: with any number of callers, it is opened once; and closed for good.
func TestOneOpening(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	k := newKeeper(t, func(ctx context.Context) (*engine.Engine, error) {
		opened.Add(1)
		return engine.Open(ctx, options(mem.New(mem.Options{})))
	})
	if s := k.Stats(); s.State != Asleep {
		t.Error(s.State)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := k.Engine(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 {
		t.Errorf("%d openings", opened.Load())
	}
	if s := k.Stats(); s.State != Open || s.Boot.Epoch != 1 {
		t.Errorf("%+v", s)
	}
	if err := errors.Join(k.Close(t.Context()), k.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Engine(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// TestOpenedAgain: a database that another writer has taken is opened again for the next caller.
func TestOpenedAgain(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	k := newKeeper(t, func(ctx context.Context) (*engine.Engine, error) { return engine.Open(ctx, options(st)) })
	defer k.Close(context.Background())
	e, err := k.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Query(t.Context(), "CREATE TABLE t (a int)"); err != nil {
		t.Fatal(err)
	}
	rival, err := engine.Open(t.Context(), options(st)) // waits until the lease has expired
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rival.Query(t.Context(), "INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Query(t.Context(), "INSERT INTO t VALUES (8)"); !errors.Is(err, engine.ErrFenced) {
		t.Fatal(err)
	}
	<-e.Failed()
	if s := k.Stats(); s.State != Failed || s.Reason == "" {
		t.Errorf("%+v", s)
	}
	if err := rival.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := k.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := again.Query(t.Context(), "SELECT string_agg(a::text, ',') FROM t")
	if err != nil || r[0].Rows[0][0] != "7" {
		t.Fatal(r, err)
	}
	if s := k.Stats(); s.Openings != 2 || s.Retired != 1 || s.Commits.Commits == 0 {
		t.Errorf("%+v", s)
	}
}

// TestTakenOverAtRest: another writer had the database while nobody asked. The next caller gets an engine that serves, not the one that was
// taken over.
func TestTakenOverAtRest(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	k := newKeeper(t, func(ctx context.Context) (*engine.Engine, error) { return engine.Open(ctx, options(st)) })
	defer k.Close(context.Background())
	first, err := k.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rival, err := engine.Open(t.Context(), options(st)) // waits until the lease has expired
	if err != nil {
		t.Fatal(err)
	}
	if err := rival.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, err := k.Engine(t.Context())
	if err != nil || e == first {
		t.Fatalf("the engine that was taken over: %t, %v", e == first, err)
	}
	if _, err := e.Query(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

// TestOwnLeaseIsNotWaitedFor: the store refuses a commit for good, so the engine ends and cannot release its lease; the next opening does
// not wait for it, as another process must.
func TestOwnLeaseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	st, err := storefault.New(mem.New(mem.Options{}), storefault.Options{Rules: []storefault.Rule{
		{Op: storefault.OpPut, KeyClass: "wal", Phase: storefault.Before, Nth: 3, Do: storefault.Deny}, // after the fence and a commit
		{Op: storefault.OpPut, KeyClass: "lease", Phase: storefault.Before, Nth: 2, Do: storefault.Deny},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	o := options(st)
	o.LeaseTTL, o.AcquireTimeout = time.Hour, 0
	other := o
	o.Process = store.NewWriteID()
	k := newKeeper(t, func(ctx context.Context) (*engine.Engine, error) { return engine.Open(ctx, o) })
	defer func() {
		if err := k.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	e, err := k.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Query(t.Context(), "CREATE TABLE t (a int)"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Query(t.Context(), "INSERT INTO t VALUES (1)"); !errors.Is(err, store.ErrDenied) {
		t.Fatalf("the store refuses: %v", err)
	}
	if e, err := engine.Open(t.Context(), other); !errors.Is(err, engine.ErrLocked) {
		t.Errorf("another process: %v, %v", e, err)
	}
	again, err := k.Engine(t.Context())
	if err != nil {
		t.Fatalf("it waits for itself: %v", err)
	}
	if _, err := again.Query(t.Context(), "INSERT INTO t VALUES (2)"); err != nil {
		t.Error(err)
	}
}

// TestAFailureIsTriedAgain, by the next caller only.
func TestAFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fail := true
	k := newKeeper(t, func(ctx context.Context) (*engine.Engine, error) {
		if fail {
			return nil, broken
		}
		return engine.Open(ctx, options(mem.New(mem.Options{})))
	})
	defer k.Close(context.Background())
	if _, err := k.Engine(t.Context()); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if s := k.Stats(); s.State != Failed || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	fail = false
	if _, err := k.Engine(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestCloseEndsAnOpening, and a caller that gives up does not.
func TestCloseEndsAnOpening(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	k := newKeeper(t, func(ctx context.Context) (*engine.Engine, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, err := k.Engine(ctx); gone <- err }()
	<-began
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if s := k.Stats(); s.State != Opening {
		t.Error(s.State)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAFailedEngineGivesItsLeaseBack: when one commit was refused for good and the process ends, the next one does not wait.
func TestAFailedEngineGivesItsLeaseBack(t *testing.T) {
	t.Parallel()
	st, err := storefault.New(mem.New(mem.Options{}), storefault.Options{Rules: []storefault.Rule{
		{Op: storefault.OpPut, KeyClass: "wal", Phase: storefault.Before, Nth: 3, Do: storefault.Deny},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	o := options(st)
	o.LeaseTTL, o.AcquireTimeout = time.Hour, 0
	e, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)"} {
		_, err = e.Query(t.Context(), sql)
	}
	if !errors.Is(err, store.ErrDenied) {
		t.Fatalf("the store refuses: %v", err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	next, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
