package takeover

import (
	"errors"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/lease"
	"blobpglite/core/point"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// TestLateOpenerFencesNobody: an opener whose lease expired before its fence, and went to another opener, gives up without a fence: the
// other continues.
func TestLateOpenerFencesNobody(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	mustOpen(t, st, "old")
	var rival *Opened
	clk := clock.NewVirtual(t0.Add(time.Hour))
	late := opts(st, "late", 0, hooked(t, point.RestoreAfterManifest, func() {
		clk.Advance(time.Hour)
		rival = mustOpen(t, st, "rival", func(o *Options) { o.Clock = clock.NewVirtual(t0.Add(3 * time.Hour)) })
	}))
	late.Clock = clk
	_, err := Open(t.Context(), late)
	if !errors.Is(err, ErrRival) || !errors.Is(err, lease.ErrLost) {
		t.Errorf("the late opener was told: %v", err)
	}
	if err := appendID(t, rival, "a"); err != nil {
		t.Errorf("the rival, which has the lease: %v", err)
	}
}

// TestSlowOpenerRenews: an opener whose lease expired before its fence, and was not taken by another, continues.
func TestSlowOpenerRenews(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	mustOpen(t, st, "old")
	clk := clock.NewVirtual(t0.Add(time.Hour))
	slow := opts(st, "slow", 0, hooked(t, point.RestoreAfterManifest, func() { clk.Advance(time.Hour) }))
	slow.Clock = clk
	o, err := Open(t.Context(), slow)
	if err != nil {
		t.Fatal(err)
	}
	if !o.Lease.Valid() {
		t.Error("it writes without a lease")
	}
	if err := appendID(t, o, "a"); err != nil {
		t.Error(err)
	}
}

// TestSleeperDoesNotStopTheHolder: an opener sleeps between its lease and its fence, and wakes when the lease has gone to another one. If
// it fences before the holder does, the holder starts over, and fences the sleeper; otherwise the sleeper gives up.
func TestSleeperDoesNotStopTheHolder(t *testing.T) {
	t.Parallel()
	for _, at := range []point.Point{point.FenceBeforePut, point.FenceAfterPut} { // of the holder, when the sleeper wakes
		st := mem.New(mem.Options{})
		mustOpen(t, st, "old")
		clk := clock.NewVirtual(t0.Add(time.Hour))
		sleeper := opts(st, "sleeper", 0, nil)
		sleeper.Clock = clk
		wake, slept := make(chan struct{}), make(chan struct{})
		sleeper.Hook = hooked(t, point.FenceBeforePut, func() { close(slept); <-wake })
		var late *Opened
		var lateErr error
		woken := make(chan struct{})
		go func() {
			defer close(woken)
			late, lateErr = Open(t.Context(), sleeper)
		}()
		<-slept
		clk.Advance(time.Hour)
		holder, err := open(t, st, "holder", func(o *Options) {
			o.Clock = clock.NewVirtual(t0.Add(3 * time.Hour))
			o.Hook = hooked(t, at, func() { close(wake); <-woken })
		})
		if err != nil {
			t.Fatalf("%s: the holder of the lease, stopped by a sleeper: %v", at, err)
		}
		if err := appendID(t, holder, "a"); err != nil {
			t.Errorf("%s: the holder: %v", at, err)
		}
		switch {
		case at == point.FenceAfterPut:
			if !errors.Is(lateErr, ErrRival) {
				t.Errorf("%s: the sleeper was told: %v", at, lateErr)
			}
		case lateErr != nil:
			t.Errorf("%s: the sleeper did not fence: %v", at, lateErr)
		default:
			if err := appendID(t, late, "b"); !errors.Is(err, wal.ErrFenced) {
				t.Errorf("%s: the sleeper: %v", at, err)
			}
		}
	}
}
