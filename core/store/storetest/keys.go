package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"blobpglite/core/store"
)

func testNotFound(t *testing.T, s store.Store) {
	put(t, s, "present/below", sampleBody, store.IfAbsent())
	for _, key := range []string{"absent", "present", "present/below/it"} {
		o, err := s.Get(t.Context(), key)
		wantError(t, "get "+key, err, store.ErrNotFound)
		if o.Gen != 0 || o.Body != nil {
			t.Errorf("get %q: an object came with the error: %+v", key, o.Attrs)
		}
	}
}

func testDelete(t *testing.T, s store.Store) {
	const key = "gone"
	put(t, s, key, sampleBody, store.IfAbsent())
	put(t, s, key+"/below", sampleBody, store.IfAbsent())
	for i := range 3 {
		if err := s.Delete(t.Context(), key); err != nil {
			t.Fatalf("delete %d: %v", i, err)
		}
	}
	_, err := s.Get(t.Context(), key)
	wantError(t, "get", err, store.ErrNotFound)
	get(t, s, key+"/below")
	if err := s.Delete(t.Context(), "never/was"); err != nil {
		t.Fatalf("delete of what never was: %v", err)
	}
}

func testList(t *testing.T, s store.Store) {
	// In byte order, which is not that of any language.
	keys := []string{"Z", "a", "a/0", "a/1", "a/1/x", "a/10", "a/2", "a0", "aa", "b", "é/1", "日"}
	shuffled := slices.Clone(keys)
	slices.Reverse(shuffled)
	for _, key := range shuffled {
		put(t, s, key, key, store.IfAbsent())
	}
	for _, tt := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", keys},
		{"a", "", keys[1:9]},
		{"a/", "", keys[2:7]},
		{"a/1", "", []string{"a/1", "a/1/x", "a/10"}},
		{"a/", "a/1", []string{"a/1/x", "a/10", "a/2"}}, // strictly after
		{"a/", "a/11", []string{"a/2"}},                 // after need not exist
		{"a/", "0", keys[2:7]},                          // before the prefix
		{"a/", "b", nil},                                // beyond the prefix
		{"", "b", []string{"é/1", "日"}},
		{"é", "", []string{"é/1"}},
		{"none", "", nil},
	} {
		var got []string
		for _, a := range list(t.Context(), t, s, tt.prefix, tt.after) {
			got = append(got, a.Key)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("list %q after %q: %q, want %q", tt.prefix, tt.after, got, tt.want)
		}
	}
	for a, err := range s.List(t.Context(), "bad\x00prefix", "") {
		wantError(t, fmt.Sprintf("list with a bad prefix (%+v)", a), err, store.ErrInvalid)
	}
}

