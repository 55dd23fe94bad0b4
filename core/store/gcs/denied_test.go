package gcs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
)

// everyOperation calls each operation once and returns their errors by name.
func everyOperation(ctx context.Context, s *gcs.Store) map[string]error {
	errs := make(map[string]error)
	_, errs["get"] = s.Get(ctx, "key")
	_, errs["get range"] = s.GetRange(ctx, "key", 0, 1)
	_, errs["create"] = s.Put(ctx, "new", []byte("x"), store.NewWriteID(), store.IfAbsent())
	_, errs["swap"] = s.Put(ctx, "key", []byte("x"), store.NewWriteID(), store.IfGen(1))
	_, errs["overwrite"] = s.Put(ctx, "key", []byte("x"), "", store.Always())
	errs["delete"] = s.Delete(ctx, "key")
	for _, err := range s.List(ctx, "", "") {
		errs["list"] = err
	}
	errs["probe"] = s.Probe(ctx)
	return errs
}

func TestDeniedAccess(t *testing.T) {
	for _, tt := range []struct {
		status int
		words  []string
	}{
		{http.StatusForbidden, []string{bucket, "roles/storage.objectUser", "add-iam-policy-binding"}},
		{http.StatusUnauthorized, []string{bucket, "roles/storage.objectUser", "gcloud auth application-default login"}},
	} {
		t.Run(strconv.Itoa(tt.status), func(t *testing.T) {
			front := newFront(t, gcsfront.Options{})
			var denies atomic.Bool
			base := serveBehind(t, func(w http.ResponseWriter, r *http.Request) {
				if denies.Load() {
					_, _ = io.Copy(io.Discard, r.Body)
					http.Error(w, `{"error":{"code":`+strconv.Itoa(tt.status)+`}}`, tt.status)
					return
				}
				front.ServeHTTP(w, r)
			})
			s := openStore(t, base, "db")
			if _, err := s.Put(t.Context(), "key", []byte("body"), store.NewWriteID(), store.IfAbsent()); err != nil {
				t.Fatal(err)
			}
			before := stored(t, s)
			denies.Store(true)
			for name, err := range everyOperation(t.Context(), s) {
				if !errors.Is(err, store.ErrDenied) {
					t.Errorf("%s: %v, want ErrDenied", name, err)
				}
				wantMessage(t, err, tt.words...)
			}
			denies.Store(false)
			if after := stored(t, s); after != before {
				t.Errorf("the bucket changed from %q to %q", before, after)
			}
		})
	}
}

// A write that may have been applied stays unknown, even if access is denied from then on.
func TestDeniedAfterALostReply(t *testing.T) {
	s := faultyStore(t,
		gcsfront.Rule{Op: gcsfront.OpPut, Phase: gcsfront.After, Nth: 1, Do: gcsfront.Lose},
		gcsfront.Rule{Op: gcsfront.OpStat, Phase: gcsfront.Before, Every: 1, Do: gcsfront.Deny},
		gcsfront.Rule{Op: gcsfront.OpPut, Phase: gcsfront.Before, Nth: 2, Do: gcsfront.Deny})
	_, err := s.Put(t.Context(), "key", nil, store.NewWriteID(), store.IfAbsent())
	if !errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrDenied) {
		t.Errorf("put: %v, want ErrUnknown", err)
	}
}

func TestMissingBucket(t *testing.T) {
	base := serve(t, newFront(t, gcsfront.Options{}))
	for _, name := range []string{"get", "get range", "create", "swap", "overwrite", "list", "probe"} {
		s, err := gcs.Open(t.Context(), gcs.Options{Bucket: "no-such-bucket", Endpoint: base, BackoffBase: time.Millisecond, Attempts: 2})
		if err != nil {
			t.Fatal(err)
		}
		err = everyOperation(t.Context(), s)[name]
		if !errors.Is(err, store.ErrDenied) {
			t.Errorf("%s: %v, want ErrDenied", name, err)
		}
		wantMessage(t, err, "no-such-bucket", "does not exist", "gcloud storage buckets create")
		_ = s.Close()
	}
}

func TestProbe(t *testing.T) {
	front := newFront(t, gcsfront.Options{Rate: &gcsfront.Rate{PerSecond: 100, Burst: 1}})
	s := openStore(t, serve(t, front), "db")
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("probe of a good bucket: %v", err)
	}
	if left := stored(t, s); left != "" {
		t.Errorf("the probe left %q", left)
	}
}

