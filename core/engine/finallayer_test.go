package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/faults/clockfault"
)

// putOff opens a database on which a layer is due after a few commits, and put off.
func putOff(t *testing.T, st store.Store, hook point.Hook) *Engine {
	t.Helper()
	e := open(t, st, inLog, func(o *Options) { o.RecordTime, o.Hook = 20*time.Millisecond, hook })
	e.commits.(*logMode).budget.pause.Store(math.MaxInt64)
	must(t, e, "CREATE TABLE t (a int)")
	for i := range 10 { // with the table 11 records of 20 ms: more than half of the least budget
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	return e
}

// layers is the number of the newest layer that the manifest names.
func layers(t *testing.T, st store.Store) int {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	return int(m.Layers[len(m.Layers)-1].Seq)
}

// TestFinalLayer: an engine that ends takes the layer that was put off; the next opener replays almost nothing. Without debt no layer is
// taken.
func TestFinalLayer(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := putOff(t, st, nil)
	before := layers(t, st)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := layers(t, st)
	if after <= before {
		t.Fatal("no layer was taken")
	}
	e = open(t, st, inLog)
	if n := e.Opened().Records; n > 1 {
		t.Errorf("%d records were replayed", n)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != "10" {
		t.Errorf("%s rows", got)
	}
	must(t, e, "INSERT INTO t VALUES (10)")
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if layers(t, st) != after {
		t.Error("a layer was taken for one commit")
	}
}

// TestFinalLayerIsInNobodysWay: the lease is free before the layer is uploaded, and a successor that opens, commits and takes a layer of
// its own during the upload is not disturbed, wherever the upload is.
func TestFinalLayerIsInNobodysWay(t *testing.T) {
	t.Parallel()
	for _, at := range []point.Point{point.BaseBeforeSegment, point.BaseAfterIndex, point.ManifestBeforeCAS} {
		for _, compacts := range []bool{false, true} {
			st := mem.New(mem.Options{})
			var once sync.Once
			var armed bool
			var next *Engine
			e := putOff(t, st, func(ctx context.Context, p point.Point) error {
				if p == at && armed {
					once.Do(func() {
						next = open(t, st, inLog, func(o *Options) { o.RestoreBudget, o.AcquireTimeout = -1, 0 })
						must(t, next, "INSERT INTO t VALUES (100)")
						if compacts {
							if err := next.Compact(ctx); err != nil {
								t.Error(err)
							}
						}
					})
				}
				return nil
			})
			armed = true
			if err := e.Close(t.Context()); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			if next == nil {
				t.Fatalf("%s was not passed", at)
			}
			must(t, next, "INSERT INTO t VALUES (101)")
			if err := next.Close(t.Context()); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			last := open(t, st, inLog)
			if got := must(t, last, "SELECT count(*) FROM t"); got != "12" {
				t.Errorf("%s: %s rows", at, got)
			}
		}
	}
}

// TestFinalLayerInsteadOfOneOnItsWay: a layer that is under way when the engine ends is given up for a complete one.
func TestFinalLayerInsteadOfOneOnItsWay(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	var armed atomic.Bool
	stuck := make(chan struct{})
	e := putOff(t, st, func(ctx context.Context, p point.Point) error {
		if p == point.BaseBeforeSegment && armed.CompareAndSwap(true, false) {
			close(stuck)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	armed.Store(true)
	e.commits.(*logMode).budget.pause.Store(0)
	must(t, e, "INSERT INTO t VALUES (10)")
	<-stuck
	for i := range 10 {
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", 11+i))
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	e = open(t, st, inLog)
	if n := e.Opened().Records; n > 1 {
		t.Errorf("%d records were replayed", n)
	}
	if got := must(t, e, "SELECT count(*) FROM t"); got != "21" {
		t.Errorf("%s rows", got)
	}
}

// TestFinalLayerFails: what is durable stays durable, and the close succeeds.
func TestFinalLayerFails(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	armed := false
	e := putOff(t, st, func(_ context.Context, p point.Point) error {
		if p == point.BaseAfterSegment && armed {
			return errors.New("the bucket does not answer")
		}
		return nil
	})
	armed = true
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	e = open(t, st, inLog, func(o *Options) { o.AcquireTimeout = 0 })
	if got := must(t, e, "SELECT count(*) FROM t"); got != "10" {
		t.Errorf("%s rows", got)
	}
}

// TestShortLivesAreCollected: where each life ends before a layer is due, what they leave behind does not grow with their number.
func TestShortLivesAreCollected(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	objects := func() (n int) {
		for _, err := range st.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	most := [4]int{}
	clk := clockfault.New(clock.System())
	for life := range len(most) * collectEvery {
		e := open(t, st, inLog, func(o *Options) { o.Clock, o.Retain = clk, time.Hour })
		if life == 0 {
			must(t, e, "CREATE TABLE t (a int)")
		}
		for range 15 {
			must(t, e, "INSERT INTO t VALUES (1)")
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		most[life/collectEvery] = max(most[life/collectEvery], objects()-life) // less the fences
		clk.Jump(10 * time.Minute)
	}
	if 2*most[3] > 3*most[1] {
		t.Errorf("objects without fences in each %d lives, at most: %v", collectEvery, most)
	}
	t.Logf("objects without fences in each %d lives, at most: %v", collectEvery, most)
	e := open(t, st, inLog, func(o *Options) { o.Clock = clk })
	if got, want := must(t, e, "SELECT count(*) FROM t"), fmt.Sprint(len(most)*collectEvery*15); got != want {
		t.Errorf("%s rows, %s expected", got, want)
	}
}

// lateSwap is a store on which one write of the manifest is given up without an answer, and applied late.
type lateSwap struct {
	*mem.Store
	armed atomic.Bool
	apply func() error // nil: there was none
}

func (s *lateSwap) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	switch {
	case key != manifest.Key || !s.armed.Load():
		return s.Store.Put(ctx, key, body, writeID, cond)
	case s.apply != nil: // a retry is not let through, and learns nothing more
		return 0, store.ErrDenied
	}
	s.apply = func() error {
		_, err := s.Store.Put(context.WithoutCancel(ctx), key, body, writeID, cond)
		return err
	}
	return 0, store.ErrUnknown
}

// TestCollectionBehindALateSwap: a collection at the end deletes nothing that the manifest may yet name: a layer whose publication was
// given up without an answer.
func TestCollectionBehindALateSwap(t *testing.T) {
	t.Parallel()
	st := &lateSwap{Store: mem.New(mem.Options{})}
	for range collectEvery - 1 {
		if err := open(t, st, inLog).Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := putOff(t, st, nil)
	if e.Opened().Epoch%collectEvery != 0 {
		t.Fatalf("epoch %d does not collect", e.Opened().Epoch)
	}
	before := layers(t, st)
	st.armed.Store(true)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	st.armed.Store(false)
	if st.apply == nil {
		t.Fatal("no layer was published")
	}
	if err := st.apply(); err != nil {
		t.Fatal(err)
	}
	if layers(t, st) == before {
		t.Fatal("the late swap was not applied")
	}
	e = open(t, st, inLog)
	if got := must(t, e, "SELECT count(*) FROM t"); got != "10" {
		t.Errorf("%s rows of 10 are left", got)
	}
}
