package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"blobpglite/core/store"
)

func testConditions(t *testing.T, s store.Store) {
	type state struct{ current, stale store.Gen }
	tests := []struct {
		name   string
		exists bool
		cond   func(st state) store.Cond
		want   error
	}{
		{"always, absent", false, func(state) store.Cond { return store.Always() }, nil},
		{"always, present", true, func(state) store.Cond { return store.Always() }, nil},
		{"if absent, absent", false, func(state) store.Cond { return store.IfAbsent() }, nil},
		{"if absent, present", true, func(state) store.Cond { return store.IfAbsent() }, store.ErrConflict},
		{"if generation, current", true, func(st state) store.Cond { return store.IfGen(st.current) }, nil},
		{"if generation, stale", true, func(st state) store.Cond { return store.IfGen(st.stale) }, store.ErrConflict},
		{"if generation, future", true, func(st state) store.Cond { return store.IfGen(st.current + 1) }, store.ErrConflict},
		{"if generation, absent", false, func(state) store.Cond { return store.IfGen(absentGen) }, store.ErrConflict},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			key := fmt.Sprintf("conditions/%d", i)
			var st state
			if tt.exists {
				st.stale = put(t, s, key, "stale", store.IfAbsent())
				st.current = put(t, s, key, "current", store.IfGen(st.stale))
			}
			gen, err := s.Put(t.Context(), key, []byte("new"), store.NewWriteID(), tt.cond(st))
			if tt.want == nil {
				if err != nil {
					t.Fatalf("put: %v", err)
				}
				if gen <= st.current {
					t.Fatalf("generation %d does not rise above %d", gen, st.current)
				}
				o := get(t, s, key)
				wantBody(t, o, []byte("new"))
				if o.Gen != gen {
					t.Fatalf("put returned generation %d, get sees %d", gen, o.Gen)
				}
				return
			}
			wantError(t, "put", err, tt.want)
			if op := new(store.OpError); !errors.As(err, &op) || op.Gen != st.current {
				t.Fatalf("the conflict names generation %d, want the one that was seen, %d", op.Gen, st.current)
			}
			if tt.exists {
				wantBody(t, get(t, s, key), []byte("current"))
				return
			}
			_, err = s.Get(t.Context(), key)
			wantError(t, "get after a refused put", err, store.ErrNotFound)
		})
	}
}

func testZeroCondition(t *testing.T, s store.Store) {
	for name, cond := range map[string]store.Cond{
		"zero value": {}, "generation zero": store.IfGen(0), "negative generation": store.IfGen(-1),
	} {
		_, err := s.Put(t.Context(), "zero", []byte(sampleBody), store.NewWriteID(), cond)
		wantError(t, "put with "+name, err, store.ErrInvalid)
	}
	for _, cond := range []store.Cond{store.IfAbsent(), store.IfGen(absentGen)} {
		_, err := s.Put(t.Context(), "zero", []byte(sampleBody), "", cond)
		wantError(t, "conditional put without a write id", err, store.ErrInvalid)
	}
	_, err := s.Get(t.Context(), "zero")
	wantError(t, "get", err, store.ErrNotFound)
}

func testRaceToCreate(t *testing.T, s store.Store) {
	for round := range raceRounds {
		key := fmt.Sprintf("race/create/%03d", round)
		race(t, s, key, store.IfAbsent(), 0)
	}
}

func testRaceToSwap(t *testing.T, s store.Store) {
	for round := range raceRounds {
		key := fmt.Sprintf("race/swap/%03d", round)
		start := put(t, s, key, "start", store.IfAbsent())
		race(t, s, key, store.IfGen(start), start)
	}
}

