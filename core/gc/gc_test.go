package gc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// bucket is a database of epoch 3 with six records (1 and 4 are fences), two layers and some parts; the manifest names the
// second layer, at record 5.
func bucket(t *testing.T) store.Store {
	t.Helper()
	st := mem.New(mem.Options{})
	tail := wal.Start("db")
	write := func(epoch uint64, records int) {
		l, err := wal.NewLog(st, tail, wal.Options{Epoch: epoch, DatabaseID: "db", Writer: "w"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Fence(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range records {
			if _, err := l.Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/f", Data: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
		}
		tail = l.Tail()
	}
	write(2, 2)
	write(3, 2)
	put := func(keys ...string) {
		for _, k := range keys {
			if _, err := st.Put(t.Context(), k, []byte("x"), store.NewWriteID(), store.IfAbsent()); err != nil {
				t.Fatal(err)
			}
		}
	}
	layers(t, st)
	put("base/2-2/part/000000", "base/2-2/index", "base/3-6/part/000000", "page/3-6/000000", "page/9-9/000000", "page/3-5/other",
		"base/9-9/part/000000", "part/2-DEAD/000000", "part/3-OURS/000000", "part/9-LATER/000000")
	_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w", Create: true}, func(m *manifest.Manifest) error {
		m.DatabaseID, m.WalStart = "db", 6
		m.Layers = []manifest.Layer{{Key: "base/3-5", Epoch: 3, Seq: 5}}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// layers writes base/2-3, and base/3-5, which shares one of its two segments.
func layers(t *testing.T, st store.Store) {
	t.Helper()
	f := memfs.New(memfs.Options{})
	page := func(name string, b byte) {
		if err := f.WriteFile(name, bytes.Repeat([]byte{b}, memfs.ChunkSize), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write := func(key string, o base.WriteOptions) *base.Layer {
		o.FrameBytes, o.SegmentBytes = memfs.ChunkSize, 1
		l, _, err := base.Write(t.Context(), st, key, f.Clone(), o)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	page("/a", 1)
	page("/b", 2)
	mark := f.Mark()
	first := write("base/2-3", base.WriteOptions{})
	page("/b", 3)
	write("base/3-5", base.WriteOptions{Share: first, Since: mark})
}

// emptyLayer writes a layer without files.
func emptyLayer(t *testing.T, st store.Store, key string) {
	t.Helper()
	if _, _, err := base.Write(t.Context(), st, key, memfs.New(memfs.Options{}), base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, st store.Store) []string {
	t.Helper()
	var out []string
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a.Key)
	}
	return out
}

// want returns what a collection leaves.
func want(more ...string) []string {
	out := append([]string{
		"base/3-5/index", "base/9-9/part/000000", "manifest", "page/2-3/000000", "page/3-5/000000", "page/3-5/other", "page/9-9/000000",
		"part/3-OURS/000000", "part/9-LATER/000000",
		wal.Key(1), wal.Key(4), wal.Key(6),
	}, more...)
	slices.Sort(out)
	return out
}

func TestCollect(t *testing.T) {
	t.Parallel()
	st := bucket(t)
	stats, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"})
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, st); !slices.Equal(got, want()) {
		t.Errorf("left:\n%v\nwant:\n%v", got, want())
	}
	if stats.Records != 3 || stats.Fences != 2 || stats.Layers != 2 || stats.Segments != 2 || stats.Parts != 1 || stats.WalStart != 6 {
		t.Errorf("%+v", stats)
	}
	again, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w", From: stats.WalStart})
	if err != nil || again.Records+again.Layers+again.Segments+again.Parts != 0 {
		t.Errorf("a second collection: %+v, %v", again, err)
	}
}

// listedFrom is a store that notes where the listings of the log begin.
type listedFrom struct {
	store.Store
	after []string
}

func (l *listedFrom) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	if prefix == wal.Prefix() {
		l.after = append(l.after, after)
	}
	return l.Store.List(ctx, prefix, after)
}

// TestRecent: fences stay forever, so a collection lists only the newest part of what it collects, and one epoch in fullEvery everything.
func TestRecent(t *testing.T) {
	t.Parallel()
	const walStart = recentNames + 100
	for epoch, want := range map[uint64]string{fullEvery - 1: wal.Key(walStart - recentNames - 1), fullEvery: ""} {
		st := &listedFrom{Store: bucket(t)}
		newest := manifest.Layer{Key: fmt.Sprintf("base/%d-%d", epoch, walStart-1), Epoch: epoch, Seq: walStart - 1}
		emptyLayer(t, st, newest.Key)
		if _, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: epoch, Writer: "w"}, func(m *manifest.Manifest) error {
			m.WalStart, m.Layers = walStart, []manifest.Layer{newest}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := Collect(t.Context(), Options{Store: st, Epoch: epoch, Writer: "w", Recent: true}); err != nil {
			t.Fatal(err)
		}
		if len(st.after) == 0 || st.after[0] != want {
			t.Errorf("epoch %d lists the log after %q, not %q", epoch, st.after, want)
		}
	}
}

func TestKnownDataIsNotRead(t *testing.T) {
	t.Parallel()
	counted := store.Count(bucket(t))
	_, err := Collect(t.Context(), Options{Store: counted, Epoch: 3, Writer: "w", IsData: func(seq uint64) bool { return seq != 1 && seq != 4 }})
	if err != nil {
		t.Fatal(err)
	}
	if n := counted.Ops().ClassB; n != 3 { // the manifest, the layer's index, and where the epoch of the old parts ends: the list tells the fences
		t.Errorf("%d reads", n)
	}
}

func TestOlderEpochDeletesNothing(t *testing.T) {
	t.Parallel()
	st := bucket(t)
	before := keys(t, st)
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 2, Writer: "zombie"}); !errors.Is(err, manifest.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if got := keys(t, st); !slices.Equal(got, before) {
		t.Errorf("a zombie's collection left %v", got)
	}
}

// before runs f before a key is first read.
type before struct {
	store.Store
	key string
	f   func()
}

func (b *before) Get(ctx context.Context, key string) (store.Object, error) {
	if f := b.f; key == b.key && f != nil {
		b.f = nil
		f()
	}
	return b.Store.Get(ctx, key)
}

// TestOvertakenCollectionIsNoDamage: a newer writer compacts and collects between our reads of the manifest and of the layer. The explorer
// found that this was reported as a damaged layer.
func TestOvertakenCollectionIsNoDamage(t *testing.T) {
	t.Parallel()
	st := bucket(t)
	newer := func() {
		emptyLayer(t, st, "base/4-6")
		if _, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: 4, Writer: "newer"}, manifest.Layer{Key: "base/4-6", Epoch: 3, Seq: 6}); err != nil {
			t.Error(err)
		}
		if _, err := Collect(t.Context(), Options{Store: st, Epoch: 4, Writer: "newer"}); err != nil {
			t.Error(err)
		}
	}
	_, err := Collect(t.Context(), Options{Store: &before{Store: st, key: "base/3-5/index", f: newer}, Epoch: 3, Writer: "w"})
	if !errors.Is(err, manifest.ErrFenced) || errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if err := st.Delete(t.Context(), "base/4-6/index"); err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 4, Writer: "newer"}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("a layer that is really gone: %v", err)
	}
}

