package engine

import (
	"context"
	"errors"
	runtimelib "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// silent is a store whose puts are not answered while it is on, for as long as their caller waits.
type silent struct {
	store.Store
	on    atomic.Bool
	asked chan struct{} // something for each put
	over  chan struct{} // closed: no put waits any more
}

func (s *silent) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if !s.on.Load() {
		return s.Store.Put(ctx, key, body, id, cond)
	}
	s.asked <- struct{}{}
	select {
	case <-ctx.Done():
	case <-s.over:
	}
	return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
}

// TestCloseEndsWithItsContext: even where the bucket never answers, and where another call is already closing.
func TestCloseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeLog, ModeSnapshot} {
		st := &silent{Store: mem.New(mem.Options{}), asked: make(chan struct{}, 1<<10), over: make(chan struct{})}
		e := open(t, st, func(o *Options) { o.Mode, o.Durability, o.IdleFlush, o.LeaseTTL = mode, Sleep, time.Hour, time.Hour })
		must(t, e, "CREATE TABLE t (a int)")
		st.on.Store(true)
		ran := make(chan struct{})
		if mode == ModeSnapshot { // the commit is under way
			go func() {
				defer close(ran)
				_, _ = e.Query(context.Background(), "INSERT INTO t VALUES (1)")
			}()
			<-st.asked
		} else {
			must(t, e, "INSERT INTO t VALUES (1)")
			close(ran)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := make(chan error, 1)
		go func() { first <- e.Close(ctx) }()
		if mode == ModeLog {
			<-st.asked // the first call is at it
			gone, leave := context.WithCancel(t.Context())
			leave()
			if err := e.Close(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("a second call: %v", err)
			}
		}
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", mode, err)
		}
		close(st.over)
		<-ran
	}
}

// TestAbandonCutsACloseShort: a Close whose context never ends waits for a bucket that never answers; Abandon, which has no context, ends both.
func TestAbandonCutsACloseShort(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{ModeLog, ModeSnapshot} {
		st := &silent{Store: mem.New(mem.Options{}), asked: make(chan struct{}, 1<<10), over: make(chan struct{})}
		e := open(t, st, func(o *Options) { o.Mode, o.Durability, o.IdleFlush, o.LeaseTTL = mode, Sleep, time.Hour, time.Hour })
		must(t, e, "CREATE TABLE t (a int)")
		if mode == ModeLog {
			must(t, e, "INSERT INTO t VALUES (1)")
		}
		st.on.Store(true)
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			if mode == ModeSnapshot { // the commit is under way
				_, _ = e.Query(context.Background(), "INSERT INTO t VALUES (1)")
			}
		}()
		closed := make(chan error, 1)
		closes := func() { go func() { closed <- e.Close(context.Background()) }() }
		if mode == ModeLog {
			closes()
			<-st.asked // the put has started
		} else {
			<-st.asked
			closes()
			for len(e.closing) == 0 {
				runtimelib.Gosched()
			}
		}
		e.Abandon()
		if err := <-closed; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "has been abandoned") {
			t.Errorf("%s: %v", mode, err)
		}
		close(st.over)
		<-ran
	}
}

// TestAbandonWaitsForNoRenewal: a lease renewal on a client's behalf, which the bucket does not answer, does not keep the engine from
// ending.
func TestAbandonWaitsForNoRenewal(t *testing.T) {
	t.Parallel()
	st := &silent{Store: mem.New(mem.Options{}), asked: make(chan struct{}, 1<<10), over: make(chan struct{})}
	e := open(t, st, inLog, func(o *Options) { o.LeaseTTL = time.Hour })
	st.on.Store(true)
	renewed := make(chan error, 1)
	go func() { renewed <- e.commits.(*logMode).opened.Lease.Renew(context.Background()) }()
	<-st.asked
	e.Abandon()
	close(st.over)
	if err := <-renewed; !errors.Is(err, store.ErrUnknown) {
		t.Errorf("the renewal: %v", err)
	}
}

// TestCloseWithAnExpiredContext: it lets go of everything all the same, each time.
func TestCloseWithAnExpiredContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for n := range 16 {
		e := open(t, mem.New(mem.Options{}), inLog)
		_ = e.Close(ctx)
		if _, err := e.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrClosed) {
			t.Fatalf("the %dth works on: %v", n+1, err)
		}
	}
}

// TestAnEndedEngineKeepsNoFiles: whoever keeps a closed database must not keep its files in memory.
func TestAnEndedEngineKeepsNoFiles(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Engine) error{
		"close":   func(e *Engine) error { return e.Close(t.Context()) },
		"abandon": func(e *Engine) error { e.Abandon(); return nil },
	} {
		e := open(t, mem.New(mem.Options{}))
		data := e.server.latest().Data()
		if data.UsedBytes() == 0 {
			t.Fatal("there are no files")
		}
		if err := end(e); err != nil {
			t.Fatal(err)
		}
		if n := data.UsedBytes(); n != 0 {
			t.Errorf("%s: %d bytes of files are kept", name, n)
		}
		called := false
		if err := e.server.locked(func(*pglite.Cluster) { called = true }); !errors.Is(err, ErrCrashed) || called {
			t.Errorf("%s: discarded files can be used: %v", name, err)
		}
	}
}

// TestCloseWaitsForAnAbandon: a Close that comes when an Abandon has just begun does not say that everything has ended.
func TestCloseWaitsForAnAbandon(t *testing.T) {
	t.Parallel()
	e := open(t, mem.New(mem.Options{}), inLog)
	e.closed.Store(true) // what Abandon does first
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("PostgreSQL still runs, and Close returns %v", err)
	}
	e.closed.Store(false)
	e.Abandon()
	if err := e.Close(ctx); err != nil {
		t.Errorf("after the end: %v", err)
	}
}
