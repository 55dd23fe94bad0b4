package manifest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func layer(seq uint64) Layer { return Layer{Key: fmt.Sprintf("base/1-%d", seq), Epoch: 1, Seq: seq} }

func seqs(m Manifest) []uint64 {
	var out []uint64
	for _, l := range m.Layers {
		out = append(out, l.Seq)
	}
	return out
}

var started = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestPublishConforms: what a publication does to the manifest, with and without faults on the way.
func TestPublishConforms(t *testing.T) {
	t.Parallel()
	publish := func(st store.Store, epoch, seq uint64) error {
		_, err := Publish(t.Context(), st, Options{Epoch: epoch, Clock: &noWait{Clock: clock.NewVirtual(started)}}, layer(seq))
		return err
	}
	for _, c := range []struct {
		name   string
		before []uint64 // layers published earlier
		faults func(rival func(epoch, seq uint64)) []fault
		want   []uint64
		start  uint64
		err    error
	}{
		{"the first one", nil, nil, []uint64{50}, 51, nil},
		{"in place of an older one", []uint64{10}, nil, []uint64{50}, 51, nil},
		{"a newer one is there", []uint64{60}, nil, []uint64{60}, 61, nil},
		{"it is there already", []uint64{50}, nil, []uint64{50}, 51, nil},
		{"reply lost", []uint64{10}, func(func(uint64, uint64)) []fault {
			return []fault{{apply: true, fail: store.ErrUnknown}}
		}, []uint64{50}, 51, nil},
		{"reply lost, and a rival's newer layer on top", []uint64{10}, func(rival func(uint64, uint64)) []fault {
			return []fault{{apply: true, fail: store.ErrUnknown, after: func() { rival(1, 70) }}}
		}, []uint64{70}, 71, nil},
		{"a rival's older layer first", []uint64{10}, func(rival func(uint64, uint64)) []fault {
			return []fault{{before: func() { rival(1, 40) }, apply: true}}
		}, []uint64{50}, 51, nil},
		{"a rival's newer layer first", []uint64{10}, func(rival func(uint64, uint64)) []fault {
			return []fault{{before: func() { rival(1, 70) }, apply: true}}
		}, []uint64{70}, 71, nil},
		{"a rival of a higher epoch first", []uint64{10}, func(rival func(uint64, uint64)) []fault {
			return []fault{{before: func() { rival(2, 40) }, apply: true}}
		}, []uint64{40}, 41, ErrFenced},
		{"never decided", []uint64{10}, func(func(uint64, uint64)) []fault {
			return slices.Repeat([]fault{{fail: store.ErrUnknown}}, DefaultAttempts)
		}, []uint64{10}, 11, store.ErrUnknown},
		{"denied", []uint64{10}, func(func(uint64, uint64)) []fault {
			return []fault{{fail: store.ErrDenied}}
		}, []uint64{10}, 11, store.ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			below := mem.New(mem.Options{})
			create(t, below)
			rival := func(epoch, seq uint64) {
				if err := publish(below, epoch, seq); err != nil {
					t.Error(err)
				}
			}
			for _, seq := range c.before {
				rival(1, seq)
			}
			st := &scripted{Store: below}
			if c.faults != nil {
				st.faults = c.faults(rival)
			}
			if err := publish(st, 1, 50); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Errorf("ended with %v, want %v", err, c.err)
			}
			m, _, err := Load(t.Context(), below)
			if err != nil || !slices.Equal(seqs(m), c.want) || m.WalStart != c.start {
				t.Errorf("layers %v, wal_start %d, %v; want %v, %d", seqs(m), m.WalStart, err, c.want, c.start)
			}
			if err == nil && m.Layers[0].Taken.IsZero() {
				t.Error("the layer has no time")
			}
		})
	}
}

