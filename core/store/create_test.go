package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// told is a store whose puts end as the test says, one after another; unscripted ones end normally.
type told struct {
	store.Store
	puts []answer
	gets []error
	n    int // puts so far
}

// answer is what a put returns; lost: it was applied all the same.
type answer struct {
	err  error
	lost bool
}

func (s *told) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	s.n++
	a := s.puts[min(s.n, len(s.puts))-1]
	if a.err == nil || a.lost {
		gen, err := s.Store.Put(ctx, key, body, id, cond)
		if a.err == nil {
			return gen, err
		}
	}
	return 0, &store.OpError{Op: "put", Key: key, Err: a.err}
}

func (s *told) Get(ctx context.Context, key string) (store.Object, error) {
	if len(s.gets) > 0 {
		err := s.gets[0]
		s.gets = s.gets[1:]
		return store.Object{}, &store.OpError{Op: "get", Key: key, Err: err}
	}
	return s.Store.Get(ctx, key)
}

// Each outcome of CreateOnce, for a sequence of store answers. The last answer of a row repeats forever.
func TestCreateOnceEnds(t *testing.T) {
	t.Parallel()
	const tries = 6
	unknown, lost := answer{err: store.ErrUnknown}, answer{err: store.ErrUnknown, lost: true}
	throttled, conflict := answer{err: store.ErrThrottled}, answer{err: store.ErrConflict}
	denied, done := answer{err: store.ErrDenied}, answer{}
	for _, c := range []struct {
		name      string
		puts      []answer
		gets      []error
		theirs    bool // another object has the key from the start
		want      error
		undecided bool // of the *ExistsError
		n         int  // puts
		stored    bool
	}{
		{name: "created", puts: []answer{done}, n: 1, stored: true},
		{name: "reply lost, found", puts: []answer{lost, done}, n: 2, stored: true},
		{name: "told conflict, it was ours", puts: []answer{{store.ErrConflict, true}}, n: 1, stored: true},
		{name: "told throttled, it was ours", puts: []answer{{store.ErrThrottled, true}}, n: 1, stored: true},
		{name: "told conflict, unreadable once", puts: []answer{{store.ErrConflict, true}}, gets: []error{store.ErrUnavailable}, n: 2, stored: true},
		{name: "throttled, nothing there", puts: []answer{throttled, throttled, done}, n: 3, stored: true},
		{name: "conflict, nothing there", puts: []answer{conflict, done}, n: 2, stored: true},
		{name: "another's", puts: []answer{done}, theirs: true, want: store.ErrConflict, n: 1},
		{name: "another's, told throttled", puts: []answer{throttled}, theirs: true, want: store.ErrConflict, n: 1},
		{name: "unknown, then another's", puts: []answer{unknown, done}, theirs: true, want: store.ErrConflict, undecided: true, n: 2},
		{name: "denied", puts: []answer{denied}, want: store.ErrDenied, n: 1},
		{name: "throttled, then denied: nothing was made", puts: []answer{throttled, denied}, want: store.ErrDenied, n: 2},
		{name: "unknown, then denied: it may be there", puts: []answer{unknown, denied}, want: store.ErrUnknown, n: tries},
		{name: "unreadable, then denied: it may be there", puts: []answer{conflict, denied}, gets: []error{store.ErrUnavailable}, want: store.ErrUnknown, n: tries},
		{name: "unknown for good, applied", puts: []answer{lost, unknown}, want: store.ErrUnknown, n: tries, stored: true},
		{name: "unknown for good", puts: []answer{unknown}, want: store.ErrUnknown, n: tries},
		{name: "throttled for good", puts: []answer{throttled}, want: store.ErrThrottled, n: tries},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := mem.New(mem.Options{})
			if c.theirs {
				put(t, below, "key", "theirs")
			}
			st := &told{Store: below, puts: c.puts, gets: c.gets}
			virtual := clock.NewVirtual(time.Unix(0, 0))
			err := store.CreateOnce(t.Context(), st, "key", []byte("ours"), "id", store.Bounds{Clock: noWait{virtual}, Tries: tries})
			if (err == nil) != (c.want == nil) || !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			var exists *store.ExistsError
			if errors.As(err, &exists) && exists.Undecided != c.undecided {
				t.Errorf("undecided: %v, want %v", exists.Undecided, c.undecided)
			}
			if c.theirs && exists == nil {
				t.Errorf("%v does not give the object that is there", err)
			}
			if st.n != c.n {
				t.Errorf("%d puts, want %d", st.n, c.n)
			}
			if o, err := below.Get(t.Context(), "key"); (err == nil && string(o.Body) == "ours") != c.stored {
				t.Errorf("ours is stored: %v, want %v", !c.stored, c.stored)
			}
		})
	}
}

type noWait struct{ clock.Clock }

func (noWait) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// It continues for as long as it may, ever more slowly, and ends with the context.
func TestCreateOnceBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &told{Store: mem.New(mem.Options{}), puts: []answer{{err: store.ErrUnknown}}}
		began := time.Now()
		b := store.Bounds{Within: 100 * time.Second, Pause: time.Second, MaxPause: 8 * time.Second}
		err := store.CreateOnce(t.Context(), st, "key", nil, "id", b)
		// After 1, 2, 4, 8, 8, ... seconds: at 0, 1, 3, 7, 15 and then 11 times 8 more.
		if took := time.Since(began); !errors.Is(err, store.ErrUnknown) || took != 103*time.Second || st.n != 16 {
			t.Errorf("after %v and %d puts: %v", took, st.n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began = time.Now()
		err = store.CreateOnce(ctx, st, "key", nil, "id", b)
		if took := time.Since(began); !errors.Is(err, store.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func put(t *testing.T, st store.Store, key, body string) {
	t.Helper()
	if _, err := st.Put(t.Context(), key, []byte(body), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
}
