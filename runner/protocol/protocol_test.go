package protocol

import (
	"context"
	"strings"
	"sync"
	"testing"

	"blobpglite/core/lease"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
	"blobpglite/runner/bench"
	"blobpglite/runner/bench/benchtest"
	"blobpglite/runner/record"
)

// careless is a store that ignores conditions on some keys.
type careless struct {
	store.Store
	about string
}

func (c careless) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	if strings.Contains(key, c.about) {
		cond = store.Always()
	}
	return c.Store.Put(ctx, key, body, id, cond)
}

// stale is a store whose reads lag one write behind.
type stale struct {
	store.Store
	mu  *sync.Mutex
	old map[string]store.Object
}

func (s stale) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	before, readErr := s.Store.Get(ctx, key)
	gen, err := s.Store.Put(ctx, key, body, id, cond)
	if err == nil && readErr == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.old[key] = before
	}
	return gen, err
}

func (s stale) Get(ctx context.Context, key string) (store.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.old[key]; ok {
		return o, nil
	}
	return s.Store.Get(ctx, key)
}

// forgetful deletes a record right after it was created, as a collection would that does not know fences.
type forgetful struct{ store.Store }

func (f forgetful) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	gen, err := f.Store.Put(ctx, key, body, id, cond)
	if err == nil && strings.Contains(id, wal.FenceID) && !strings.HasSuffix(key, wal.Key(1)) {
		err = f.Delete(ctx, key)
	}
	return gen, err
}

// TestProtocolVerbsCatchWhatTheyLookFor: each verb passes on a sound store, and fails on one that breaks what it looks for.
func TestProtocolVerbsCatchWhatTheyLookFor(t *testing.T) {
	sound := func() store.Store { return mem.New(mem.Options{}) }
	ignoring := func(about string) func() store.Store {
		return func() store.Store { return careless{sound(), about} }
	}
	behind := func() store.Store { return stale{sound(), &sync.Mutex{}, map[string]store.Object{}} }
	for _, c := range []struct {
		step   string
		rounds int
		check  string
		broken func() store.Store
	}{
		{"conditions: {kind: create, rounds: $rounds}", 3, checkConditions, ignoring("conditions")},
		{"conditions: {kind: swap, rounds: $rounds}", 3, checkConditions, ignoring("conditions")},
		{"race: {kind: create, rounds: $rounds}", 3, checkOneWinner, ignoring("race")},
		{"race: {kind: swap, rounds: $rounds}", 3, checkOneWinner, behind},
		{"contest: {for: log, rounds: $rounds}", 3, checkOneWinner, ignoring("wal")},
		{"contest: {for: lease, rounds: $rounds}", 3, checkOneWinner, ignoring(lease.Key)},
		{"readafterwrite: {rounds: $rounds}", 3, checkReadAfterWrite, behind},
		{"zombies: {at: wal/before-put, rounds: $rounds}", 3, bench.CheckRefused, ignoring("wal")},
		{"zombies: {at: wal/after-put, rounds: $rounds}", 3, bench.CheckRefused, ignoring("wal")},
		{"zombies: {at: manifest/before-cas, rounds: $rounds}", 3, bench.CheckRefused, ignoring("manifest")},
		{"zombies: {at: wal/before-put, rounds: $rounds}", 3, bench.CheckRefused, func() store.Store { return forgetful{sound()} }},
		{"takeovers: {rounds: $rounds}", 5, bench.CheckOneEpoch, ignoring("")},
		{"heartbeat: {rounds: $rounds}", 30, checkExclusive, ignoring(lease.Key)},
		{"locked: {rounds: $rounds}", 2, bench.CheckLocked, ignoring(lease.Key)},
	} {
		t.Run(c.step, func(t *testing.T) {
			if verdict, checks := benchtest.Try(t, Verbs(), Checks(), sound(), c.step, c.rounds, c.check); verdict != record.Pass {
				t.Errorf("on a sound store: %v, %+v", verdict, checks)
			}
			verdict, checks := benchtest.Try(t, Verbs(), Checks(), c.broken(), c.step, c.rounds, c.check)
			if verdict != record.Fail {
				t.Errorf("on a broken store: %v, %+v", verdict, checks)
			}
			t.Logf("%v: %+v", verdict, checks)
		})
	}
}
