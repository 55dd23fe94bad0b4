package gcs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/store/storetest"
	"blobpglite/faults/gcsfront"
)

const (
	bucket = "test-bucket"
	// realBucketEnv names a bucket, gs://bucket/prefix, that the suite may write to and clean up.
	realBucketEnv = "BLOBPGLITE_TEST_BUCKET"
)

func TestMain(m *testing.M) {
	// Started by the init function of a dependency of the emulator.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

// newFront starts an emulated bucket.
func newFront(t *testing.T, o gcsfront.Options) *gcsfront.Front {
	t.Helper()
	o.Buckets = []string{bucket}
	front, err := gcsfront.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return front
}

func serve(t *testing.T, front *gcsfront.Front) string {
	t.Helper()
	base, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return base
}

// serveBehind serves a handler that changes what passes through it.
func serveBehind(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// openStore opens a store with pauses short enough for tests.
func openStore(t *testing.T, base, prefix string) *gcs.Store {
	t.Helper()
	s, err := gcs.Open(t.Context(), gcs.Options{
		Bucket: bucket, Prefix: prefix, Endpoint: base,
		BackoffBase: time.Millisecond, BackoffMax: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	t.Run("emulator", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return openStore(t, serve(t, newFront(t, gcsfront.Options{})), "database/1")
		})
	})
	t.Run("emulator that throttles, at the root of a bucket", func(t *testing.T) {
		storetest.Races(t, func(t *testing.T) store.Store {
			rate := &gcsfront.Rate{PerSecond: 200, Burst: 2}
			return openStore(t, serve(t, newFront(t, gcsfront.Options{Rate: rate})), "")
		})
	})
	url := os.Getenv(realBucketEnv)
	if url == "" {
		t.Logf("%s is not set: no real bucket is tested", realBucketEnv)
		return
	}
	t.Run("real bucket", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return openReal(t, url) })
	})
}

// openReal opens a fresh prefix of a real bucket, and empties it in the end.
func openReal(t *testing.T, url string) store.Store {
	name, prefix, err := gcs.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gcs.Open(t.Context(), gcs.Options{Bucket: name, Prefix: strings.TrimPrefix(prefix+"/"+store.NewWriteID(), "/")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context()) // which is done by now
		for a, err := range s.List(ctx, "", "") {
			if err != nil {
				t.Errorf("clean up %s: %v", s, err)
				break
			}
			if err := s.Delete(ctx, a.Key); err != nil {
				t.Errorf("clean up %s: %v", s, err)
			}
		}
		_ = s.Close()
	})
	return s
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []gcs.Options{
		{},
		{Bucket: "Upper"},
		{Bucket: bucket, Prefix: "a//b"},
		{Bucket: bucket, Prefix: "/a"},
		{Bucket: bucket, Endpoint: "http://host/path"},
		{Bucket: bucket, Endpoint: "ftp://host"},
		{Bucket: bucket, Endpoint: "http://"},
		{Bucket: bucket, Endpoint: "http://host", Attempts: -1},
	} {
		if s, err := gcs.Open(t.Context(), o); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("open %+v: %v, %v; want ErrInvalid", o, s, err)
		}
	}
}

func TestKeyMustFitWithItsPrefix(t *testing.T) {
	s := openStore(t, "http://127.0.0.1:1", "prefix") // nothing is sent
	key := strings.Repeat("k", store.MaxKeyBytes-len("prefix/")+1)
	_, get := s.Get(t.Context(), key)
	_, getRange := s.GetRange(t.Context(), key, 0, 1)
	_, put := s.Put(t.Context(), key, nil, "", store.Always())
	for _, err := range []error{get, getRange, put, s.Delete(t.Context(), key)} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a name that is too long: %v, want ErrInvalid", err)
		}
	}
}

func TestOpenHonoursTheEmulatorVariable(t *testing.T) {
	base := serve(t, newFront(t, gcsfront.Options{}))
	for _, value := range []string{base, strings.TrimPrefix(base, "http://"), base + "/"} {
		t.Setenv("STORAGE_EMULATOR_HOST", value)
		s := openStore(t, "", "variable")
		if _, err := s.Put(t.Context(), "key", []byte("body"), store.NewWriteID(), store.Always()); err != nil {
			t.Fatalf("put with STORAGE_EMULATOR_HOST=%s: %v", value, err)
		}
		if o, err := s.Get(t.Context(), "key"); err != nil || string(o.Body) != "body" {
			t.Errorf("get with STORAGE_EMULATOR_HOST=%s: %q, %v", value, o.Body, err)
		}
	}
	t.Setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1") // the option takes precedence
	if _, err := openStore(t, base, "variable").Get(t.Context(), "key"); err != nil {
		t.Errorf("get with an endpoint of its own: %v", err)
	}
}

func TestParseURL(t *testing.T) {
	for _, tt := range []struct{ url, bucket, prefix string }{
		{"gs://bucket", "bucket", ""},
		{"gs://bucket/", "bucket", ""},
		{"gs://bucket/a", "bucket", "a"},
		{"gs://my.bucket-1_2/a/b/", "my.bucket-1_2", "a/b"},
	} {
		b, p, err := gcs.ParseURL(tt.url)
		if err != nil || b != tt.bucket || p != tt.prefix {
			t.Errorf("parse %q: %q, %q, %v; want %q, %q", tt.url, b, p, err, tt.bucket, tt.prefix)
		}
	}
	for _, url := range []string{
		"", "bucket/prefix", "s3://bucket/prefix", "gs:/bucket", "gs://", "gs:///prefix", "gs://Bucket", "gs://b", "gs://-bucket",
		"gs://bucket//", "gs://bucket/a//b", "gs://bucket/../b", "gs://bucket/a\n",
	} {
		b, p, err := gcs.ParseURL(url)
		if !errors.Is(err, store.ErrInvalid) || b != "" || p != "" {
			t.Errorf("parse %q: %q, %q, %v; want nothing and ErrInvalid", url, b, p, err)
		}
	}
	if _, _, err := gcs.ParseURL("s3://bucket/prefix"); err == nil || !strings.Contains(err.Error(), "gs://bucket/prefix") {
		t.Errorf("the message does not say what to write: %v", err)
	}
}

// stored lists everything in the bucket as "key=body".
func stored(t *testing.T, s *gcs.Store) string {
	t.Helper()
	var all []string
	for a, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Get(t.Context(), a.Key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s=%s@%d", a.Key, o.Body, a.Gen))
	}
	return strings.Join(all, " ")
}

func wantMessage(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the message does not name %q: %v", word, err)
		}
	}
}
