package storefault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/store/storetest"
	"blobpglite/faults/model"
	"blobpglite/faults/storefault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const seed = 20261125

func open(t testing.TB, o storefault.Options) (*storefault.Store, *mem.Store) {
	t.Helper()
	below := mem.New(mem.Options{})
	st, err := storefault.New(below, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st, below
}

func put(ctx context.Context, st store.Store, key, id string) error {
	_, err := st.Put(ctx, key, []byte(id), id, store.IfAbsent())
	return err
}

// keys lists the store's keys.
func keys(t *testing.T, st store.Store) []string {
	t.Helper()
	var all []string
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a.Key)
	}
	return all
}

// onlyFour hides everything but the four verbs.
type onlyFour struct{ store.Store }

func TestConformance(t *testing.T) {
	for name, below := range map[string]func() store.Store{
		"over mem":                     func() store.Store { return mem.New(mem.Options{}) },
		"over a store without ranges":  func() store.Store { return onlyFour{mem.New(mem.Options{})} },
		"over another one of its kind": func() store.Store { st, _ := open(t, storefault.Options{}); return st },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				st, err := storefault.New(below(), storefault.Options{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(st.Close)
				return st
			})
		})
	}
}

func TestNewRefuses(t *testing.T) {
	good := storefault.Rule{Phase: storefault.Before, Do: storefault.Drop, Every: 1}
	with := func(change func(*storefault.Rule)) storefault.Options {
		r := good
		change(&r)
		return storefault.Options{Rules: []storefault.Rule{r}}
	}
	for name, o := range map[string]storefault.Options{
		"the zero rule":        {Rules: []storefault.Rule{{}}},
		"no phase":             with(func(r *storefault.Rule) { r.Phase = "" }),
		"no frequency":         with(func(r *storefault.Rule) { r.Every = 0 }),
		"an unknown operation": with(func(r *storefault.Rule) { r.Op = "patch" }),
		"an unknown action":    with(func(r *storefault.Rule) { r.Do = "explode" }),
		"a drop after":         with(func(r *storefault.Rule) { r.Phase = storefault.After }),
		"a loss before":        with(func(r *storefault.Rule) { r.Do = storefault.Lose }),
		"a held read":          with(func(r *storefault.Rule) { r.Do, r.Delay, r.Op = storefault.Hold, 1, storefault.OpGet }),
		"a hold of nothing":    with(func(r *storefault.Rule) { r.Do = storefault.Hold }),
		"a drop with a delay":  with(func(r *storefault.Rule) { r.Delay = 1 }),
		"a rate of zero":       {Rate: &model.Rate{Burst: 1}},
		"a negative scale":     {Latency: &model.Latency{Scale: -1}},
	} {
		if _, err := storefault.New(mem.New(mem.Options{}), o); err == nil {
			t.Errorf("New accepts %s", name)
		}
	}
}

// Each action on each kind of operation: the caller's result, and whether the operation was done.
func TestActions(t *testing.T) {
	const before, after = storefault.Before, storefault.After
	for _, tt := range []struct {
		phase          storefault.Phase
		do             storefault.Action
		applied        bool
		onRead, onPut  error
		onlyForWriting bool
	}{
		{before, storefault.Throttle, false, store.ErrThrottled, store.ErrThrottled, false},
		{before, storefault.Deny, false, store.ErrDenied, store.ErrDenied, false},
		{before, storefault.Unavailable, false, store.ErrUnavailable, store.ErrUnknown, false},
		{after, storefault.Unavailable, true, store.ErrUnavailable, store.ErrUnknown, false},
		{before, storefault.Drop, false, store.ErrUnavailable, store.ErrUnknown, false},
		{after, storefault.Lose, true, store.ErrUnavailable, store.ErrUnknown, false},
		{before, storefault.Hold, false, nil, store.ErrUnknown, true},
		{before, storefault.Delay, true, nil, nil, false},
		{after, storefault.Delay, true, nil, nil, false},
	} {
		rule := storefault.Rule{KeyClass: "wal", Phase: tt.phase, Do: tt.do, Every: 1}
		t.Run(rule.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if tt.do == storefault.Hold || tt.do == storefault.Delay {
					rule.Delay = time.Hour
				}
				st, below := open(t, storefault.Options{Rules: []storefault.Rule{rule}})
				start := time.Now()
				checkActions(t, st, below, tt.onRead, tt.onPut, tt.applied)
				if waited := time.Since(start); (tt.do == storefault.Delay) != (waited >= time.Hour) {
					t.Errorf("waited %v", waited)
				}
				fired := st.Fired()[0]
				want := int64(5)
				if tt.onlyForWriting {
					want = 2
				}
				if fired.Fired != want || fired.Matched != want {
					t.Errorf("struck %d of %d requests, want %d: those of the other key are not its own", fired.Fired, fired.Matched, want)
				}
				st.Close()
			})
		})
	}
}

