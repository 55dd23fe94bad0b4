package takeover

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// opts gives each opener a clock an hour ahead of the previous one's, so that leases never stand in the way.
func opts(st store.Store, name string, n int, hook point.Hook) Options {
	return Options{Store: st, Writer: name, Create: true, Parallel: 1, Hook: hook, Clock: clock.NewVirtual(t0.Add(time.Duration(n) * time.Hour))}
}

func write(t *testing.T, l *wal.Log, s string) wal.Position {
	t.Helper()
	at, err := l.Append(context.Background(), []wal.Op{{Kind: wal.OpReplace, Path: "/x", Data: []byte(s)}})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func publish(t *testing.T, st store.Store, epoch uint64, at wal.Position) {
	t.Helper()
	if _, _, err := base.Write(t.Context(), st, fmt.Sprintf("base/%d-%d", epoch, at.Seq), memfs.New(memfs.Options{}), base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	publishBare(t, st, epoch, at)
}

func publishBare(t *testing.T, st store.Store, epoch uint64, at wal.Position) {
	t.Helper()
	l := layerOf(epoch, at)
	l.Key = fmt.Sprintf("base/%d-%d", epoch, at.Seq)
	_, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: epoch}, l)
	if err != nil {
		t.Fatal(err)
	}
}

// layerOf is a manifest's entry for the layer that a writer took at a record.
func layerOf(epoch uint64, at wal.Position) manifest.Layer {
	return manifest.Layer{Key: base.Key(epoch, at.Seq), Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:])}
}

// hooked fires f once at a point, and fails the test if the point was never passed: f's effect is what the test is about.
func hooked(t *testing.T, p point.Point, f func()) point.Hook {
	t.Helper()
	var fired atomic.Bool
	t.Cleanup(func() {
		if !fired.Load() {
			t.Errorf("nothing came to %s: the test shows nothing", p)
		}
	})
	return func(_ context.Context, at point.Point) error {
		if at == p && fired.CompareAndSwap(false, true) {
			f()
		}
		return nil
	}
}

// getHook calls f before the n-th Get of a key.
type getHook struct {
	store.Store
	key string
	f   func()
}

// hookGet makes one, and fails the test if the key was never read.
func hookGet(t *testing.T, st store.Store, key string, f func()) *getHook {
	t.Helper()
	g := &getHook{Store: st, key: key, f: f}
	t.Cleanup(func() {
		if g.f != nil {
			t.Errorf("nobody has read %s: the test shows nothing", key)
		}
	})
	return g
}

func (g *getHook) Get(ctx context.Context, key string) (store.Object, error) {
	if key == g.key && g.f != nil {
		f := g.f
		g.f = nil
		f()
	}
	return g.Store.Get(ctx, key)
}

// 1. A at T; X stalls before fencing at T; A appends T, D lists 1..T; A compacts to T+1 and collects T; X's dead fence lands
// at T; D reads it as its tail, fences at T+1 == walStart.
func TestFenceAtWalStart(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	a, err := Open(t.Context(), opts(st, "A", 0, nil)) // fence at 1
	if err != nil {
		t.Fatal(err)
	}
	second := write(t, a.Log, "two")
	// X and D are interleaved by hooks: X stops before its fence at 3.
	var d *Opened
	var dErr error
	x := opts(st, "X", 1, nil)
	x.Hook = hooked(t, point.FenceBeforePut, func() {
		at3 := write(t, a.Log, "three")
		dst := hookGet(t, st, wal.Key(3), func() { // D has listed 1..3, is about to read 3
			publish(t, st, a.Epoch, at3)
			if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: a.Epoch, Writer: "A"}); err != nil {
				t.Error(err)
			}
			// X's fence lands now; this does by hand what X's Log does.
			l, _ := wal.NewLog(st, second, wal.Options{Epoch: 2, DatabaseID: a.Manifest.DatabaseID, Writer: "X"})
			if _, err := l.Fence(t.Context()); err != nil {
				t.Error(err)
			}
		})
		d, dErr = Open(t.Context(), opts(dst, "D", 2, nil))
	})
	_, _ = Open(t.Context(), x)
	switch {
	case dErr != nil:
		t.Errorf("D: %v", dErr)
	case d.Log.Tail().Seq != 4 || d.Manifest.WalStart != 4 || len(d.Records) != 0:
		t.Errorf("D: fence %d, wal_start %d, %d records", d.Log.Tail().Seq, d.Manifest.WalStart, len(d.Records))
	}
	if _, err := Open(t.Context(), opts(st, "Z", 9, nil)); err != nil {
		t.Errorf("every later opening: %v", err)
	}
}

