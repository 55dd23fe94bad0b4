// Package storetest is the conformance suite of store.Store: one meaning for every implementation.
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mem.New(mem.Options{}) })
//	}
//
// Its tests need no clock and may run in any order. Every correct store passes, including one that throttles and
// retries by itself: the suite requires only what the contract promises.
//
// Forgetful is a view of a store for other packages' tests: it loses replies.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"blobpglite/core/store"
)

// Sizes of the suite.
const (
	raceRounds = 20
	racers     = 20
	bigBody    = 16 << 20               // bytes
	manyKeys   = store.PageSize + 7     // forces a second page
	putters    = 8                      // concurrent uploads where many objects are made
	seed       = 20261125               // of the bodies
	absentGen  = store.Gen(1) << 60     // never the generation of an object here
	sampleBody = "the body of a sample" // where any body will do
)

// Run runs the suite. open is called once per test and returns an empty store; it closes what it opened by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	Races(t, open)
	run(t, open, []test{
		{"conditions", testConditions},
		{"zero condition refused", testZeroCondition},
		{"generations rise across delete", testGenerationsRise},
		{"write ids", testWriteIDs},
		{"create once", testCreateOnce},
		{"read after write", testReadAfterWrite},
		{"attributes", testAttributes},
		{"bodies are not shared", testBodiesNotShared},
		{"big body", testBigBody},
		{"empty body", testEmptyBody},
		{"ranges", testRanges},
		{"copies", testCopies},
		{"not found", testNotFound},
		{"delete is idempotent", testDelete},
		{"list order and bounds", testList},
		{"list pages", testListPages},
		{"list stops early", testListStopsEarly},
		{"keys", testKeys},
		{"prefixed view", testPrefixed},
		{"canceled context", testCancelled},
	})
}

// Races runs only the part of the suite in which many goroutines write one key concurrently: for variants of a store
// that differ in nothing else.
func Races(t *testing.T, open func(t *testing.T) store.Store) {
	run(t, open, []test{
		{"race to create", testRaceToCreate},
		{"race to swap", testRaceToSwap},
	})
}

type test struct {
	name string
	run  func(t *testing.T, s store.Store)
}

func run(t *testing.T, open func(t *testing.T) store.Store, tests []test) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t)) })
	}
}

// put stores a body under a fresh write id and fails the test on an error.
func put(t *testing.T, s store.Store, key, body string, cond store.Cond) store.Gen {
	t.Helper()
	gen, err := s.Put(t.Context(), key, []byte(body), store.NewWriteID(), cond)
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	if gen <= 0 {
		t.Fatalf("put %q returned generation %d, want a positive one", key, gen)
	}
	return gen
}

// get reads an object and fails the test on an error.
func get(t *testing.T, s store.Store, key string) store.Object {
	t.Helper()
	o, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return o
}

// wantBody fails the test unless the object has the body, and attributes that agree with it.
func wantBody(t *testing.T, o store.Object, body []byte) {
	t.Helper()
	if !bytes.Equal(o.Body, body) {
		t.Fatalf("object %q has %d bytes that are not the %d bytes written", o.Key, len(o.Body), len(body))
	}
	if o.Size != int64(len(body)) {
		t.Fatalf("object %q says its size is %d, want %d", o.Key, o.Size, len(body))
	}
}

// wantError fails the test unless err wraps target and is an *store.OpError.
func wantError(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: got error %v, want one that wraps %q", what, err, target)
	}
	if op := new(store.OpError); !errors.As(err, &op) {
		t.Fatalf("%s: error %v is not a *store.OpError", what, err)
	}
}

// list collects a listing and fails the test on an error.
func list(ctx context.Context, t *testing.T, s store.Store, prefix, after string) []store.Attrs {
	t.Helper()
	var all []store.Attrs
	for a, err := range s.List(ctx, prefix, after) {
		if err != nil {
			t.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		all = append(all, a)
	}
	return all
}