func testListPages(t *testing.T, s store.Store) {
	var want []string
	numbers := make(chan int, manyKeys)
	for i := range manyKeys {
		want = append(want, fmt.Sprintf("pages/%05d", i))
		numbers <- i
	}
	close(numbers)
	var wg sync.WaitGroup
	for range putters {
		wg.Go(func() {
			for i := range numbers {
				if _, err := s.Put(t.Context(), want[i], nil, store.NewWriteID(), store.IfAbsent()); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, skip := range []int{0, 5, store.PageSize} {
		after := ""
		if skip > 0 {
			after = want[skip-1]
		}
		var got []string
		for _, a := range list(t.Context(), t, s, "pages/", after) {
			got = append(got, a.Key)
		}
		if !slices.Equal(got, want[skip:]) {
			t.Fatalf("list after %q: %d keys, want %d in ascending order", after, len(got), len(want)-skip)
		}
	}
}

func testListStopsEarly(t *testing.T, s store.Store) {
	for i := range 3 {
		put(t, s, fmt.Sprintf("some/%d", i), sampleBody, store.IfAbsent())
	}
	seen := 0
	for range s.List(t.Context(), "some/", "") {
		seen++
		break
	}
	if seen != 1 {
		t.Fatalf("saw %d objects before the break, want 1", seen)
	}
}

func testKeys(t *testing.T, s store.Store) {
	good := []string{
		"a", "a b", "a%2Fb", "a+b", "a?b=c&d#e", "…", "日本/語", "a.b", ".hidden", "..a", "wal/00000000000000000001",
		"q\"uote", "back\\slash", "o/o", "b/x/o/y", strings.Repeat("k", store.MaxKeyBytes/2),
	}
	for _, key := range good {
		put(t, s, key, key, store.IfAbsent())
		o := get(t, s, key)
		wantBody(t, o, []byte(key))
		if o.Key != key {
			t.Errorf("get %q: the object says its key is %q", key, o.Key)
		}
		listed := list(t.Context(), t, s, key, "")
		if len(listed) == 0 || listed[0].Key != key {
			t.Errorf("list %q: %+v", key, listed)
		}
		if err := s.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %q: %v", key, err)
		}
	}
	bad := []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a\nb", "a\x00b", "a\x7fb", "\xff", "a\u0085b",
		strings.Repeat("k", store.MaxKeyBytes+1),
	}
	for _, key := range bad {
		_, err := s.Put(t.Context(), key, nil, store.NewWriteID(), store.Always())
		wantError(t, fmt.Sprintf("put %q", key), err, store.ErrInvalid)
		_, err = s.Get(t.Context(), key)
		wantError(t, fmt.Sprintf("get %q", key), err, store.ErrInvalid)
		wantError(t, fmt.Sprintf("delete %q", key), s.Delete(t.Context(), key), store.ErrInvalid)
	}
	if listed := list(t.Context(), t, s, "", ""); len(listed) != 0 {
		t.Errorf("objects are left: %+v", listed)
	}
}

func testPrefixed(t *testing.T, s store.Store) {
	view := store.Prefixed(s, "tenant/1")
	put(t, s, "tenant/10", "not in the view", store.IfAbsent())
	put(t, view, "a", "in the view", store.IfAbsent())
	put(t, view, "b/c", "too", store.IfAbsent())
	wantBody(t, get(t, s, "tenant/1/a"), []byte("in the view"))
	if o := get(t, view, "a"); o.Key != "a" {
		t.Errorf("get through the view: key %q, want a", o.Key)
	}
	for _, tt := range []struct{ prefix, after, want string }{{"", "", "a b/c"}, {"", "a", "b/c"}, {"b", "", "b/c"}} {
		var got []string
		for _, a := range list(t.Context(), t, view, tt.prefix, tt.after) {
			got = append(got, a.Key)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("list %q after %q through the view: %q, want %q", tt.prefix, tt.after, got, tt.want)
		}
	}
	if err := view.Delete(t.Context(), "a"); err != nil {
		t.Fatalf("delete through the view: %v", err)
	}
	_, err := s.Get(t.Context(), "tenant/1/a")
	wantError(t, "get what was deleted through the view", err, store.ErrNotFound)
	_, err = view.Get(t.Context(), "")
	wantError(t, "get the empty key through the view", err, store.ErrInvalid)
}

func testCancelled(t *testing.T, s store.Store) {
	put(t, s, "kept", sampleBody, store.IfAbsent())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "kept")
	wantError(t, "get", err, context.Canceled)
	_, err = s.Put(ctx, "unborn", nil, store.NewWriteID(), store.IfAbsent())
	wantError(t, "put", err, context.Canceled)
	wantError(t, "delete", s.Delete(ctx, "kept"), context.Canceled)
	listed := 0
	for _, err := range s.List(ctx, "", "") {
		wantError(t, "list", err, context.Canceled)
		listed++
	}
	if listed != 1 {
		t.Errorf("a canceled list yields %d times, want one error", listed)
	}
	if keys := list(t.Context(), t, s, "", ""); len(keys) != 1 || keys[0].Key != "kept" {
		t.Errorf("after canceled operations the store holds %+v, want only what was there", keys)
	}
}