// 2. the opener's tail is a dead fence and the next name is taken by authentic data.
func TestConflictBehindDeadTail(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	a, err := Open(t.Context(), opts(st, "A", 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	at2 := write(t, a.Log, "two")
	dst := hookGet(t, st, wal.Key(2), func() { // D has listed 1..2
		publish(t, st, a.Epoch, at2)
		if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: a.Epoch, Writer: "A"}); err != nil {
			t.Fatal(err)
		}
		o, err := st.Get(t.Context(), wal.Key(1))
		if err != nil {
			t.Fatal(err)
		}
		r, _ := wal.Decode(o.Body)
		l, _ := wal.NewLog(st, wal.Position{Seq: 1, Epoch: 1, Hash: r.Hash}, wal.Options{Epoch: 2, DatabaseID: a.Manifest.DatabaseID, Writer: "X"})
		if _, err := l.Fence(t.Context()); err != nil {
			t.Fatal(err)
		}
		write(t, a.Log, "three")
	})
	if _, err := Open(t.Context(), opts(dst, "D", 2, nil)); err != nil {
		t.Errorf("D: %v", err)
	}
}

// 3. two create; the rival is already writer and stamped the manifest.
func TestCreateRace(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	o := opts(st, "D", 2, nil)
	o.Hook = hooked(t, point.ManifestBeforeCAS, func() {
		a, err := Open(t.Context(), opts(st, "A", 5, nil))
		if err != nil {
			t.Fatal(err)
		}
		publish(t, st, a.Epoch, a.Log.Tail())
	})
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("D: %v", err)
	}
	if d.Created {
		t.Error("D says it created it")
	}
}

