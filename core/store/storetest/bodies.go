package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"blobpglite/core/store"
)

// randomBytes returns n random bytes: incompressible, and with no two equal parts.
func randomBytes(t *testing.T, n int) []byte {
	t.Logf("seed %d", seed)
	var key [32]byte
	copy(key[:], fmt.Sprint(seed))
	body := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(body) // never fails
	return body
}

func testReadAfterWrite(t *testing.T, s store.Store) {
	const key, rounds = "seen", 5
	for i := range rounds {
		body := fmt.Sprintf("version %d", i)
		gen := put(t, s, key, body, store.Always())
		o := get(t, s, key)
		wantBody(t, o, []byte(body))
		if o.Gen != gen {
			t.Fatalf("wrote generation %d, read %d", gen, o.Gen)
		}
		listed := list(t.Context(), t, s, key, "")
		if len(listed) != 1 || listed[0].Gen != gen {
			t.Fatalf("wrote generation %d, listed %+v", gen, listed)
		}
	}
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if listed := list(t.Context(), t, s, key, ""); len(listed) != 0 {
		t.Fatalf("a deleted object is listed: %+v", listed)
	}
}

func testAttributes(t *testing.T, s store.Store) {
	const key = "folder/attributes"
	gen := put(t, s, key, sampleBody, store.IfAbsent())
	o := get(t, s, key)
	listed := list(t.Context(), t, s, "folder/", "")
	if len(listed) != 1 {
		t.Fatalf("listed %d objects, want 1", len(listed))
	}
	for from, a := range map[string]store.Attrs{"get": o.Attrs, "list": listed[0]} {
		if a.Key != key || a.Gen != gen || a.Size != int64(len(sampleBody)) || a.WriteID == "" || a.Updated.IsZero() {
			t.Errorf("%s: attributes %+v, want key %q, generation %d, size %d, a write id and a time", from, a, key, gen, len(sampleBody))
		}
	}
}

func testBodiesNotShared(t *testing.T, s store.Store) {
	const key = "own"
	given := []byte(sampleBody)
	if _, err := s.Put(t.Context(), key, given, store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatalf("put: %v", err)
	}
	clear(given)
	first := get(t, s, key)
	wantBody(t, first, []byte(sampleBody))
	clear(first.Body)
	wantBody(t, get(t, s, key), []byte(sampleBody))
}

func testBigBody(t *testing.T, s store.Store) {
	const key = "big"
	body := randomBytes(t, bigBody)
	if _, err := s.Put(t.Context(), key, body, store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatalf("put %d bytes: %v", len(body), err)
	}
	wantBody(t, get(t, s, key), body)
	_, err := s.Put(t.Context(), key, make([]byte, store.MaxBodyBytes+1), store.NewWriteID(), store.Always())
	wantError(t, "put of a body above the limit", err, store.ErrInvalid)
}

func testEmptyBody(t *testing.T, s store.Store) {
	const key = "empty"
	if _, err := s.Put(t.Context(), key, nil, store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatalf("put: %v", err)
	}
	wantBody(t, get(t, s, key), nil)
}

func testRanges(t *testing.T, s store.Store) {
	r, ok := s.(store.RangeGetter)
	if !ok {
		t.Fatalf("%T does not implement store.RangeGetter", s)
	}
	const key, size = "ranged", 100_000
	body := randomBytes(t, size)
	gen, err := s.Put(t.Context(), key, body, store.NewWriteID(), store.IfAbsent())
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	for _, tt := range []struct{ offset, length, want int64 }{
		{0, size, size}, {0, 1, 1}, {0, 2 * size, size}, {1, 10, 10}, {70_000, 20_000, 20_000},
		{size - 1, 1, 1}, {size - 5, 10, 5}, {size, 1, 0}, {2 * size, 10, 0},
	} {
		o, err := r.GetRange(t.Context(), key, tt.offset, tt.length)
		if err != nil {
			t.Fatalf("get range %d+%d: %v", tt.offset, tt.length, err)
		}
		start := min(tt.offset, size)
		if !bytes.Equal(o.Body, body[start:start+tt.want]) {
			t.Errorf("get range %d+%d: %d bytes that are not the %d bytes stored there", tt.offset, tt.length, len(o.Body), tt.want)
		}
		if o.Size != size || o.Gen != gen {
			t.Errorf("get range %d+%d: size %d, generation %d; want the whole object's %d, %d", tt.offset, tt.length, o.Size, o.Gen, size, gen)
		}
	}
	for _, tt := range []struct{ offset, length int64 }{{-1, 1}, {0, 0}, {0, -1}, {0, store.MaxBodyBytes + 1}} {
		_, err := r.GetRange(t.Context(), key, tt.offset, tt.length)
		wantError(t, fmt.Sprintf("get range %d+%d", tt.offset, tt.length), err, store.ErrInvalid)
	}
	_, err = r.GetRange(t.Context(), "absent", 0, 1)
	wantError(t, "get range of an absent object", err, store.ErrNotFound)
}
