package step

import (
	"context"
	"os"
	"slices"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// sharing is a database of epoch 3 whose two layers share, with records 1 (a fence) to 4, the second layer at 3, and some garbage.
func sharing(t *testing.T) (store.Store, []string) {
	t.Helper()
	st := mem.New(mem.Options{})
	l, err := wal.NewLog(st, wal.Start("db"), wal.Options{Epoch: 3, DatabaseID: "db", Writer: "w"})
	if err == nil {
		_, err = l.Fence(t.Context())
	}
	for range 3 {
		if err == nil {
			_, err = l.Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/f", Data: []byte("x")}})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	load, err := newPageLoad(1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = manifest.Update(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w", Create: true}, func(m *manifest.Manifest) error {
		m.DatabaseID = "db"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var o base.WriteOptions
	for _, seq := range []uint64{2, 3} {
		key, mark := base.Key(3, seq), load.tree.Mark()
		layer, stats, err := base.Write(t.Context(), st, key, load.tree.Clone(), o)
		if err != nil {
			t.Fatal(err)
		}
		o.Share, o.Since = layer, mark
		_, err = manifest.Publish(t.Context(), st, manifest.Options{Epoch: 3, Writer: "w"}, manifest.Layer{Key: key, Epoch: 3, Seq: seq, Segments: stats.Segments})
		if err != nil {
			t.Fatal(err)
		}
		if err := load.write(load.files[0], 3); err != nil {
			t.Fatal(err)
		}
	}
	garbage := []string{"base/00000000000000000003-00000000000000000009/index", "page/00000000000000000002-00000000000000000002/000000", "part/2-DEAD/000000"}
	for _, key := range append(slices.Clone(garbage), "part/3-OURS/000000", "lease") {
		if _, err := st.Put(t.Context(), key, []byte("x"), store.NewWriteID(), store.IfAbsent()); err != nil {
			t.Fatal(err)
		}
	}
	return st, append(garbage, base.IndexKey(base.Key(3, 2)), wal.Key(2), wal.Key(3))
}

// TestTakeStock: what nothing reaches is found, all of it and nothing else; a collection deletes just that.
func TestTakeStock(t *testing.T) {
	st, garbage := sharing(t)
	s, err := takeStock(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.unreached)
	slices.Sort(garbage)
	if !slices.Equal(s.unreached, garbage) {
		t.Errorf("unreached:\n%q\nwant\n%q", s.unreached, garbage)
	}
	if s.sharedSegments() != 1 || s.newest().Key() != base.Key(3, 3) || s.left() == "" || s.unreachedBytes <= 0 || s.unreachedBytes >= s.bytes {
		t.Errorf("%d segments shared by %s, %d of %d bytes left: %s", s.sharedSegments(), s.newest().Key(), s.unreachedBytes, s.bytes, s.left())
	}
	if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: 3, Writer: "w"}); err != nil {
		t.Fatal(err)
	}
	after, err := takeStock(t.Context(), st)
	if err != nil || after.left() != "" || len(after.sizes) != len(s.sizes)-len(garbage) {
		t.Errorf("behind the collection: %q, %d objects of %d, %v", after.left(), len(after.sizes), len(s.sizes), err)
	}
}

// TestDifference: trees that differ in a byte, a size, a mode or a name are told apart.
func TestDifference(t *testing.T) {
	make := func() *memfs.FS {
		fs := memfs.New(memfs.Options{})
		if err := fs.WriteFile("/a", []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		return fs
	}
	for name, c := range map[string]struct {
		change func(fs *memfs.FS) error
		want   string
	}{
		"nothing": {func(*memfs.FS) error { return nil }, ""},
		"a byte":  {func(fs *memfs.FS) error { return fs.WriteFile("/a", []byte("hallo"), 0o600) }, "/a: byte 1 is 97, want 101"},
		"a size":  {func(fs *memfs.FS) error { return fs.Truncate("/a", 4) }, "/a: mode 100600 and 4 bytes, want mode 100600 and 5"},
		"a mode":  {func(fs *memfs.FS) error { return fs.Chmod("/a", 0o644) }, "/a: mode 100644 and 5 bytes, want mode 100600 and 5"},
		"gone":    {func(fs *memfs.FS) error { return fs.Unlink("/a") }, "/a: lstat /a: no such file or directory"},
		"more":    {func(fs *memfs.FS) error { return fs.Mkdir("/b", 0o700) }, "/b should not be there"},
	} {
		got := make()
		if err := c.change(got); err != nil {
			t.Fatal(err)
		}
		if wrong, err := difference(make(), got); wrong != c.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", name, wrong, err, c.want)
		}
	}
	if _, err := differentBytes(make(), memfs.New(memfs.Options{}), "/a"); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestLayerSpots: every point that a layer, its publication and its collection pass is died at, and both sides of an opening's swap.
func TestLayerSpots(t *testing.T) {
	want := map[point.Point]int{
		point.BaseBeforeSegment: 1, point.BaseAfterSegment: 1, point.BaseAfterLastSegment: 1, point.BaseAfterIndex: 1,
		point.ManifestBeforeCAS: 2, point.ManifestAfterCAS: 2, point.GCBeforeCollect: 1, point.GCBeforeDelete: 1, point.GCAfterDelete: 1,
	}
	for _, s := range layerSpots() {
		want[s.point]--
	}
	for p, n := range want {
		if n != 0 {
			t.Errorf("%s: %d too few", p, n)
		}
	}
}

// TestDeathsAreInspected: what a death has left that is not sound is a failed check, and so is what a collection should have deleted.
func TestDeathsAreInspected(t *testing.T) {
	st, _ := sharing(t)
	r := &Run{failed: map[string]string{}, held: map[string]int{}}
	if err := r.verified(t.Context(), st); err != nil || r.held[checkVerified] != 1 {
		t.Fatalf("%v, %q", err, r.failed)
	}
	s, err := takeStock(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), s.newest().Segments()[0]); err != nil {
		t.Fatal(err)
	}
	if err := r.verified(t.Context(), st); err != nil || r.failed[checkVerified] == "" {
		t.Errorf("a segment that is gone: %v, %q", err, r.failed)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.verified(ended, st); err == nil {
		t.Error("a verification that did not take place held")
	}
}