func checkActions(t *testing.T, st *storefault.Store, below store.Store, onRead, onPut error, applied bool) {
	t.Helper()
	check := func(what string, err, want error) {
		t.Helper()
		var op *store.OpError
		if !errors.Is(err, want) || (err == nil) != (want == nil) || (err != nil && (!errors.As(err, &op) || !errors.Is(err, storefault.ErrInjected))) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	if err := put(t.Context(), st, "db/other", "1"); err != nil {
		t.Errorf("a key of another class: %v", err)
	}
	check("put", put(t.Context(), st, "db/wal/2", "2"), onPut)
	if got := slices.Contains(keys(t, below), "db/wal/2"); got != applied {
		t.Errorf("the put was applied: %v, want %v", got, applied)
	}
	if err := put(t.Context(), below, "db/wal/1", "1"); err != nil {
		t.Fatal(err)
	}
	_, err := st.Get(t.Context(), "db/wal/1")
	check("get", err, onRead)
	_, err = st.GetRange(t.Context(), "db/wal/1", 0, 1)
	check("range", err, onRead)
	for _, err := range st.List(t.Context(), "db/wal/", "") {
		check("list", err, onRead)
	}
	check("delete", st.Delete(t.Context(), "db/wal/1"), onPut)
	if got := !slices.Contains(keys(t, below), "db/wal/1"); got != applied {
		t.Errorf("the delete was applied: %v, want %v", got, applied)
	}
}

// A held write arrives long after its sender gave up, with the bytes as they were sent, and meets the state at its arrival.
func TestHeldWritesArriveLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, below := open(t, storefault.Options{Rules: []storefault.Rule{
			{Op: storefault.OpPut, KeyClass: "wal", Phase: storefault.Before, Nth: 1, Do: storefault.Hold, Delay: time.Minute},
			{Op: storefault.OpPut, KeyClass: "wal", Phase: storefault.Before, Nth: 1, Do: storefault.Hold, Delay: time.Minute},
			{Op: storefault.OpDelete, Phase: storefault.Before, Nth: 1, Do: storefault.Hold, Delay: 2 * time.Minute},
		}})
		body := []byte("then")
		if _, err := st.Put(t.Context(), "wal/1", body, "a", store.IfAbsent()); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		copy(body, "now!")
		if err := put(t.Context(), st, "wal/2", "b"); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		if err := put(t.Context(), st, "wal/2", "rival"); err != nil {
			t.Fatal(err)
		}
		if err := st.Delete(t.Context(), "wal/1"); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		if got := keys(t, below); !slices.Equal(got, []string{"wal/2"}) {
			t.Fatalf("before their time: %v", got)
		}
		<-time.After(time.Minute) // synctest's time
		synctest.Wait()
		first, err := below.Get(t.Context(), "wal/1")
		if err != nil || string(first.Body) != "then" {
			t.Errorf("the held write stored %q, %v", first.Body, err)
		}
		if second, err := below.Get(t.Context(), "wal/2"); err != nil || string(second.Body) != "rival" {
			t.Errorf("the held write overwrote its rival: %q, %v", second.Body, err)
		}
		<-time.After(time.Minute) // synctest's time
		synctest.Wait()
		if got := keys(t, below); !slices.Equal(got, []string{"wal/2"}) {
			t.Errorf("after the held delete: %v", got)
		}
		st.Close()
	})
}

func TestCloseDropsWhatIsHeld(t *testing.T) {
	clk := clock.NewVirtual(time.Unix(0, 0))
	st, below := open(t, storefault.Options{Clock: clk, Rules: []storefault.Rule{
		{Phase: storefault.Before, Every: 1, Do: storefault.Hold, Delay: time.Minute},
	}})
	if err := put(t.Context(), st, "a", "1"); !errors.Is(err, store.ErrUnknown) {
		t.Fatal(err)
	}
	st.Close()
	clk.Advance(time.Hour)
	if got := keys(t, below); len(got) != 0 {
		t.Errorf("applied after Close: %v", got)
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, _ := open(t, storefault.Options{Rate: &model.Rate{PerSecond: 1, Burst: 2}})
		for i, want := range []error{nil, store.ErrConflict, store.ErrThrottled} { // a refused write costs a token too
			if err := put(t.Context(), st, "a", fmt.Sprint(i)); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("write %d: %v, want %v", i, err, want)
			}
		}
		if err := st.Delete(t.Context(), "a"); !errors.Is(err, store.ErrThrottled) {
			t.Errorf("a delete: %v", err)
		}
		if err := put(t.Context(), st, "b", "1"); err != nil {
			t.Errorf("another name: %v", err)
		}
		if _, err := st.Get(t.Context(), "a"); err != nil {
			t.Errorf("a read: %v", err)
		}
		<-time.After(time.Second) // synctest's time
		if err := st.Delete(t.Context(), "a"); err != nil {
			t.Errorf("a second later: %v", err)
		}
		if st.Throttled() != 2 {
			t.Errorf("%d throttled, want 2", st.Throttled())
		}
	})
}