// race has many goroutines write one key under one condition: one succeeds, the others see a conflict, and the
// winner's write remains.
func race(t *testing.T, s store.Store, key string, cond store.Cond, before store.Gen) {
	t.Helper()
	type outcome struct {
		writeID string
		gen     store.Gen
		err     error
	}
	outcomes := make([]outcome, racers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() {
			o := outcome{writeID: store.NewWriteID()}
			<-start
			o.gen, o.err = s.Put(t.Context(), key, []byte(o.writeID), o.writeID, cond)
			outcomes[i] = o
		})
	}
	close(start)
	wg.Wait()

	var winners []outcome
	for _, o := range outcomes {
		if o.err == nil {
			winners = append(winners, o)
		} else {
			wantError(t, "put of a loser", o.err, store.ErrConflict)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("race for %q: %d of %d succeeded, want exactly one", key, len(winners), racers)
	}
	won, o := winners[0], get(t, s, key)
	wantBody(t, o, []byte(won.writeID))
	if o.Gen != won.gen || o.WriteID != won.writeID || won.gen <= before {
		t.Fatalf("race for %q: generation %d by %q is stored, generation %d by %q won, %d was before",
			key, o.Gen, o.WriteID, won.gen, won.writeID, before)
	}
}

func testGenerationsRise(t *testing.T, s store.Store) {
	const key = "rising"
	first := put(t, s, key, "first", store.IfAbsent())
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatalf("delete: %v", err)
	}
	second := put(t, s, key, "second", store.IfAbsent())
	if second <= first {
		t.Fatalf("generation %d, after a delete generation %d: want it to rise", first, second)
	}
	_, err := s.Put(t.Context(), key, []byte("third"), store.NewWriteID(), store.IfGen(first))
	wantError(t, "swap at the generation before the delete", err, store.ErrConflict)
}

func testWriteIDs(t *testing.T, s store.Store) {
	const key = "writes"
	id := store.NewWriteID()
	gen, err := s.Put(t.Context(), key, []byte("once"), id, store.IfAbsent())
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	if o := get(t, s, key); o.WriteID != id {
		t.Fatalf("get sees write id %q, want %q", o.WriteID, id)
	}
	for a, err := range s.List(t.Context(), key, "") {
		if err != nil || a.WriteID != id {
			t.Fatalf("list sees write id %q (%v), want %q", a.WriteID, err, id)
		}
	}
	// Repeating a write is the same write, not a conflict.
	for _, cond := range []store.Cond{store.IfAbsent(), store.IfGen(absentGen)} {
		again, err := s.Put(t.Context(), key, []byte("once"), id, cond)
		if err != nil || again != gen {
			t.Fatalf("put again with the same write id: generation %d, error %v; want %d and none", again, err, gen)
		}
	}
	if o := get(t, s, key); o.Gen != gen {
		t.Fatalf("a repetition changed the generation from %d to %d", gen, o.Gen)
	}
	// Without a condition, a write id may be left out, and is then empty.
	if _, err := s.Put(t.Context(), key, []byte("twice"), "", store.Always()); err != nil {
		t.Fatalf("put without a write id: %v", err)
	}
	if o := get(t, s, key); o.WriteID != "" {
		t.Fatalf("get sees write id %q of the version before", o.WriteID)
	}
	_, err = s.Put(t.Context(), key, nil, "two words\n", store.Always())
	wantError(t, "put with a write id that no header can carry", err, store.ErrInvalid)
}

// testCreateOnce: a caller learns whether it created the object, even if replies were lost on the way.
func testCreateOnce(t *testing.T, s store.Store) {
	bounds := store.Bounds{Tries: 3, Pause: time.Millisecond, MaxPause: time.Millisecond}
	create := func(st store.Store, key, body, id string) error {
		return store.CreateOnce(t.Context(), st, key, []byte(body), id, bounds)
	}
	for i, st := range []store.Store{s, Forgetful(s)} {
		key, id := fmt.Sprintf("once/%d", i), store.NewWriteID()
		if err := create(st, key, "ours", id); err != nil {
			t.Fatalf("create %q: %v", key, err)
		}
		if err := create(st, key, "ours", id); err != nil {
			t.Fatalf("create %q again, the same write: %v", key, err)
		}
		err := create(st, key, "theirs", store.NewWriteID())
		var exists *store.ExistsError
		if !errors.As(err, &exists) || !errors.Is(err, store.ErrConflict) {
			t.Fatalf("create %q over another object: %v, want an *ExistsError", key, err)
		}
		wantBody(t, exists.Object, []byte("ours"))
		wantBody(t, get(t, s, key), []byte("ours"))
	}
	if err := store.CreateOnce(t.Context(), s, "unbounded", nil, "id", store.Bounds{}); !errors.Is(err, store.ErrInvalid) {
		t.Fatalf("create without bounds: %v, want %v", err, store.ErrInvalid)
	}
}
