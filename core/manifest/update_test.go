package manifest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// fault says what happens to one Put.
type fault struct {
	before func() // a rival acts first
	apply  bool   // the write reaches the store
	fail   error  // what the caller gets; nil: the true outcome
	after  func() // a rival acts before the caller looks
}

// scripted is a store whose Puts meet the faults in turn, then none.
type scripted struct {
	store.Store
	faults []fault
	ids    []string
	getErr error
}

func (s *scripted) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	s.ids = append(s.ids, id)
	f := fault{apply: true}
	if len(s.faults) > 0 {
		f, s.faults = s.faults[0], s.faults[1:]
	}
	if f.before != nil {
		f.before()
	}
	var gen store.Gen
	err := f.fail
	if f.apply {
		var applyErr error
		if gen, applyErr = s.Store.Put(ctx, key, body, id, cond); applyErr != nil || err == nil {
			err = applyErr
		}
	}
	if f.after != nil {
		f.after()
	}
	if err != nil {
		return 0, &store.OpError{Op: "put", Key: key, Err: err}
	}
	return gen, nil
}

func (s *scripted) Get(ctx context.Context, key string) (store.Object, error) {
	if s.getErr != nil && len(s.ids) > 0 {
		return store.Object{}, s.getErr
	}
	return s.Store.Get(ctx, key)
}

// noWait is a clock that does not sleep.
type noWait struct {
	clock.Clock
	slept time.Duration
}

func (c *noWait) Sleep(ctx context.Context, d time.Duration) error {
	c.slept += d
	return ctx.Err()
}

