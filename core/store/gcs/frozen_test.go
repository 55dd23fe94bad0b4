package gcs_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/faults/gcsfront"
)

// While a process was frozen, the service closed its idle connections. The first write afterwards costs at most one retry, however many of
// them are dead, and no pause.
func TestDeadConnectionsCostOneRepetition(t *testing.T) {
	const kept, rounds = 8, 25
	front := newFront(t, gcsfront.Options{})
	var looks atomic.Int64
	var gate sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Query().Get("alt") != "media" {
			looks.Add(1)
		}
		if r.URL.Query().Get("alt") == "media" { // answered once all have come: each needs a connection
			gate.Done()
			gate.Wait()
		}
		front.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	clk := &impatient{Clock: clock.System()}
	s, err := gcs.Open(t.Context(), gcs.Options{Bucket: bucket, Prefix: "db", Endpoint: server.URL, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Put(t.Context(), "key", nil, "", store.Always()); err != nil {
		t.Fatal(err)
	}
	repeated, spent := 0, time.Duration(0)
	for round := range rounds {
		gate.Add(kept)
		var all sync.WaitGroup
		for range kept {
			all.Go(func() { _, _ = s.Get(t.Context(), "key") })
		}
		all.Wait()
		server.CloseClientConnections()
		before, at := looks.Load(), clk.Monotonic()
		if _, err := s.Put(t.Context(), fmt.Sprint("wal/", round), []byte("record"), store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		spent += clk.Monotonic() - at
		if n := looks.Load() - before; n > 1 {
			t.Errorf("round %d: the write broke %d times", round, n)
		} else if n > 0 {
			repeated++
		}
	}
	if repeated == 0 {
		t.Error("no write met a dead connection: the test shows nothing")
	}
	if len(clk.pauses) > 0 {
		t.Errorf("it paused %v", clk.pauses)
	}
	t.Logf("%d of %d were sent twice; %v each", repeated, rounds, spent/rounds)
}

// The cost of a connection that breaks: the write, a look, the write again; there is a pause after a second break in a row.
func TestBrokenConnection(t *testing.T) {
	for breaks, pauses := range []int{0, 0, 1} {
		var rules []gcsfront.Rule // each strikes the first request that reaches it
		for range breaks {
			rules = append(rules, gcsfront.Rule{Op: gcsfront.OpPut, Phase: gcsfront.Before, Nth: 1, Do: gcsfront.Lose})
		}
		front := newFront(t, gcsfront.Options{Rules: rules})
		clk := &impatient{Clock: clock.System()}
		s, err := gcs.Open(context.Background(), gcs.Options{Bucket: bucket, Endpoint: serve(t, front), Clock: clk})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "key", nil, store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Errorf("%d breaks: %v", breaks, err)
		}
		if n := front.Counters().Requests; int(n) != 1+2*breaks || len(clk.pauses) != pauses {
			t.Errorf("%d breaks: %d requests, %d pauses", breaks, n, len(clk.pauses))
		}
		_ = s.Close()
	}
}
