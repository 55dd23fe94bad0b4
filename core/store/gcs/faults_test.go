package gcs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/store/mem"
	"blobpglite/faults/gcsfront"
)

// faultyStore is a store over a front with rules; the test fails if one of them never fires.
func faultyStore(t *testing.T, rules ...gcsfront.Rule) *gcs.Store {
	t.Helper()
	front := newFront(t, gcsfront.Options{Rules: rules})
	s := openStore(t, serve(t, front), "db")
	t.Cleanup(func() {
		for _, f := range front.Fired() {
			if f.Fired == 0 {
				t.Errorf("rule %q never fired (%d matches): the test shows nothing", f.Rule, f.Matched)
			}
		}
	})
	return s
}

// Whatever happens to a conditional put's request or reply, it ends in success, and the only object is ours.
func TestConditionalPutSurvives(t *testing.T) {
	const before, after = gcsfront.Before, gcsfront.After
	for _, rule := range []gcsfront.Rule{
		{Phase: after, Do: gcsfront.Lose},
		{Phase: after, Do: gcsfront.Reset},
		{Phase: after, Do: gcsfront.Reset, N: 20},
		{Phase: after, Do: gcsfront.Cut, N: 20},
		{Phase: after, Do: gcsfront.Unavailable},
		{Phase: before, Do: gcsfront.Lose},
		{Phase: before, Do: gcsfront.Reset},
		{Phase: before, Do: gcsfront.Unavailable},
		{Phase: before, Do: gcsfront.Throttle},
	} {
		rule.Op, rule.KeyClass = gcsfront.OpPut, "victim"
		for _, tt := range []struct {
			name string
			nth  int
		}{{"create", 1}, {"swap", 2}} {
			rule.Nth = tt.nth
			t.Run(tt.name+" "+rule.String(), func(t *testing.T) {
				s := faultyStore(t, rule)
				cond := store.IfAbsent()
				if tt.name == "swap" {
					gen, err := s.Put(t.Context(), "victim", []byte("old"), store.NewWriteID(), store.IfAbsent())
					if err != nil {
						t.Fatal(err)
					}
					cond = store.IfGen(gen)
				}
				id := store.NewWriteID()
				gen, err := s.Put(t.Context(), "victim", []byte("new"), id, cond)
				if err != nil {
					t.Fatalf("put: %v", err)
				}
				o, err := s.Get(t.Context(), "victim")
				if err != nil || string(o.Body) != "new" || o.WriteID != id || o.Gen != gen {
					t.Errorf("stored %q, generation %d, write id %q (%v); want ours, generation %d", o.Body, o.Gen, o.WriteID, err, gen)
				}
			})
		}
	}
}

// Why this package looks back: the SDK alone sends the upload again when the reply is lost, and reports its own object as a conflict.
func TestPlainSDKCollidesWithItself(t *testing.T) {
	front := newFront(t, gcsfront.Options{Rules: []gcsfront.Rule{{Op: gcsfront.OpPut, Phase: gcsfront.After, Nth: 1, Do: gcsfront.Unavailable}}})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client, err := storage.NewClient(t.Context(), option.WithEndpoint(serve(t, front)+"/storage/v1/"), option.WithoutAuthentication(),
		option.WithHTTPClient(&http.Client{Transport: transport}), storage.WithJSONReads())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	object := client.Bucket(bucket).Object("key")
	w := object.If(storage.Conditions{DoesNotExist: true}).NewWriter(t.Context())
	_, _ = w.Write([]byte("ours")) // Close tells
	var status *googleapi.Error
	if err := w.Close(); !errors.As(err, &status) || status.Code != http.StatusPreconditionFailed {
		t.Errorf("mended: the SDK reports %v, no longer a failed precondition", err)
	}
	if attrs, err := object.Attrs(t.Context()); err != nil || attrs.Size != int64(len("ours")) {
		t.Errorf("our object is not stored: %+v, %v", attrs, err)
	}
}

// 429 on a create does not say who was first: the name is looked at.
func TestThrottledCreateLooks(t *testing.T) {
	throttle := gcsfront.Rule{Op: gcsfront.OpPut, KeyClass: "contested", Phase: gcsfront.Before, Do: gcsfront.Throttle}

	throttle.Nth = 2
	s := faultyStore(t, throttle)
	theirs, err := s.Put(t.Context(), "contested", []byte("theirs"), store.NewWriteID(), store.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), "contested", []byte("ours"), store.NewWriteID(), store.IfAbsent())
	var op *store.OpError
	if !errors.Is(err, store.ErrConflict) || !errors.As(err, &op) || op.Gen != theirs {
		t.Errorf("somebody else's object is there: %v, want ErrConflict with generation %d", err, theirs)
	}

	throttle.Nth, throttle.Every = 0, 1
	s = faultyStore(t, throttle)
	_, err = s.Put(t.Context(), "contested", []byte("ours"), store.NewWriteID(), store.IfAbsent())
	if !errors.Is(err, store.ErrThrottled) || errors.Is(err, store.ErrUnknown) {
		t.Errorf("never let in, nothing there: %v, want ErrThrottled", err)
	}
}