// 4. a foreign record of a higher epoch at our name.
func TestForeignAtOurName(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	a, err := Open(t.Context(), opts(st, "A", 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	l, _ := wal.NewLog(st, wal.Position{Seq: 1}, wal.Options{Epoch: 9, DatabaseID: "other", Writer: "X"})
	if _, err := l.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = a.Log.Append(t.Context(), nil)
	if !errors.Is(err, wal.ErrForeign) {
		t.Errorf("%v", err)
	}
}

// 5. rival: ErrLocked without LockedError.
func TestRivalIsLockedError(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	clk := clock.NewVirtual(t0)
	o := opts(st, "D", 0, nil)
	o.Clock = clk
	o.Hook = hooked(t, point.FenceBeforePut, func() {
		if _, err := Open(t.Context(), opts(st, "A", 5, nil)); err != nil {
			t.Error(err)
		}
		clk.Advance(5 * time.Hour) // D was asleep: its lease is A's now
	})
	_, err := Open(t.Context(), o)
	var locked *lease.LockedError
	switch {
	case !errors.Is(err, ErrRival) || !errors.Is(err, lease.ErrLocked):
		t.Errorf("fenced by a rival that holds the lease: %v", err)
	case !errors.As(err, &locked) || locked.Holder != "A":
		t.Errorf("ErrLocked that is no *LockedError of the rival, though the sentinel's doc says every one is: %v", err)
	}
	l, err := st.Get(t.Context(), lease.Key)
	if s, decodeErr := lease.Decode(l.Body); err != nil || decodeErr != nil || s.Holder != "A" {
		t.Errorf("the rival's lease became %+v, %v, %v", s, err, decodeErr)
	}
}

// 6. gc with IsData deletes a dead fence at a name that was collected before.
func TestGCDeletesDeadFence(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	a, err := Open(t.Context(), opts(st, "A", 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	tail := a.Log.Tail()
	at2 := write(t, a.Log, "two")
	at3 := write(t, a.Log, "three")
	publish(t, st, a.Epoch, at3)
	boom := errors.New("boom")
	n := 0
	g := gc.Options{Store: st, Epoch: a.Epoch, Writer: "A", IsData: func(seq uint64) bool { return seq > 1 },
		Hook: func(_ context.Context, p point.Point) error {
			if p == point.GCAfterDelete {
				if n++; n == 1 {
					return boom
				}
			}
			return nil
		}}
	if _, err := gc.Collect(t.Context(), g); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	l, _ := wal.NewLog(st, tail, wal.Options{Epoch: 2, DatabaseID: a.Manifest.DatabaseID, Writer: "X"})
	if _, err := l.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.Hook = nil
	if _, err := gc.Collect(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Get(t.Context(), wal.Key(at2.Seq)); err != nil {
		t.Errorf("the dead fence was deleted: %v", err)
	}
}

// 7. gc after the manifest names a layer that is not there.
func TestGCChecksLayer(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	a, _ := Open(t.Context(), opts(st, "A", 0, nil))
	at2 := write(t, a.Log, "two")
	publishBare(t, st, a.Epoch, at2) // its index was never stored
	_, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: a.Epoch})
	if _, getErr := st.Get(t.Context(), wal.Key(2)); getErr != nil {
		t.Errorf("the records were deleted though the layer that replaces them is not there (collect: %v)", err)
	}
	if _, err := Verify(t.Context(), st); err == nil {
		t.Error("Verify finds it sound")
	}
}

// TestVerifyBesideACompaction: a log that was collected while it was read is not damaged.
func TestVerifyBesideACompaction(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	a, err := Open(t.Context(), opts(st, "A", 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.Log, "two")
	at := write(t, a.Log, "three")
	write(t, a.Log, "four")
	reader := hookGet(t, st, wal.Key(2), func() {
		publish(t, st, a.Epoch, at)
		if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: a.Epoch, Writer: "A"}); err != nil {
			t.Error(err)
		}
	})
	r, err := VerifyWith(t.Context(), reader, VerifyOptions{Parallel: 1})
	if err != nil || r.From != 4 || r.To != 4 {
		t.Errorf("%+v, %v", r, err)
	}
}

// 8. a lease whose holder's clock was far ahead.
func TestLeaseClockAhead(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	if _, err := lease.Acquire(t.Context(), lease.Options{Store: st, Holder: "ahead", TTL: 30 * time.Second, Clock: clock.NewVirtual(t0.AddDate(1, 0, 0))}, 0); err != nil {
		t.Fatal(err)
	}
	clk := &jump{Virtual: clock.NewVirtual(t0)}
	_, err := lease.Acquire(t.Context(), lease.Options{Store: st, Holder: "b", TTL: 30 * time.Second, Clock: clk}, time.Hour)
	if err != nil {
		t.Errorf("after an hour of watching a 30 s lease stand still: %v", err)
	}
}

type jump struct{ *clock.Virtual }

func (j *jump) Sleep(ctx context.Context, d time.Duration) error { j.Advance(d); return ctx.Err() }

// 9. Valid waits for a renewal in flight.
func TestValidWaitsForRenewal(t *testing.T) {
	t.Parallel()
	below := mem.New(mem.Options{})
	slow := &slowPut{Store: below, in: make(chan struct{}), out: make(chan struct{})}
	l, err := lease.Acquire(t.Context(), lease.Options{Store: below, Holder: "a"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = l
	l2, err := lease.Acquire(t.Context(), lease.Options{Store: slow, Holder: "a"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	slow.on = true
	go func() { _ = l2.Renew(context.Background()) }()
	<-slow.in
	valid := make(chan bool, 1)
	go func() { valid <- l2.Valid() }()
	select {
	case <-valid:
	case <-time.After(200 * time.Millisecond):
		t.Error("Valid (every request's first step) blocks behind a background renewal's PUT")
	}
	close(slow.out)
}

type slowPut struct {
	store.Store
	on      bool
	in, out chan struct{}
}

func (s *slowPut) Put(ctx context.Context, key string, b []byte, id string, c store.Cond) (store.Gen, error) {
	if s.on {
		close(s.in)
		<-s.out
	}
	return s.Store.Put(ctx, key, b, id, c)
}
