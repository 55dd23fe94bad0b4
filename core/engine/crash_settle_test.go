package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// keepNothing has a database keep no earlier states, so what a new layer replaces is collected immediately.
func keepNothing(t *testing.T, st store.Store) {
	t.Helper()
	if _, err := manifest.SetRetain(t.Context(), st, 0, nil); err != nil {
		t.Fatal(err)
	}
}

// TestCrashBehindALayer: PostgreSQL crashes between a layer's publication and the moment at which the files learn where they are now. Their
// pages are still where the previous layers put them, so nothing is collected, and nothing that is away is lost.
func TestCrashBehindALayer(t *testing.T) {
	t.Parallel()
	st := large(t)
	want := fmt.Sprint(bulkRows, bulkRows*padBytes)
	crashed, goOn := make(chan struct{}), make(chan struct{})
	var kill atomic.Bool
	var e *Engine
	e = open(t, st, inLog, cached, func(o *Options) {
		o.Hook = func(_ context.Context, p point.Point) error {
			switch {
			case p == point.ProcessBeforeRestart:
				close(crashed)
				<-goOn
			case p == point.ManifestAfterCAS && kill.CompareAndSwap(true, false):
				c, err := e.server.running()
				if err != nil {
					return err
				}
				c.Kill()
				<-crashed
			}
			return nil
		}
	})
	// Most of each segment is written again, so that the layer cleans them, and a collection after it would delete them.
	must(t, e, "UPDATE t SET n = n + 1 WHERE id % 9 > 0")
	before := 0
	for key := range objects(t, st) {
		if strings.HasPrefix(key, "page/") {
			before++
		}
	}
	kill.Store(true)
	err := e.Compact(t.Context())
	if !errors.Is(err, ErrCrashed) || before == 0 {
		t.Errorf("the layer: %v", err)
	}
	close(goOn)
	if got := must(t, e, "SELECT count(*) || ' ' || sum(length(pad)) FROM t"); got != want {
		t.Errorf("behind the crash: %s", got)
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := must(t, e, "SELECT count(*) || ' ' || sum(length(pad)) FROM t"); got != want {
		t.Errorf("behind another layer: %s", got)
	}
}

// TestFailuresOfACache: whatever fails at a point on the path of evicted pages, those that are away are where their files look for them, in
// this life and the next.
func TestFailuresOfACache(t *testing.T) {
	t.Parallel()
	const contents = "SELECT count(*) || ' ' || sum(length(pad)) || ' ' || sum(n) FROM t"
	st := large(t)
	keepNothing(t, st)
	var passed atomic.Int64 // points, each of which fails once
	var unsettled atomic.Bool
	fails := map[point.Point]*atomic.Bool{}
	for _, p := range point.OfCache() {
		fails[p] = &atomic.Bool{}
	}
	e := open(t, st, inLog, cached, func(o *Options) {
		o.RestoreBudget = -1 // no layer is due: one before the failures would clean what they are about
		o.Hook = func(_ context.Context, at point.Point) error {
			if at == point.CacheBeforeSettle && unsettled.Load() {
				return fmt.Errorf("%s fails", at)
			}
			if f := fails[at]; f != nil && f.CompareAndSwap(true, false) {
				passed.Add(1)
				return fmt.Errorf("%s fails", at)
			}
			return nil
		}
	})
	// Most pages of each segment are written, and others are away: the layer cleans those segments, and a collection after it would delete
	// the away pages.
	must(t, e, "UPDATE t SET n = n + 1 WHERE id / 100 % 9 > 1")
	want := must(t, e, contents)
	unsettled.Store(true) // each layer fails: one that succeeds would mend what one before it has done wrong
	if err := e.Compact(t.Context()); err == nil {
		t.Error("no layer failed")
	}
	if got := must(t, e, contents); got != want {
		t.Fatalf("files were not told of a layer: %s", got)
	}
	unsettled.Store(false)
	for _, f := range fails {
		f.Store(true)
	}
	for passed.Load() < int64(len(fails)) {
		_ = e.Compact(t.Context()) // it may fail
		if got := must(t, e, contents); got != want {
			t.Fatalf("%d points failed: %s", passed.Load(), got)
		}
		must(t, e, "CREATE TABLE IF NOT EXISTS other (i int); INSERT INTO other VALUES (1); SELECT 1") // so that there is another layer to take
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := must(t, e, contents); got != want {
			t.Errorf("behind all failures: %s", got)
		}
		e.Abandon()
		e = open(t, st, inLog, cached)
	}
}