// What cannot be resolved is reported as unknown, whether or not it was applied.
func TestUnknownOutcome(t *testing.T) {
	const key = "victim"
	blind := gcsfront.Rule{Op: gcsfront.OpStat, Phase: gcsfront.Before, Every: 1, Do: gcsfront.Unavailable}
	for _, tt := range []struct {
		name   string
		phase  gcsfront.Phase
		stored bool
	}{{"applied", gcsfront.After, true}, {"not applied", gcsfront.Before, false}} {
		t.Run(tt.name, func(t *testing.T) {
			s := faultyStore(t, blind, gcsfront.Rule{Op: gcsfront.OpPut, Phase: tt.phase, Every: 1, Do: gcsfront.Lose})
			_, err := s.Put(t.Context(), key, []byte("ours"), store.NewWriteID(), store.IfAbsent())
			if !errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrConflict) {
				t.Errorf("put: %v, want ErrUnknown", err)
			}
			wantMessage(t, err, "gs://test-bucket/db/victim")
			if _, err := s.Get(t.Context(), key); (err == nil) != tt.stored {
				t.Errorf("get: %v; stored: want %v", err, tt.stored)
			}
		})
	}
	t.Run("a conflict that cannot be looked at", func(t *testing.T) {
		s := faultyStore(t, blind)
		for i, want := range []error{nil, store.ErrUnknown} {
			if _, err := s.Put(t.Context(), key, nil, store.NewWriteID(), store.IfAbsent()); !errors.Is(err, want) {
				t.Errorf("put %d: %v, want %v", i, err, want)
			}
		}
	})
	t.Run("unconditional", func(t *testing.T) {
		s := faultyStore(t, gcsfront.Rule{Op: gcsfront.OpPut, Phase: gcsfront.Before, Every: 1, Do: gcsfront.Reset})
		if _, err := s.Put(t.Context(), key, nil, "", store.Always()); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("put: %v, want ErrUnknown", err)
		}
	})
	t.Run("delete", func(t *testing.T) {
		s := faultyStore(t, gcsfront.Rule{Op: gcsfront.OpDelete, Phase: gcsfront.Before, Every: 1, Do: gcsfront.Unavailable})
		if err := s.Delete(t.Context(), key); !errors.Is(err, store.ErrUnknown) {
			t.Errorf("delete: %v, want ErrUnknown", err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		s := faultyStore(t, gcsfront.Rule{Op: gcsfront.OpPut, Phase: gcsfront.After, Every: 1, Do: gcsfront.Delay, Delay: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := s.Put(ctx, key, nil, store.NewWriteID(), store.IfAbsent())
		if !errors.Is(err, store.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put: %v, want ErrUnknown that wraps the deadline", err)
		}
	})
}

// A swap whose reply was lost, and that was replaced by another before we looked, was not refused, but is not there either.
func TestSwapReplacedBeforeTheLook(t *testing.T) {
	front := newFront(t, gcsfront.Options{})
	other := openStore(t, serve(t, front), "db")
	var armed atomic.Bool
	var mine store.Gen
	base := serveBehind(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !armed.Load() {
			front.ServeHTTP(w, r)
			return
		}
		armed.Store(false)
		front.ServeHTTP(httptest.NewRecorder(), r)
		applied, err := other.Get(r.Context(), "key")
		if err != nil {
			t.Error(err)
		}
		mine = applied.Gen
		if _, err := other.Put(r.Context(), "key", []byte("theirs"), store.NewWriteID(), store.IfGen(mine)); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler) // the reply is lost
	})
	s := openStore(t, base, "db")
	first, err := s.Put(t.Context(), "key", []byte("first"), store.NewWriteID(), store.IfAbsent())
	if err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	_, err = s.Put(t.Context(), "key", []byte("mine"), store.NewWriteID(), store.IfGen(first))
	if !errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrConflict) {
		t.Errorf("put: %v, want ErrUnknown: it was applied as generation %d", err, mine)
	}
	if o, err := s.Get(t.Context(), "key"); err != nil || string(o.Body) != "theirs" {
		t.Errorf("%q is stored (%v), want theirs untouched", o.Body, err)
	}
}