func TestProbeRefusesAStoreThatIgnoresConditions(t *testing.T) {
	for name, ignores := range map[string]func(match string) bool{
		"both":   func(match string) bool { return match != "" },
		"create": func(match string) bool { return match == "0" },
		"swap":   func(match string) bool { return match != "" && match != "0" },
	} {
		t.Run(name, func(t *testing.T) {
			front := newFront(t, gcsfront.Options{})
			base := serveBehind(t, func(w http.ResponseWriter, r *http.Request) {
				query := r.URL.Query()
				if ignores(query.Get("ifGenerationMatch")) {
					query.Del("ifGenerationMatch")
				}
				r.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: query.Encode()}
				front.ServeHTTP(w, r)
			})
			s := openStore(t, base, "db")
			err := s.Probe(t.Context())
			if !errors.Is(err, gcs.ErrConditionsIgnored) {
				t.Errorf("probe: %v, want ErrConditionsIgnored", err)
			}
			wantMessage(t, err, "gs://test-bucket/db", "overwrite")
			if left := stored(t, s); left != "" {
				t.Errorf("the probe left %q", left)
			}
		})
	}
}

// tamper serves a bucket and changes the bodies read from it.
func tamper(t *testing.T, change func(header http.Header, body []byte) []byte) *gcs.Store {
	front := newFront(t, gcsfront.Options{})
	base := serveBehind(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("alt") != "media" {
			front.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		front.ServeHTTP(rec, r)
		body := change(rec.Header(), rec.Body.Bytes())
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	})
	s := openStore(t, base, "db")
	if _, err := s.Put(t.Context(), "key", bytes.Repeat([]byte("x"), 1000), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCorruptBody(t *testing.T) {
	s := tamper(t, func(_ http.Header, body []byte) []byte {
		body[500] ^= 1
		return body
	})
	if o, err := s.Get(t.Context(), "key"); !errors.Is(err, store.ErrCorrupt) || o.Body != nil {
		t.Errorf("get: %d bytes, %v; want ErrCorrupt", len(o.Body), err)
	}
	var flips atomic.Int32
	s = tamper(t, func(_ http.Header, body []byte) []byte {
		if flips.Add(1) == 1 { // in transit, once
			body[500] ^= 1
		}
		return body
	})
	if _, err := s.Get(t.Context(), "key"); err != nil {
		t.Errorf("get of a body that is read well the second time: %v", err)
	}
}

func TestResponseSizeIsBounded(t *testing.T) {
	s := tamper(t, func(header http.Header, body []byte) []byte {
		header.Set("Content-Length", strconv.Itoa(store.MaxBodyBytes+1))
		return body
	})
	_, err := s.Get(t.Context(), "key")
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("get: %v, want ErrCorrupt", err)
	}
	wantMessage(t, err, strconv.Itoa(store.MaxBodyBytes))
}

// impatient is a clock that does not wait, and notes how long it should have.
type impatient struct {
	clock.Clock
	pauses []time.Duration
}

func (c *impatient) Sleep(ctx context.Context, d time.Duration) error {
	c.pauses = append(c.pauses, d)
	return ctx.Err()
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	front := newFront(t, gcsfront.Options{Rules: []gcsfront.Rule{{Phase: gcsfront.Before, Every: 1, Do: gcsfront.Unavailable}}})
	clk := &impatient{Clock: clock.System()}
	s, err := gcs.Open(t.Context(), gcs.Options{
		Bucket: bucket, Endpoint: serve(t, front), Clock: clk, Jitter: func() float64 { return 0.5 },
		Attempts: 6, BackoffBase: time.Second, BackoffMax: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Get(t.Context(), "key"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	want := []time.Duration{750 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 3750 * time.Millisecond, 3750 * time.Millisecond}
	if len(clk.pauses) != len(want) {
		t.Fatalf("pauses %v, want %v", clk.pauses, want)
	}
	for i := range want {
		if clk.pauses[i] != want[i] {
			t.Errorf("pause %d is %v, want %v", i, clk.pauses[i], want[i])
		}
	}
	if n := front.Counters().Requests; n != 6 {
		t.Errorf("%d requests, want the 6 attempts", n)
	}
}
