package store_test

import (
	"slices"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func TestFolders(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string][]string{
		"": nil, "a": {""}, "a/": {""}, "a/b/c": {"a/b/", "a/", ""}, "/a": {""},
	} {
		if got := store.Folders(prefix); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}

// TestAbove: each view shows what is in its folder, also through views of views.
func TestAbove(t *testing.T) {
	t.Parallel()
	bucket := mem.New(mem.Options{})
	for _, key := range []string{"x", "a/x", "a/b/x", "a/b/c/x"} {
		if _, err := bucket.Put(t.Context(), key, []byte(key), "w", store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"a/b/x", "a/x", "x"}
	for name, st := range map[string]store.Store{
		"a view":          store.Prefixed(bucket, "a/b/c"),
		"views of a view": store.Prefixed(store.Prefixed(bucket, "a"), "b/c/"),
		"counted":         store.Count(store.Prefixed(bucket, "a/b/c")),
	} {
		var got []string
		for _, above := range store.Above(st) {
			o, err := above.Get(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(o.Body))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if store.Above(bucket) != nil {
		t.Error("something is above the root")
	}
}