// cancelling is a transport that cancels the operation when some of an upload's body has been sent.
type cancelling struct {
	http.RoundTripper
	cancel context.CancelFunc
	after  int // bytes
}

func (c *cancelling) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = &cancellingBody{ReadCloser: r.Body, c: c}
	}
	return c.RoundTripper.RoundTrip(r)
}

type cancellingBody struct {
	io.ReadCloser
	c    *cancelling
	sent int
}

func (b *cancellingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.sent += n; b.sent > b.c.after {
		b.c.cancel()
	}
	return n, err
}

// An upload that is canceled halfway may be stored whole or not at all, never in part.
func TestCancelledUploadIsNeverTruncated(t *testing.T) {
	const uploads, size = 40, 1 << 20
	front := newFront(t, gcsfront.Options{})
	base := serve(t, front)
	body := bytes.Repeat([]byte("x"), size)
	for i := range uploads {
		ctx, cancel := context.WithCancel(t.Context())
		transport := &http.Transport{}
		s, err := gcs.Open(ctx, gcs.Options{Bucket: bucket, Endpoint: base, HTTPClient: &http.Client{
			Transport: &cancelling{RoundTripper: transport, cancel: cancel, after: i * size / uploads}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, fmt.Sprint("key", i), body, store.NewWriteID(), store.IfAbsent()); err != nil && !errors.Is(err, store.ErrUnknown) {
			t.Errorf("put: %v, want ErrUnknown", err)
		}
		_ = s.Close()
		transport.CloseIdleConnections()
	}
	for a, err := range openStore(t, base, "").List(t.Context(), "", "") {
		if err != nil || a.Size != size {
			t.Errorf("%s has %d of %d bytes, %v", a.Key, a.Size, size, err)
		}
	}
}

// damaging is a transport that changes uploads in transit.
type damaging struct{ http.RoundTripper }

func (d damaging) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte("good"), []byte("evil"))))
	}
	return d.RoundTripper.RoundTrip(r)
}

