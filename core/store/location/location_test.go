package location_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/location"
	"blobpglite/core/store/storetest"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text, want string
		says       string // of the error
	}{
		{"gs://bucket/p", "gs://bucket/p", ""},
		{"gs://bucket/p/q/", "gs://bucket/p/q", ""},
		{"file:///home/me/db", "file:///home/me/db", ""},
		{"file:///home/me/../you//db/", "file:///home/you/db", ""},
		{"file://localhost/srv/db", "file:///srv/db", ""},
		{"file:///srv/with%20space%25", "file:///srv/with%20space%25", ""},
		{"file:///srv/with space", "file:///srv/with%20space", ""},
		{"gs://bucket", "", "prefix is missing"},
		{"gs://bucket/", "", "prefix is missing"},
		{"gs://", "", "name is missing"},
		{"file://", "", "folder is missing"},
		{"file:///", "", "folder is missing"},
		{"file:///..", "", "folder is missing"},
		{"file://./db", "", "three slashes"},
		{"file://db/x", "", "three slashes"},
		{"file:///a?b", "", "%3F"},
		{"file:///a#b", "", "%23"},
		{"file:///100%", "", "%25"},
		{"s3://bucket/p", "", "neither"},
		{"/home/me/db", "", "neither"},
		{"", "", "neither"},
	} {
		at, err := location.Parse(tt.text)
		if tt.says == "" {
			if err != nil || at.String() != tt.want {
				t.Errorf("%q: %v, %v; want %s", tt.text, at, err, tt.want)
			}
			continue
		}
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), location.Forms) {
			t.Errorf("%q: %v; want it to say %q and the forms", tt.text, err, tt.says)
		}
	}
}

func TestOverlaps(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"gs://bucket/p", "gs://bucket/p", true},
		{"gs://bucket/p", "gs://bucket/p/q", true},
		{"gs://bucket/p", "gs://bucket/pq", false},
		{"gs://bucket/p", "gs://other/p", false},
		{"file:///a/b", "file:///a", true},
		{"file:///a/b", "file:///a/c", false},
		{"file:///bucket/p", "gs://bucket/p", false},
	} {
		a, err := location.Parse(tt.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := location.Parse(tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
			t.Errorf("%s and %s: %v, want %v", a, b, !tt.want, tt.want)
		}
	}
}

// A folder's location opens a store.
func TestOpenFolder(t *testing.T) {
	storetest.Races(t, func(t *testing.T) store.Store {
		at, err := location.Parse("file://" + filepath.ToSlash(t.TempDir()) + "/the%20database")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := at.Open(t.Context(), location.Options{}); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("open what is not there: %v", err)
		}
		st, err := at.Open(t.Context(), location.Options{Create: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		if err := st.Probe(t.Context()); err != nil {
			t.Error(err)
		}
		return st
	})
}
