package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// skipping is a virtual clock that moves as soon as a goroutine sleeps.
type skipping struct{ *clock.Virtual }

func newClock() skipping {
	return skipping{clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func (s skipping) Sleep(ctx context.Context, d time.Duration) error {
	s.Advance(d)
	return ctx.Err()
}

const ttl = 10 * time.Second

func options(st store.Store, clk clock.Clock, holder string) Options {
	return Options{Store: st, Holder: holder, Address: holder + ".example:5432", TTL: ttl, Clock: clk}
}

func acquire(t *testing.T, o Options, wait time.Duration) *Lease {
	t.Helper()
	l, err := Acquire(t.Context(), o, wait)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLockedSaysByWhomAndUntilWhen(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	acquire(t, options(st, clk, "first"), 0)
	_, err := Acquire(t.Context(), options(st, clk, "second"), 0)
	var locked *LockedError
	if !errors.As(err, &locked) || !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
	if locked.Holder != "first" || !locked.ExpiresAt.Equal(clk.Now().Add(ttl)) {
		t.Errorf("locked by %+v", locked)
	}
	for _, part := range []string{"first", "first.example:5432", "2026-01-01T00:00:10Z"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the message lacks %q: %v", part, err)
		}
	}
}

func TestWaitsUntilItRunsOut(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	first := acquire(t, options(st, clk, "first"), 0)
	began := clk.Monotonic()
	second := acquire(t, options(st, clk, "second"), time.Minute)
	if waited := clk.Monotonic() - began; waited < ttl || waited > ttl+time.Second {
		t.Errorf("waited %v for a lease of %v", waited, ttl)
	}
	if first.Waited() || !second.Waited() {
		t.Errorf("the first waited: %v, the second: %v; want false, true", first.Waited(), second.Waited())
	}
	if first.Valid() || !second.Valid() {
		t.Error("the old holder believes in its lease, or the new one does not")
	}
	if err := first.Ensure(t.Context()); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "second") {
		t.Errorf("the old holder's request: %v", err)
	}
	counted := store.Count(st)
	first.o.Store = counted
	if err := first.Ensure(t.Context()); !errors.Is(err, ErrLost) || counted.Ops() != (store.Ops{}) {
		t.Errorf("a lost lease asked again: %v, %+v", err, counted.Ops())
	}
}

// TestSaysWhomItWaitsFor: once for each holder, however often it looks and the holder renews; and never without a wait.
func TestSaysWhomItWaitsFor(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	first := acquire(t, options(st, clk, "first"), 0)
	var heard []string
	looks := 0
	o := options(st, clk, "third")
	o.Clock = sleeping{clk, func() { // between two checks
		switch looks++; looks {
		case 1, 2:
			if err := first.Renew(t.Context()); err != nil {
				t.Error(err)
			}
		case 3:
			if err := first.Release(t.Context()); err != nil {
				t.Error(err)
			}
			acquire(t, options(st, clk, "second"), 0)
		}
	}}
	o.Waits = func(held *LockedError, atMost time.Duration) {
		heard = append(heard, fmt.Sprintf("%s at %s, for %v of at most %v", held.Holder, held.Address, held.ExpiresAt.Sub(clk.Now()), atMost))
	}
	if _, err := Acquire(t.Context(), o, 0); !errors.Is(err, ErrLocked) || len(heard) > 0 {
		t.Errorf("who does not wait: %v, heard %q", err, heard)
	}
	acquire(t, o, time.Minute)
	if want := []string{
		"first at first.example:5432, for 10s of at most 1m0s",
		"second at second.example:5432, for 10s of at most 59.25s",
	}; !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}

// sleeping is a clock that moves as soon as a goroutine sleeps, and then does something.
type sleeping struct {
	skipping
	then func()
}

func (s sleeping) Sleep(ctx context.Context, d time.Duration) error {
	defer s.then()
	return s.skipping.Sleep(ctx, d)
}

func TestReleaseIsASwapAndFreesAtOnce(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), newClock()
	first := acquire(t, options(st, clk, "first"), 0)
	if err := first.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	o, err := st.Get(t.Context(), Key)
	if err != nil {
		t.Fatalf("a release deleted the lease: %v", err)
	}
	acquire(t, options(st, clk, "second"), 0)
	now, err := st.Get(t.Context(), Key)
	if err != nil || now.Gen <= o.Gen {
		t.Errorf("the history started again: generation %d after %d, %v", now.Gen, o.Gen, err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Errorf("a second release: %v", err)
	}
	if err := first.Ensure(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("a request after the release: %v", err)
	}
}

func TestValidLeaseAsksForNothing(t *testing.T) {
	t.Parallel()
	clk := newClock()
	counted := store.Count(mem.New(mem.Options{}))
	l := acquire(t, options(counted, clk, "first"), 0)
	before := counted.Ops()
	for range 8 {
		clk.Advance(time.Second)
		if err := l.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if counted.Ops() != before {
		t.Errorf("a valid lease asked: %+v", counted.Ops())
	}
	clk.Advance(ttl)
	if err := l.Ensure(t.Context()); err != nil || !l.Valid() {
		t.Errorf("a lease that ran out was not renewed: %v", err)
	}
}

func TestOneOfManyTakesOver(t *testing.T) {
	t.Parallel()
	for round := range 50 {
		st, clk := mem.New(mem.Options{}), newClock()
		acquire(t, options(st, clk, "dead"), 0)
		clk.Advance(2 * ttl)
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 20 {
			wg.Go(func() {
				_, err := Acquire(context.Background(), options(st, clk, fmt.Sprintf("rival-%d", i)), 0)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, ErrLocked) {
					t.Errorf("a loser was told: %v", err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("round %d: %d winners", round, won)
		}
	}
}

// losing drops the reply of every other put, after it was applied.
type losing struct {
	store.Store
	n int
}

func (l *losing) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	gen, err := l.Store.Put(ctx, key, body, id, cond)
	if l.n++; l.n%2 == 1 && err == nil {
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return gen, err
}

func TestLostRepliesAreOurs(t *testing.T) {
	t.Parallel()
	st, clk := &losing{Store: mem.New(mem.Options{})}, newClock()
	l := acquire(t, options(st, clk, "first"), 0)
	for range 3 {
		clk.Advance(2 * ttl)
		if err := l.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestNeverRenewedAndTakenOver lets a holder renew with delays of up to twice the lease's time around its end, while a rival tries to take
// over: for one generation, only one of the two can succeed.
func TestNeverRenewedAndTakenOver(t *testing.T) {
	t.Parallel()
	const seed = 7
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	renewed, taken := 0, 0
	for range 500 {
		st, clk := mem.New(mem.Options{}), newClock()
		holder := acquire(t, options(st, clk, "holder"), 0)
		clk.Advance(time.Duration(random.Int64N(int64(2 * ttl))))
		var renewErr, takeErr error
		if random.IntN(2) == 0 {
			renewErr = holder.Renew(t.Context())
			_, takeErr = Acquire(t.Context(), options(st, clk, "rival"), 0)
		} else {
			_, takeErr = Acquire(t.Context(), options(st, clk, "rival"), 0)
			renewErr = holder.Renew(t.Context())
		}
		if (renewErr == nil) == (takeErr == nil) {
			t.Fatalf("renewed: %v, taken over: %v", renewErr, takeErr)
		}
		if renewErr == nil {
			renewed++
		} else {
			taken++
		}
	}
	if renewed == 0 || taken == 0 {
		t.Errorf("%d renewed, %d taken over: one of them was never tried", renewed, taken)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		is   error
	}{
		"not JSON":      {"hello", ErrCorrupt},
		"newer":         {`{"format":9,"surprise":1}`, ErrNewer},
		"unknown field": {`{"format":1,"write_id":"w","surprise":1}`, ErrCorrupt},
		"no write id":   {`{"format":1}`, ErrCorrupt},
		"two of them":   {`{"format":1,"write_id":"w"}{}`, ErrCorrupt},
	} {
		if _, err := Decode([]byte(c.body)); !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"holder":"h","address":"","acquired":"2026-01-01T00:00:00Z","expires":"2026-01-01T00:00:00Z","write_id":"w"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := Decode(body)
		if err == nil && (s.Format != Format || s.WriteID == "") {
			t.Errorf("accepted %q as %+v", body, s)
		}
	})
}

// TestOwnEarlierLease: a process does not wait for the lease of an earlier opening of its own, and waits for any other, however similar the
// names.
func TestOwnEarlierLease(t *testing.T) {
	t.Parallel()
	const process = "host/01ABC"
	for holder, own := range map[string]bool{
		process + "/1": true, "host/01ABCD/1": false, "host/01ABD/1": false, "host": false, process: false, "host/1": false,
	} {
		st, clk := mem.New(mem.Options{}), newClock()
		first := acquire(t, options(st, clk, holder), 0)
		o := options(st, clk, process+"/2")
		if _, err := Acquire(t.Context(), o, 0); !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: without a process: %v", holder, err)
		}
		o.Process = process
		switch l, err := Acquire(t.Context(), o, 0); {
		case own && (err != nil || !l.Valid()):
			t.Errorf("%s is the process itself: %v", holder, err)
		case !own && !errors.Is(err, ErrLocked):
			t.Errorf("%s is another one: %v", holder, err)
		}
		if err := first.Renew(t.Context()); own != errors.Is(err, ErrLost) {
			t.Errorf("%s renews: %v", holder, err)
		}
	}
}

// asked is a clock that reports when it has been read a number of times.
type asked struct {
	skipping
	left    atomic.Int64
	reached chan struct{}
}

func (a *asked) Monotonic() time.Duration {
	if a.left.Add(-1) == 0 {
		close(a.reached)
	}
	return a.skipping.Monotonic()
}

// waiting is a store whose puts wait.
type waiting struct {
	store.Store
	until <-chan struct{}
	puts  atomic.Int64
}

func (w *waiting) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	w.puts.Add(1)
	<-w.until
	return w.Store.Put(ctx, key, body, id, cond)
}

// TestOneRenewalForAllWhoWait: requests that concurrently find the lease run out make one request to the bucket, which takes one write per
// second and name.
func TestOneRenewalForAllWhoWait(t *testing.T) {
	t.Parallel()
	st, clk := &waiting{Store: mem.New(mem.Options{})}, &asked{skipping: newClock(), reached: make(chan struct{})}
	open := make(chan struct{})
	close(open)
	st.until = open
	l := acquire(t, options(st, clk, "first"), 0)
	clk.Advance(2 * ttl)
	const requests = 20
	st.until = clk.reached
	st.puts.Store(0)
	clk.left.Store(requests + 1) // every request has found the lease run out, and one has begun to renew it
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			if err := l.Ensure(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := st.puts.Load(); n != 1 {
		t.Errorf("%d requests renewed it %d times", requests, n)
	}
}

// TestAShortLeaseIsRenewedAsOftenAsABucketTakesIt: a bucket takes about one write per second and name. If half of a lease's time is less
// than that, it is renewed later, but not so late that it could run out in the meantime.
func TestAShortLeaseIsRenewedAsOftenAsABucketTakesIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ ttl, due time.Duration }{
		{30 * time.Second, 12 * time.Second}, {4 * time.Second, 1600 * time.Millisecond},
		{2 * time.Second, perName}, {time.Second, 650 * time.Millisecond}, {100 * time.Millisecond, 65 * time.Millisecond},
	} {
		st, clk := mem.New(mem.Options{}), newClock()
		o := options(st, clk, "holder")
		o.TTL = c.ttl
		l := acquire(t, o, 0)
		for range 2 {
			clk.Advance(c.due - time.Millisecond)
			if !l.Fresh() {
				t.Errorf("a lease of %v is to be renewed before %v", c.ttl, c.due)
			}
			clk.Advance(time.Millisecond)
			if l.Fresh() || !l.Valid() {
				t.Errorf("a lease of %v after %v: fresh %t, valid %t", c.ttl, c.due, l.Fresh(), l.Valid())
			}
			if err := l.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