// Every upload carries the checksum of the whole body, so that the service refuses anything else.
func TestDamagedUploadIsRefused(t *testing.T) {
	base := serve(t, newFront(t, gcsfront.Options{}))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	s, err := gcs.Open(t.Context(), gcs.Options{Bucket: bucket, Endpoint: base, HTTPClient: &http.Client{Transport: damaging{transport}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(t.Context(), "key", []byte("good"), store.NewWriteID(), store.IfAbsent()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("put: %v, want ErrUnavailable", err)
	}
	if left := stored(t, openStore(t, base, "")); left != "" {
		t.Errorf("%q is stored", left)
	}
}

func TestReadsSurvive(t *testing.T) {
	const before, after = gcsfront.Before, gcsfront.After
	body := strings.Repeat("0123456789", 100_000)
	for _, rule := range []gcsfront.Rule{
		{Op: gcsfront.OpGet, Phase: before, Do: gcsfront.Unavailable},
		{Op: gcsfront.OpGet, Phase: before, Do: gcsfront.Throttle},
		{Op: gcsfront.OpGet, Phase: before, Do: gcsfront.Reset},
		{Op: gcsfront.OpGet, Phase: after, Do: gcsfront.Lose},
		{Op: gcsfront.OpGet, Phase: after, Do: gcsfront.Reset, N: 500_000},
		{Op: gcsfront.OpGet, Phase: after, Do: gcsfront.Cut, N: 100},
		{Op: gcsfront.OpGet, Phase: after, Do: gcsfront.Cut},
		{Op: gcsfront.OpList, Phase: before, Do: gcsfront.Unavailable},
		{Op: gcsfront.OpList, Phase: after, Do: gcsfront.Cut, N: 10},
		{Op: gcsfront.OpDelete, Phase: after, Do: gcsfront.Lose},
		{Op: gcsfront.OpDelete, Phase: before, Do: gcsfront.Unavailable},
	} {
		// The SDK itself resumes reading once after a break, so there is more than one in a row.
		for _, every := range []int{1, 2} {
			rules := []gcsfront.Rule{rule, rule, rule}
			for i := range rules {
				rules[i].Nth = 1 + i*every
			}
			t.Run(rules[2].String(), func(t *testing.T) {
				front := newFront(t, gcsfront.Options{Rules: rules})
				s := openStore(t, serve(t, front), "db")
				if _, err := s.Put(t.Context(), "key", []byte(body), store.NewWriteID(), store.IfAbsent()); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if o, err := s.Get(t.Context(), "key"); err != nil || string(o.Body) != body {
						t.Errorf("get: %d bytes, %v", len(o.Body), err)
					}
					if o, err := s.GetRange(t.Context(), "key", 300_000, 400_000); err != nil || string(o.Body) != body[300_000:700_000] {
						t.Errorf("get range: %d bytes, %v", len(o.Body), err)
					}
					listed := 0
					for a, err := range s.List(t.Context(), "", "") {
						if err != nil || a.Size != int64(len(body)) {
							t.Errorf("list: %+v, %v", a, err)
						}
						listed++
					}
					if listed != 1 {
						t.Errorf("listed %d objects", listed)
					}
				}
				if err := s.Delete(t.Context(), "key"); err != nil {
					t.Errorf("delete: %v", err)
				}
				if front.Fired()[0].Fired == 0 {
					t.Errorf("rule %q never fired", rule)
				}
			})
		}
	}
}

func TestReadsGiveUp(t *testing.T) {
	for do, want := range map[gcsfront.Action]error{
		gcsfront.Unavailable: store.ErrUnavailable,
		gcsfront.Reset:       store.ErrUnavailable,
		gcsfront.Throttle:    store.ErrThrottled,
	} {
		s := faultyStore(t, gcsfront.Rule{Phase: gcsfront.Before, Every: 1, Do: do})
		_, err := s.Get(t.Context(), "key")
		if !errors.Is(err, want) || errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("get after %s: %v, want %v", do, err, want)
		}
		for _, err := range s.List(t.Context(), "", "") {
			if !errors.Is(err, want) {
				t.Errorf("list after %s: %v, want %v", do, err, want)
			}
		}
	}
}

// Whatever happens to the request or reply of a copy, it ends in success, and the only object is ours.
func TestCopySurvives(t *testing.T) {
	const before, after = gcsfront.Before, gcsfront.After
	for _, rule := range []gcsfront.Rule{
		{Phase: after, Do: gcsfront.Lose},
		{Phase: after, Do: gcsfront.Reset},
		{Phase: after, Do: gcsfront.Cut, N: 20},
		{Phase: after, Do: gcsfront.Unavailable},
		{Phase: before, Do: gcsfront.Lose},
		{Phase: before, Do: gcsfront.Unavailable},
		{Phase: before, Do: gcsfront.Throttle},
	} {
		rule.Op, rule.KeyClass, rule.Nth = gcsfront.OpCopy, "victim", 1
		t.Run(rule.String(), func(t *testing.T) {
			s := faultyStore(t, rule)
			if _, err := s.Put(t.Context(), "source", []byte("body"), store.NewWriteID(), store.IfAbsent()); err != nil {
				t.Fatal(err)
			}
			id := store.NewWriteID()
			a, err := s.CopyFrom(t.Context(), "victim", s, "source", id)
			if err != nil {
				t.Fatalf("copy: %v", err)
			}
			o, err := s.Get(t.Context(), "victim")
			if err != nil || string(o.Body) != "body" || o.WriteID != id || o.Gen != a.Gen || a.Size != o.Size {
				t.Errorf("stored %q, %+v (%v); want ours, %+v", o.Body, o.Attrs, err, a)
			}
		})
	}
}

// TestCopyEnds: a copy is never made over another writer's object, from a missing object, or from another bucket.
func TestCopyEnds(t *testing.T) {
	front := newFront(t, gcsfront.Options{})
	base := serve(t, front)
	from, to := openStore(t, base, "from"), openStore(t, base, "to")
	if _, err := from.Put(t.Context(), "key", []byte("theirs"), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	if _, err := to.CopyFrom(t.Context(), "none", from, "none", store.NewWriteID()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := to.Put(t.Context(), "taken", []byte("ours"), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	if _, err := to.CopyFrom(t.Context(), "taken", from, "key", store.NewWriteID()); !errors.Is(err, store.ErrConflict) {
		t.Errorf("over an object: %v", err)
	}
	if o, err := to.Get(t.Context(), "taken"); err != nil || string(o.Body) != "ours" {
		t.Errorf("it is %q now (%v)", o.Body, err)
	}
	if _, err := to.CopyFrom(t.Context(), "elsewhere", mem.New(mem.Options{}), "key", store.NewWriteID()); !errors.Is(err, store.ErrElsewhere) {
		t.Errorf("from memory: %v", err)
	}
	if a, err := to.CopyFrom(t.Context(), "copy", store.Count(from), "key", store.NewWriteID()); err != nil || a.Size != 6 {
		t.Errorf("through a view: %+v, %v", a, err)
	}
}
