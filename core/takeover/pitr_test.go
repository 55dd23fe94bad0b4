package takeover

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
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

// keepLayer takes a layer at the writer's tail that holds its content as text, and keeps the older ones.
func keepLayer(t *testing.T, st store.Store, o *Opened, content string, clk clock.Clock) manifest.Manifest {
	t.Helper()
	at := o.Log.Tail()
	key := fmt.Sprintf("base/%d-%d", o.Epoch, at.Seq)
	files := memfs.New(memfs.Options{})
	if err := files.WriteFile("/content", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stats, err := base.Write(t.Context(), st, key, files, base.WriteOptions{Database: o.Manifest.DatabaseID})
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: o.Epoch, Writer: "w", Retain: 24 * time.Hour, Clock: clk}, manifest.Layer{
		Key: key, Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:]),
		RawBytes: stats.RawBytes, StoredBytes: stats.StoredBytes, Segments: stats.Segments,
	})
	if err == nil {
		_, err = gc.Collect(t.Context(), gc.Options{Store: st, Epoch: o.Epoch, Writer: "w"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// restored is the content of a layer with records on top.
func restored(t *testing.T, st store.Store, l manifest.Layer, records []wal.Record) string {
	t.Helper()
	text := ""
	if l.Key != "" {
		files := memfs.New(memfs.Options{})
		if _, _, err := base.Read(t.Context(), st, l.Key, files, base.ReadOptions{}); err != nil {
			t.Fatal(err)
		}
		body, err := files.ReadFile("/content")
		if err != nil {
			t.Fatal(err)
		}
		text = string(body)
	}
	for _, r := range records {
		for _, op := range r.Ops {
			text += string(op.Data) + " "
		}
	}
	return text
}

// TestEveryRetainedStateIsThere: for each record from the oldest layer on, the restored state is that of the log at that time.
func TestEveryRetainedStateIsThere(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	content := ""
	states := map[uint64]string{} // by record
	times := map[uint64]time.Time{}
	var last manifest.Manifest
	for life := range 12 {
		o := mustOpen(t, st, fmt.Sprintf("life-%d", life), func(o *Options) { o.Clock = skipping{clk} })
		states[o.Log.Tail().Seq], times[o.Log.Tail().Seq] = content, clk.Now()
		if n := len(o.Manifest.Layers); n > 0 {
			if got := restored(t, st, o.Manifest.Layers[n-1], o.Records); got != content {
				t.Fatalf("life %d starts from %q, want %q", life, got, content)
			}
		}
		for i := range 5 {
			clk.Advance(time.Hour)
			id := fmt.Sprintf("%d.%d", life, i)
			if err := appendID(t, o, id); err != nil {
				t.Fatal(err)
			}
			content += id + " "
			states[o.Log.Tail().Seq], times[o.Log.Tail().Seq] = content, clk.Now()
			if i == 3 || i == 1 && life%2 == 0 {
				last = keepLayer(t, st, o, content, clk)
			}
		}
	}
	if len(last.Layers) < 3 || last.WalStart < 10 {
		t.Fatalf("%d layers are kept, from record %d on: the test shows nothing", len(last.Layers), last.WalStart)
	}
	for seq, want := range states {
		p, err := ReadAt(t.Context(), st, RecoveryTarget{Seq: seq}, 0)
		if seq < last.WalStart-1 {
			if !errors.Is(err, ErrBeyondRetention) || !strings.Contains(err.Error(), fmt.Sprintf("record %d", last.WalStart-1)) {
				t.Errorf("record %d, before what is kept: %v", seq, err)
			}
			continue
		}
		if err != nil || p.Seq != seq {
			t.Errorf("record %d: ends at %d, %v", seq, p.Seq, err)
			continue
		}
		if got := restored(t, st, p.Layer, p.Records); got != want {
			t.Errorf("record %d: %q, it was %q", seq, got, want)
		}
		if times[seq].Before(last.Layers[0].Taken) {
			continue
		}
		if p, err = ReadAt(t.Context(), st, RecoveryTarget{Time: times[seq].Add(time.Minute)}, 1); err != nil || restored(t, st, p.Layer, p.Records) != want {
			t.Errorf("at the time of record %d: %q, %v", seq, restored(t, st, p.Layer, p.Records), err)
		}
	}
	report, err := Verify(t.Context(), st)
	if err != nil || report.From != last.WalStart || report.Layers != len(last.Layers) {
		t.Errorf("verified %+v, %v", report, err)
	}
}

// TestALayerIsPublishedUnderAnOpening: with older layers kept, wal_start stands still when a layer is taken. The opener must not apply the
// records after the layer that it has seen to the newer one.
func TestALayerIsPublishedUnderAnOpening(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	old := mustOpen(t, st, "old", func(o *Options) { o.Clock = skipping{clk} })
	content := ""
	write := func(id string) {
		if err := appendID(t, old, id); err != nil {
			t.Fatal(err)
		}
		content += id + " "
	}
	write("a")
	before := keepLayer(t, st, old, content, clk)
	write("b")
	next := mustOpen(t, st, "new", at(point.FenceBeforePut, func() {
		clk.Advance(5 * time.Hour)
		m := keepLayer(t, st, old, content, clk)
		if m.WalStart != before.WalStart || len(m.Layers) != 2 {
			t.Errorf("wal_start moved from %d to %d, %d layers: the test shows nothing", before.WalStart, m.WalStart, len(m.Layers))
		}
	}))
	if got := restored(t, st, next.Manifest.Layers[len(next.Manifest.Layers)-1], next.Records); got != content {
		t.Errorf("restored %q, want %q", got, content)
	}
}

// TestReadAtWhileItIsCompacted: the log is compacted and collected, with nothing kept, between listing and reading.
func TestReadAtWhileItIsCompacted(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	o := mustOpen(t, st, "w")
	for _, id := range []string{"a", "b"} {
		if err := appendID(t, o, id); err != nil {
			t.Fatal(err)
		}
	}
	compact(t, st, o)
	for _, id := range []string{"c", "d"} {
		if err := appendID(t, o, id); err != nil {
			t.Fatal(err)
		}
	}
	reading := hookGet(t, st, wal.Key(4), func() { compact(t, st, o) })
	if _, err := ReadAt(t.Context(), reading, RecoveryTarget{Seq: 4}, 1); !errors.Is(err, ErrBeyondRetention) {
		t.Errorf("a state that was collected meanwhile: %v", err)
	}
	if p, err := ReadAt(t.Context(), st, RecoveryTarget{Seq: 5}, 1); err != nil || p.Seq != 5 || len(p.Records) != 0 {
		t.Errorf("the newest layer's own: %+v, %v", p, err)
	}
}

// TestAWriterThatIsAlwaysFaster: an opener whose every fence finds a record eventually gives up, and says why.
func TestAWriterThatIsAlwaysFaster(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	old := mustOpen(t, st, "old")
	tries := 0
	_, err := open(t, st, "new", func(o *Options) {
		o.Hook = func(_ context.Context, p point.Point) error {
			if p == point.FenceBeforePut {
				tries++
				return appendID(t, old, fmt.Sprint(tries))
			}
			return nil
		}
	})
	if !errors.Is(err, ErrBusy) || !errors.Is(err, store.ErrUnavailable) || tries != maxFences {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if err := appendID(t, old, "and on"); err != nil {
		t.Errorf("the writer that was not fenced: %v", err)
	}
	o, err := st.Get(t.Context(), lease.Key)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := lease.Decode(o.Body); err != nil || s.Holder != "" {
		t.Errorf("the lease was not given back: %+v, %v", s, err)
	}
}

// TestVerifyChecksLayersAgainstTheLog: a layer in the middle that was taken at another record than the log has.
func TestVerifyChecksLayersAgainstTheLog(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	o := mustOpen(t, st, "w", func(o *Options) { o.Clock = skipping{clk} })
	for i := range 3 {
		if err := appendID(t, o, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		clk.Advance(5 * time.Hour)
		keepLayer(t, st, o, "", clk)
	}
	if _, err := VerifyWith(t.Context(), st, VerifyOptions{Deep: true}); err != nil {
		t.Fatal(err)
	}
	change := func(f func(*manifest.Layer)) {
		_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: o.Epoch}, func(m *manifest.Manifest) error {
			f(&m.Layers[1])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	right := ""
	change(func(l *manifest.Layer) { right, l.Hash = l.Hash, strings.Repeat("ab", 32) })
	if r, err := Verify(t.Context(), st); !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), "record 3") || r.To != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	change(func(l *manifest.Layer) { l.Hash = right })
	if err := st.Delete(t.Context(), wal.Key(4)); err != nil { // the newest layer's own record, and the last one
		t.Fatal(err)
	}
	if r, err := Verify(t.Context(), st); !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), "record 4") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestVerifyTellsWhoseIndexItIs: a verification names an index in another layer's place, and one that is not what the manifest describes;
// an adoption does not build on an index of another database.
func TestVerifyTellsWhoseIndexItIs(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	o := mustOpen(t, st, "w", func(o *Options) { o.Clock = skipping{clk} })
	var m manifest.Manifest
	for i := range 2 {
		if err := appendID(t, o, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		clk.Advance(5 * time.Hour)
		m = keepLayer(t, st, o, fmt.Sprint(i), clk)
	}
	earlier, newest := m.Layers[0], m.Layers[1]
	says := func(name string, want ...string) {
		t.Helper()
		_, err := VerifyWith(t.Context(), st, VerifyOptions{Deep: true})
		if !errors.Is(err, base.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, without %s", name, err, w)
			}
		}
	}
	overwrite := func(body []byte) {
		t.Helper()
		if _, err := st.Put(t.Context(), base.IndexKey(newest.Key), body, "", store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	right, err := st.Get(t.Context(), base.IndexKey(newest.Key))
	if err != nil {
		t.Fatal(err)
	}
	other, err := st.Get(t.Context(), base.IndexKey(earlier.Key))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(other.Body)
	says("the earlier layer's index", base.IndexKey(newest.Key), "of layer "+earlier.Key)
	overwrite(right.Body)
	_, _, err = manifest.Update(t.Context(), st, manifest.Options{Epoch: o.Epoch}, func(m *manifest.Manifest) error {
		m.Layers[1].StoredBytes = 1 << 20
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	says("one of another size", base.IndexKey(newest.Key), "not the one that the manifest names")

	if err := st.Delete(t.Context(), manifest.Key); err != nil {
		t.Fatal(err)
	}
	foreign := mem.New(mem.Options{})
	if _, _, err := base.Write(t.Context(), foreign, newest.Key, memfs.New(memfs.Options{}), base.WriteOptions{Database: "02OTHER"}); err != nil {
		t.Fatal(err)
	}
	theirs, err := foreign.Get(t.Context(), base.IndexKey(newest.Key))
	if err != nil {
		t.Fatal(err)
	}
	overwrite(theirs.Body)
	if _, err := Survey(t.Context(), st); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "02OTHER") {
		t.Errorf("an adoption from another database's index: %v", err)
	}
}
