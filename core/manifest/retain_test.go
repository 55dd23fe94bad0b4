package manifest

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestFormat1 reads a manifest as versions before format 2 wrote it, and keeps what it names until told otherwise.
func TestFormat1(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/format1.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(body)
	if err != nil || m.Format != 1 || len(m.Layers) != 2 || m.Layers[1].Seq != 8 {
		t.Fatalf("%+v, %v", m, err)
	}
	if again, err := Encode(m); err != nil || string(again) != string(body) {
		t.Errorf("it is written as %s, %v", again, err)
	}
	if d, said := m.Retain(); said || d != 0 {
		t.Errorf("it says that %v is kept", d)
	}
	old := func() (store.Store, *clock.Virtual) {
		st := mem.New(mem.Options{})
		if _, err := st.Put(t.Context(), Key, body, m.WriteID, store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
		return st, clock.NewVirtual(m.Layers[1].Taken.Add(time.Hour))
	}
	next := Layer{Key: "base/3-20", Epoch: 2, Seq: 20}

	st, clk := old()
	m, err = Publish(t.Context(), st, Options{Epoch: 3, Clock: clk}, next)
	if err != nil || !slices.Equal(seqs(m), []uint64{1, 8, 20}) || m.WalStart != 2 {
		t.Errorf("a writer that is told nothing left layers %v, wal_start %d, %v", seqs(m), m.WalStart, err)
	}
	if d, said := m.Retain(); !said || d < time.Hour || d > time.Hour+2*time.Second {
		t.Errorf("what is kept then: %v, %v", d, said)
	}

	st, clk = old()
	m, err = Publish(t.Context(), st, Options{Epoch: 3, Clock: clk, Retain: 24 * time.Hour}, next)
	if d, said := m.Retain(); err != nil || !said || d != 24*time.Hour {
		t.Errorf("a writer that is told to keep a day: %v, %v", d, err)
	}
}

// TestDefaultRetain: a writer that names no retention of its own gives up nothing that is kept.
func TestDefaultRetain(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/format1.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	now := m.Layers[1].Taken.Add(24 * time.Hour)
	m.retainFirst(now, DefaultRetain)
	if d, said := m.Retain(); !said || d < 24*time.Hour {
		t.Errorf("with two layers: %v, %v", d, said)
	}
	m.Format, m.Layers = 1, m.Layers[1:]
	m.retainFirst(now, DefaultRetain)
	if d, said := m.Retain(); !said || d != DefaultRetain {
		t.Errorf("with one: %v, %v", d, said)
	}
}

// TestFormat2 reads a manifest as versions before format 3 wrote it; the first layer of this version makes it one of format 3.
func TestFormat2(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/format2.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(body)
	if d, said := m.Retain(); err != nil || m.Format != 2 || d != time.Hour || !said {
		t.Fatalf("%+v, %v", m, err)
	}
	if again, err := Encode(m); err != nil || string(again) != string(body) {
		t.Errorf("it is written as %s, %v", again, err)
	}
	st := mem.New(mem.Options{})
	if _, err := st.Put(t.Context(), Key, body, m.WriteID, store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	clk := clock.NewVirtual(m.Layers[1].Taken)
	for i, l := range []Layer{{Key: "base/3-20", Epoch: 2, Seq: 20}, {Key: "base/3-21", Epoch: 2, Seq: 21, Segments: 1}} {
		m, err := Publish(t.Context(), st, Options{Epoch: 3, Clock: clk}, l)
		if err != nil || m.Format != 2+i {
			t.Errorf("with %+v: %+v, %v", l, m, err)
		}
	}
}

// TestSeen: what was read is not read again, unless it has changed.
func TestSeen(t *testing.T) {
	t.Parallel()
	st := store.Count(mem.New(mem.Options{}))
	create(t, st)
	m, gen, err := Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	touch := func(epoch uint64, seen *Seen) (Manifest, int64) {
		t.Helper()
		before := st.Ops().ClassB
		m, _, err := Update(t.Context(), st, Options{Epoch: epoch, Seen: seen}, func(m *Manifest) error { m.Commits++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return m, st.Ops().ClassB - before
	}
	if got, reads := touch(2, &Seen{m, gen}); reads != 0 || got.Epoch != 2 || got.Commits != 1 {
		t.Errorf("%+v after %d reads", got, reads)
	}
	if got, reads := touch(3, &Seen{m, gen}); reads == 0 || got.Epoch != 3 || got.Commits != 2 {
		t.Errorf("of one that has changed: %+v after %d reads", got, reads)
	}
}

// TestTheLowestFormatIsWritten: the previous version can open a database that keeps no earlier states.
func TestTheLowestFormatIsWritten(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(started)
	create(t, st)
	for i := range uint64(3) {
		m, err := Publish(t.Context(), st, Options{Epoch: 1, Clock: clk}, layer(10*i+10))
		if err != nil || m.Format != 1 || len(m.Layers) != 1 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if m, err := SetRetain(t.Context(), st, time.Hour, clk); err != nil || m.Format != 2 || m.RetainSeconds != 3600 {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err := SetRetain(t.Context(), st, 0, clk); err != nil || m.Format != 2 {
		t.Errorf("that nothing is kept has been said, and is forgotten: %+v, %v", m, err)
	}
}

// TestSetRetain: it works while a writer runs, and does not fence it.
func TestSetRetain(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(started)
	if _, err := SetRetain(t.Context(), st, time.Hour, clk); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no database: %v", err)
	}
	create(t, st)
	before, _, err := Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	// A new writer comes between the first read and the swap.
	between := &onGet{Store: st, f: func() {
		if _, _, err := Update(t.Context(), st, Options{Epoch: before.Epoch + 1, Writer: "newer"}, func(*Manifest) error { return nil }); err != nil {
			t.Error(err)
		}
	}}
	m, err := SetRetain(t.Context(), between, 90*time.Minute+time.Nanosecond, clk)
	if err != nil || m.Epoch != before.Epoch+1 || m.Writer != "newer" || m.RetainSeconds != 5401 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Publish(t.Context(), st, Options{Epoch: before.Epoch + 1, Clock: clk}, layer(10)); err != nil {
		t.Errorf("the writer: %v", err)
	}
	for _, d := range []time.Duration{-1, MaxRetain + 1} {
		if _, err := SetRetain(t.Context(), st, d, clk); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%v: %v", d, err)
		}
	}
}

// onGet calls f after the first Get.
type onGet struct {
	store.Store
	f func()
}

func (g *onGet) Get(ctx context.Context, key string) (store.Object, error) {
	o, err := g.Store.Get(ctx, key)
	if f := g.f; f != nil {
		g.f = nil
		f()
	}
	return o, err
}
