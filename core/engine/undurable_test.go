package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/point"
	"blobpglite/core/store/mem"
)

// TestLayerWaitsForItsRecords: a layer is cut while a commit is under way, and contains it. It is published when the commit's record is in
// the log, at that record's place: an earlier layer would bring back something unacknowledged, and replay it again.
func TestLayerWaitsForItsRecords(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	var m *logMode
	sealed := func() bool {
		m.log.mu.Lock()
		defer m.log.mu.Unlock()
		n := len(m.log.batches)
		return n > 0 && m.log.batches[n-1].sealed
	}
	var onItsWay, early atomic.Bool
	held := make(chan struct{})
	e := open(t, st, inLog, func(o *Options) {
		o.Settings = map[string]string{"autovacuum": "off"}
		o.Hook = func(_ context.Context, p point.Point) error {
			switch {
			case p == point.BaseBeforeSegment && onItsWay.Load():
				early.Store(true)
			case p == point.WalBeforePut && onItsWay.Load():
				close(held)
				for n := 0; !sealed(); n++ {
					if err := clock.System().Sleep(t.Context(), time.Millisecond); err != nil || n == 20000 {
						t.Error("no layer was cut while the commit was on its way")
						break
					}
				}
				_ = clock.System().Sleep(t.Context(), 50*time.Millisecond) // a layer that does not wait has time to begin
				onItsWay.Store(false)
			}
			return nil
		}
	})
	m = e.commits.(*logMode)
	must(t, e, "CREATE TABLE t (a int)")
	c := client(t, e)
	do(t, c, "INSERT INTO t VALUES (1)")
	onItsWay.Store(true)
	inserted := later(t, c, "INSERT INTO t VALUES (2)")
	<-held
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-inserted; err != nil {
		t.Fatal(err)
	}
	if early.Load() {
		t.Error("the layer's pages were uploaded before the record of what is in them")
	}
	if at, tail := layers(t, st), int(m.log.position().Seq); at != tail {
		t.Errorf("the layer is at record %d, and holds that of %d", at, tail)
	}
}