// TestPublishWithoutADatabase: a publication does not make one.
func TestPublishWithoutADatabase(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	if _, err := Publish(t.Context(), st, Options{Epoch: 1}, layer(1)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestPublishKeepsWhatIsPromised takes layers at odd times and checks after each: can every state within the retention be restored, and is
// no more kept than that takes?
func TestPublishKeepsWhatIsPromised(t *testing.T) {
	t.Parallel()
	const seed = 11
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const retain = 24 * time.Hour
	for _, pace := range []time.Duration{time.Minute, time.Hour, 10 * time.Hour, 60 * time.Hour} {
		st, clk := mem.New(mem.Options{}), clock.NewVirtual(started)
		create(t, st)
		before := Manifest{}
		most := 0
		for i := range 400 {
			clk.Advance(time.Duration(random.Int64N(int64(2 * pace))))
			m, err := Publish(t.Context(), st, Options{Epoch: 1, Clock: clk, Retain: retain}, layer(uint64(10*i+10)))
			if err != nil {
				t.Fatal(err)
			}
			now := clk.Now()
			if got := m.Layers[len(m.Layers)-1]; got.Seq != uint64(10*i+10) || !got.Taken.Equal(now) {
				t.Fatalf("the newest layer is %+v", got)
			}
			oldest := m.Layers[0]
			if oldest.Seq != 10 && oldest.Taken.After(now.Add(-retain)) {
				t.Fatalf("pace %v, layer %d: the oldest is from %v ago, promised are %v", pace, i, now.Sub(oldest.Taken), retain)
			}
			if len(m.Layers) > 2 && !m.Layers[1].Taken.After(now.Add(-retain)) {
				t.Fatalf("pace %v, layer %d: the second oldest is %v old, the oldest is not needed", pace, i, now.Sub(m.Layers[1].Taken))
			}
			if m.WalStart != oldest.Seq+1 || m.WalStart < before.WalStart {
				t.Fatalf("wal_start %d after %d, the oldest layer ends at %d", m.WalStart, before.WalStart, oldest.Seq)
			}
			most = max(most, len(m.Layers))
			before = m
		}
		if most > retainSteps+3+recentLayers {
			t.Errorf("pace %v: %d layers were kept at once", pace, most)
		}
		if most < 2 {
			t.Errorf("pace %v: nothing was kept", pace)
		}
		// A writer that is given no retention, or another one, drops nothing; SetRetain does.
		m, err := Publish(t.Context(), st, Options{Epoch: 1, Clock: clk, Retain: time.Second}, layer(1_000_000))
		if err != nil || m.WalStart != before.WalStart {
			t.Errorf("by another writer: wal_start %d, it was %d, %v", m.WalStart, before.WalStart, err)
		}
		if _, err := SetRetain(t.Context(), st, 0, clk); err != nil {
			t.Fatal(err)
		}
		m, err = Publish(t.Context(), st, Options{Epoch: 1, Clock: clk, Retain: retain}, layer(2_000_000))
		if err != nil || len(m.Layers) != 1 || m.WalStart != 2_000_001 {
			t.Errorf("without a promise: %d layers, wal_start %d, %v", len(m.Layers), m.WalStart, err)
		}
	}
}

// TestReplacedLayersStay: a reader that took a layer for the newest can read it to the end, unless that takes very long, or many layers
// followed; and the layer does not stay much longer.
func TestReplacedLayersStay(t *testing.T) {
	t.Parallel()
	const retain = 20 * time.Minute
	for _, pace := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, time.Minute} {
		st, clk := mem.New(mem.Options{}), clock.NewVirtual(started)
		create(t, st)
		replaced := map[uint64]time.Time{}
		for n := range uint64(100) {
			clk.Advance(pace)
			m, err := Publish(t.Context(), st, Options{Epoch: 1, Clock: clk, Retain: retain}, layer(n+1))
			if err != nil {
				t.Fatal(err)
			}
			replaced[n] = clk.Now()
			named, spaced := seqs(m), 0
			for seq, at := range replaced {
				recent := clk.Now().Sub(at) < readTime && n-seq < recentLayers
				if seq > 0 && recent && !slices.Contains(named, seq) {
					t.Fatalf("a layer every %v: %d is the newest, and %d, replaced %v ago, is not in %v", pace, n+1, seq, clk.Now().Sub(at), named)
				}
				if !recent && slices.Contains(named, seq) {
					spaced++
				}
			}
			if spaced > retainSteps+2 {
				t.Fatalf("a layer every %v: %d of %v were replaced long ago", pace, spaced, named)
			}
		}
	}
}

// TestPublishDropsWhatCannotBeRolledForward: a layer after which records are missing is not a point to restore from.
func TestPublishDropsWhatCannotBeRolledForward(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	create(t, st)
	_, _, err := Update(t.Context(), st, Options{Epoch: 1}, func(m *Manifest) error {
		m.Layers = []Layer{layer(10), layer(20), layer(30)}
		m.WalStart = 21
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Publish(t.Context(), st, Options{Epoch: 1, Retain: time.Hour}, layer(40))
	if err != nil || m.WalStart < 21 || slices.Contains(seqs(m), 10) {
		t.Errorf("layers %v, wal_start %d, %v", seqs(m), m.WalStart, err)
	}
}

// TestPublishIsBounded: a clock that stands still, or runs backwards, cannot make the manifest grow indefinitely.
func TestPublishIsBounded(t *testing.T) {
	t.Parallel()
	m := Manifest{WalStart: 1}
	for i := range 3 * MaxLayers {
		m.Layers = append(m.Layers, Layer{Seq: uint64(i + 1), Taken: started.Add(time.Duration(i) * time.Hour)})
	}
	if kept := retained(m, started, time.Hour); len(kept) >= MaxLayers {
		t.Errorf("%d layers are kept beside the new one", len(kept))
	}
}

// TestPublishBehindAClockAhead: layers that were taken while the clock was a year ahead, and the log after them, are given up when they are
// as old as the retention, and not a year later; until then they are kept.
func TestPublishBehindAClockAhead(t *testing.T) {
	t.Parallel()
	const retain = 10 * time.Minute
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(started)
	create(t, st)
	seq := uint64(0)
	publish := func(ahead time.Duration) Manifest {
		t.Helper()
		clk.Advance(time.Minute)
		seq += 10
		l := layer(seq)
		l.Taken = clk.Now().Add(ahead)
		m, err := Publish(t.Context(), st, Options{Epoch: 1, Clock: clk, Retain: retain}, l)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	publish(0)
	for range 3 {
		publish(365 * 24 * time.Hour)
	}
	ahead := seq
	for i := range 30 {
		m := publish(0)
		oldest := m.Layers[0].Seq
		if i < 8 && oldest > ahead {
			t.Fatalf("after %d minutes the oldest layer is %d, and %v are promised", i+1, oldest, retain)
		}
		if i > 20 && oldest <= ahead {
			t.Fatalf("after %d minutes layer %d is still kept, and all of the log behind it", i+1, oldest)
		}
	}
}

// TestPublishBehindAClockBehind: a layer from a machine whose clock was years behind is no reason to give up what is kept.
func TestPublishBehindAClockBehind(t *testing.T) {
	t.Parallel()
	const retain = 10 * time.Minute
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(started)
	create(t, st)
	seq := uint64(0)
	publish := func(by clock.Clock) Manifest {
		t.Helper()
		clk.Advance(time.Minute)
		seq += 10
		m, err := Publish(t.Context(), st, Options{Epoch: 1, Clock: by, Retain: retain}, layer(seq))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for range 30 {
		publish(clk)
	}
	for i := range 30 {
		by := clock.Clock(clk)
		if i == 5 || i == 6 {
			by = clock.NewVirtual(time.Unix(0, 0)) // a machine without a battery, before it has learnt the time
		}
		m := publish(by)
		if age := (seq - m.Layers[0].Seq) / 10; age < uint64(retain/time.Minute) {
			t.Fatalf("after %d layers the oldest that is kept is %d minutes old, and %v are promised", i+1, age, retain)
		}
		if len(m.Layers) > retainSteps+3 {
			t.Fatalf("%d layers are kept", len(m.Layers))
		}
	}
	if m := publish(clk); m.Layers[0].Seq < seq-150 {
		t.Errorf("the oldest layer is %d, the newest %d: what is older than is kept does not go", m.Layers[0].Seq, seq)
	}
}