// TestEarlierLayerThatCannotBeRead: what it needs is unknown, so all segments stay, and everything else is deleted.
func TestEarlierLayerThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{true, false} {
		st := bucket(t)
		_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w"}, func(m *manifest.Manifest) error {
			m.Layers = append([]manifest.Layer{{Key: "base/2-3", Epoch: 2, Seq: 3}}, m.Layers...)
			return nil
		})
		if err == nil && gone {
			err = st.Delete(t.Context(), "base/2-3/index")
		} else if err == nil {
			_, err = st.Put(t.Context(), "base/2-3/index", []byte("x"), "", store.Always())
		}
		if err != nil {
			t.Fatal(err)
		}
		pages := func() (n int) {
			for _, k := range keys(t, st) {
				if strings.HasPrefix(k, "page/") {
					n++
				}
			}
			return n
		}
		before := pages()
		stats, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"})
		if !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "base/2-3") || before == 0 || pages() != before || stats.Layers == 0 || stats.Parts != 1 {
			t.Errorf("%v, %+v; %d segments are left of %d", err, stats, pages(), before)
		}
	}
}

// TestIndexInAnothersPlace: given the index of another layer, or one that the manifest does not describe, nothing is deleted: its needs are
// not the layer's.
func TestIndexInAnothersPlace(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(st store.Store, l *manifest.Layer) error{
		"the earlier layer's": func(st store.Store, l *manifest.Layer) error {
			o, err := st.Get(t.Context(), "base/2-3/index")
			if err == nil {
				_, err = st.Put(t.Context(), base.IndexKey(l.Key), o.Body, "", store.Always())
			}
			return err
		},
		"one of other sizes": func(_ store.Store, l *manifest.Layer) error { l.StoredBytes = 1 << 20; return nil },
	} {
		st := bucket(t)
		_, _, err := manifest.Update(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w"}, func(m *manifest.Manifest) error {
			return change(st, &m.Layers[0])
		})
		if err != nil {
			t.Fatal(err)
		}
		before := keys(t, st)
		if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "base/3-5/index") {
			t.Errorf("%s: %v", name, err)
		}
		if after := keys(t, st); !slices.Equal(before, after) {
			t.Errorf("%s: left is %v of %v", name, after, before)
		}
	}
}

// TestRubbishIsNotGuessedAt: an object that has a record's name but is not a record is left alone, with an error.
func TestRubbishIsNotGuessedAt(t *testing.T) {
	t.Parallel()
	st := bucket(t)
	if _, err := st.Put(t.Context(), wal.Key(2), []byte("hello"), "", store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if got := keys(t, st); !slices.Contains(got, wal.Key(2)) {
		t.Error("it was deleted")
	}
}

// TestDeathAtEveryDeletion: wherever a collection dies, the next one finishes its work.
func TestDeathAtEveryDeletion(t *testing.T) {
	t.Parallel()
	for n := range 10 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			st := bucket(t)
			d := &dying{Store: st, left: n}
			_, err := Collect(t.Context(), Options{Store: d, Epoch: 3, Writer: "w"})
			if (err == nil) != (d.left >= 0) {
				t.Errorf("%d deletions left, error %v", d.left, err)
			}
			for _, k := range want() {
				if !slices.Contains(keys(t, st), k) {
					t.Errorf("%s is gone", k)
				}
			}
			if _, err := Collect(t.Context(), Options{Store: st, Epoch: 3, Writer: "w"}); err != nil {
				t.Fatal(err)
			}
			if got := keys(t, st); !slices.Equal(got, want()) {
				t.Errorf("the second one left %s", strings.Join(got, " "))
			}
		})
	}
}