// Latency depends on the size of the data, in either direction, and on the seed.
func TestLatency(t *testing.T) {
	fixed := func(bytes int64, d time.Duration) []model.LatencyPoint {
		return []model.LatencyPoint{{Bytes: 0, Median: d}, {Bytes: bytes, Median: 2 * d}}
	}
	synctest.Test(t, func(t *testing.T) {
		st, _ := open(t, storefault.Options{Latency: &model.Latency{
			Put: fixed(100, time.Second), Get: fixed(100, time.Minute), List: fixed(100, time.Hour), Delete: fixed(100, 24*time.Hour),
		}})
		took := func(do func()) time.Duration {
			start := time.Now()
			do()
			return time.Since(start)
		}
		for what, tt := range map[string]struct{ got, want time.Duration }{
			"put":    {took(func() { _, _ = st.Put(t.Context(), "a", make([]byte, 100), "", store.Always()) }), 2 * time.Second},
			"get":    {took(func() { _, _ = st.Get(t.Context(), "a") }), 2 * time.Minute},
			"range":  {took(func() { _, _ = st.GetRange(t.Context(), "a", 0, 50) }), 90 * time.Second},
			"list":   {took(func() { keys(t, st) }), time.Hour},
			"delete": {took(func() { _ = st.Delete(t.Context(), "a") }), 24 * time.Hour},
		} {
			if tt.got != tt.want {
				t.Errorf("%s took %v, want %v", what, tt.got, tt.want)
			}
		}
	})
}

// A page of a list is a request of its own.
func TestPagesAreRequests(t *testing.T) {
	st, below := open(t, storefault.Options{Rules: []storefault.Rule{
		{Op: storefault.OpList, Phase: storefault.After, Nth: 2, Do: storefault.Lose},
	}})
	for i := range store.PageSize + 1 {
		if err := put(t.Context(), below, fmt.Sprintf("%05d", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	var failed error
	for _, err := range st.List(t.Context(), "", "") {
		if failed = err; err == nil {
			seen++
		}
	}
	if seen != store.PageSize || !errors.Is(failed, store.ErrUnavailable) {
		t.Errorf("%d objects, then %v", seen, failed)
	}
}

// A caller that stops waiting cannot know what became of its write.
func TestCancelled(t *testing.T) {
	for _, tt := range []struct {
		phase   storefault.Phase
		applied bool
	}{{storefault.Before, false}, {storefault.After, true}} {
		synctest.Test(t, func(t *testing.T) {
			st, below := open(t, storefault.Options{Rules: []storefault.Rule{
				{Op: storefault.OpPut, Phase: tt.phase, Every: 1, Do: storefault.Delay, Delay: time.Hour},
			}})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := put(ctx, st, "a", "1")
			if !errors.Is(err, store.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want both unknown and the context's error", tt.phase, err)
			}
			if got := len(keys(t, below)) == 1; got != tt.applied {
				t.Errorf("%s: applied %v", tt.phase, got)
			}
			if err := put(ctx, st, "b", "1"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnknown) {
				t.Errorf("under a context that is done nothing is sent: %v", err)
			}
			st.Close()
		})
	}
}

func TestRulesFollowTheSeed(t *testing.T) {
	const requests = 500
	strikes := func(seed uint64) string {
		st, _ := open(t, storefault.Options{Seed: seed, Rules: []storefault.Rule{
			{Op: storefault.OpPut, Phase: storefault.Before, Do: storefault.Drop, Probability: 0.1},
		}})
		var s []byte
		for i := range requests {
			s = append(s, map[bool]byte{true: '.', false: 'x'}[put(t.Context(), st, fmt.Sprint(i), "1") == nil])
		}
		return string(s)
	}
	t.Logf("seed %d", seed)
	first := strikes(seed)
	if first != strikes(seed) {
		t.Error("one seed gave two schedules")
	}
	if first == strikes(seed+1) {
		t.Error("two seeds gave one schedule")
	}
}

// appenders is the number of concurrent clients in the benchmark, each appending one record of 1 KB at a time.
const appenders = 64

// BenchmarkAppenders is in real time: 64 clients at 44 ms each can make 1,450 a second, if the store lets them.
func BenchmarkAppenders(b *testing.B) {
	for name, latency := range map[string]*model.Latency{"44 ms": model.DefaultLatency(), "no latency": nil} {
		b.Run(name, func(b *testing.B) {
			st, _ := open(b, storefault.Options{Seed: seed, Latency: latency, Rate: model.DefaultRate()})
			body := make([]byte, 1<<10)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range appenders {
				wg.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						if _, err := st.Put(b.Context(), fmt.Sprintf("wal/%020d", n), body, "w", store.IfAbsent()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}