func create(t *testing.T, st store.Store) {
	t.Helper()
	_, _, err := Update(t.Context(), st, Options{Epoch: 1, Create: true}, func(m *Manifest) error {
		m.DatabaseID = "db"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func addCommit(m *Manifest) error { m.Commits++; return nil }

func TestCreateAndLoad(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	if _, _, err := Load(t.Context(), st); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("load of nothing: %v", err)
	}
	if _, _, err := Update(t.Context(), st, Options{Epoch: 1}, addCommit); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("update of nothing: %v", err)
	}
	create(t, st)
	var points []point.Point
	o := Options{Epoch: 2, Writer: "w", Hook: func(_ context.Context, p point.Point) error {
		points = append(points, p)
		return nil
	}}
	m, gen, err := Update(t.Context(), st, o, addCommit)
	if err != nil || m.Epoch != 2 || m.Writer != "w" || m.Commits != 1 || m.DatabaseID != "db" {
		t.Fatalf("%+v, %v", m, err)
	}
	if want := []point.Point{point.ManifestBeforeCAS, point.ManifestAfterCAS}; !slices.Equal(points, want) {
		t.Fatalf("points %v", points)
	}
	got, loaded, err := Load(t.Context(), st)
	if err != nil || loaded != gen || got.WriteID != m.WriteID || !got.Updated.Equal(m.Updated) {
		t.Fatalf("%+v, %d, %v", got, loaded, err)
	}
	object, err := st.Get(t.Context(), Key)
	if err != nil || object.WriteID != m.WriteID {
		t.Fatalf("the object's write id %q is not the manifest's %q (%v)", object.WriteID, m.WriteID, err)
	}
}

func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	create(t, st)
	mine := errors.New("mine")
	if _, _, err := Update(t.Context(), st, Options{Epoch: 5}, func(m *Manifest) error { m.WalStart = 9; return nil }); err != nil {
		t.Fatal(err)
	}
	_, before, _ := Load(t.Context(), st)
	failAt := func(p point.Point) point.Hook {
		return func(_ context.Context, at point.Point) error {
			if at == p {
				return mine
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		o      Options
		change func(*Manifest) error
		want   error
	}{
		"older epoch":         {Options{Epoch: 4}, addCommit, ErrFenced},
		"change fails":        {Options{Epoch: 5}, func(*Manifest) error { return mine }, mine},
		"other database":      {Options{Epoch: 5}, func(m *Manifest) error { m.DatabaseID = "x"; return nil }, store.ErrInvalid},
		"wal start falls":     {Options{Epoch: 5}, func(m *Manifest) error { m.WalStart = 8; return nil }, store.ErrInvalid},
		"layer of the future": {Options{Epoch: 5}, func(m *Manifest) error { m.Layers = []Layer{{Key: "b", Epoch: 6, Seq: 9}}; return nil }, store.ErrInvalid},
		"hook before":         {Options{Epoch: 5, Hook: failAt(point.ManifestBeforeCAS)}, addCommit, mine},
	} {
		if _, _, err := Update(t.Context(), st, c.o, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, gen, err := Load(t.Context(), st); gen != before || err != nil {
			t.Errorf("%s: the manifest was changed (%v)", name, err)
		}
	}
	_, _, err := Update(t.Context(), st, Options{Epoch: 5, Hook: failAt(point.ManifestAfterCAS)}, addCommit)
	if _, gen, _ := Load(t.Context(), st); !errors.Is(err, mine) || gen == before {
		t.Errorf("hook after: %v, generation %d", err, gen)
	}
	if _, err := st.Put(t.Context(), Key, []byte(`{"format":7}`), "", store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Update(t.Context(), st, Options{Epoch: 9, Create: true}, addCommit); !errors.Is(err, ErrNewer) {
		t.Errorf("over a newer one: %v", err)
	}
	if o, _ := st.Get(t.Context(), Key); string(o.Body) != `{"format":7}` {
		t.Error("a newer manifest was overwritten")
	}
}

// Each case says how many times the change is in the manifest at the end, and what the caller gets.
func TestUpdateResolvesLostReplies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		faults  func(rival func()) []fault
		commits uint64 // ours
		ids     int    // different write ids used
		puts    int
		want    error
	}{
		{"applied, reply lost", func(func()) []fault {
			return []fault{{apply: true, fail: store.ErrUnknown}}
		}, 1, 1, 1, nil},
		{"applied, told conflict", func(func()) []fault {
			return []fault{{apply: true, fail: store.ErrConflict}}
		}, 1, 1, 1, nil},
		{"applied, told throttled", func(func()) []fault {
			return []fault{{apply: true, fail: store.ErrThrottled}}
		}, 1, 1, 1, nil},
		{"not applied, unknown", func(func()) []fault {
			return []fault{{fail: store.ErrUnknown}, {fail: store.ErrUnknown}}
		}, 1, 1, 3, nil},
		{"not applied, throttled", func(func()) []fault {
			return []fault{{fail: store.ErrThrottled}}
		}, 1, 1, 2, nil},
		{"rival first", func(rival func()) []fault {
			return []fault{{before: rival, apply: true}}
		}, 1, 2, 2, nil},
		{"unknown, then a rival", func(rival func()) []fault {
			return []fault{{fail: store.ErrUnknown, after: rival}}
		}, 1, 2, 2, nil},
		{"denied", func(func()) []fault { return []fault{{fail: store.ErrDenied}} }, 0, 1, 1, store.ErrDenied},
		{"unknown to the end", func(func()) []fault {
			return slices.Repeat([]fault{{fail: store.ErrUnknown}}, DefaultAttempts)
		}, 0, 1, DefaultAttempts, store.ErrUnknown},
		{"unknown once, then throttled", func(func()) []fault {
			return append([]fault{{fail: store.ErrUnknown}}, slices.Repeat([]fault{{fail: store.ErrThrottled}}, DefaultAttempts)...)
		}, 0, 1, DefaultAttempts, store.ErrUnknown},
		{"unknown once, then denied", func(func()) []fault {
			return []fault{{fail: store.ErrUnknown}, {fail: store.ErrDenied}}
		}, 0, 1, 2, store.ErrUnknown},
		{"throttled to the end", func(func()) []fault {
			return slices.Repeat([]fault{{fail: store.ErrThrottled}}, DefaultAttempts)
		}, 0, 1, DefaultAttempts, store.ErrThrottled},
		{"rivals to the end", func(rival func()) []fault {
			return slices.Repeat([]fault{{before: rival, apply: true}}, DefaultAttempts)
		}, 0, DefaultAttempts, DefaultAttempts, store.ErrConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := mem.New(mem.Options{})
			create(t, base)
			rivals := 0
			rival := func() {
				rivals++
				_, _, err := Update(t.Context(), base, Options{Epoch: 1}, func(m *Manifest) error { m.WalStart++; return nil })
				if err != nil {
					t.Error(err)
				}
			}
			st := &scripted{Store: base, faults: c.faults(rival)}
			m, gen, err := Update(t.Context(), st, Options{Epoch: 1, Clock: &noWait{Clock: clock.System()}}, addCommit)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			got, now, loadErr := Load(t.Context(), base)
			if loadErr != nil || got.Commits != c.commits || int(got.WalStart) != rivals {
				t.Fatalf("%d commits, want %d; %d rivals, want %d (%v)", got.Commits, c.commits, got.WalStart, rivals, loadErr)
			}
			if err == nil && (gen != now || m.WriteID != got.WriteID) {
				t.Fatalf("told generation %d, there is %d", gen, now)
			}
			slices.Sort(st.ids)
			if puts, ids := len(st.ids), len(slices.Compact(st.ids)); puts != c.puts || ids != c.ids {
				t.Fatalf("%d puts with %d write ids, want %d and %d", puts, ids, c.puts, c.ids)
			}
		})
	}
}

// Our swap is applied, the reply is lost, and a higher epoch swaps on top before we look.
func TestUpdateIsFencedAfterALostReply(t *testing.T) {
	t.Parallel()
	base := mem.New(mem.Options{})
	create(t, base)
	st := &scripted{Store: base, faults: []fault{{apply: true, fail: store.ErrUnknown, after: func() {
		if _, _, err := Update(t.Context(), base, Options{Epoch: 2}, addCommit); err != nil {
			t.Error(err)
		}
	}}}}
	if _, _, err := Update(t.Context(), st, Options{Epoch: 1}, addCommit); !errors.Is(err, ErrFenced) {
		t.Fatalf("%v, want ErrFenced", err)
	}
}

func TestUpdateStopsWithItsContext(t *testing.T) {
	t.Parallel()
	base := mem.New(mem.Options{})
	create(t, base)
	ctx, cancel := context.WithCancel(t.Context())
	st := &scripted{Store: base, faults: []fault{{fail: store.ErrUnknown, after: cancel}}}
	_, _, err := Update(ctx, st, Options{Epoch: 1}, addCommit)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("%v, want both the context's error and ErrUnknown", err)
	}
	st = &scripted{Store: base, getErr: store.ErrUnavailable, faults: []fault{{apply: true, fail: store.ErrUnknown}}}
	sleepy := &noWait{Clock: clock.System()}
	m, _, err := Update(t.Context(), st, Options{Epoch: 1, Clock: sleepy}, addCommit)
	if err != nil || m.Commits != 1 || sleepy.slept != firstPause {
		t.Fatalf("an unreadable manifest: %+v, %v, slept %v", m, err, sleepy.slept)
	}
}

func TestConcurrentUpdatesAllCount(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	create(t, st)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			o := Options{Epoch: 1, Writer: fmt.Sprint(i), Attempts: 1000}
			for range 20 {
				if _, _, err := Update(t.Context(), st, o, addCommit); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if m, _, err := Load(t.Context(), st); err != nil || m.Commits != 160 {
		t.Fatalf("%d of 160 changes, %v", m.Commits, err)
	}
}
