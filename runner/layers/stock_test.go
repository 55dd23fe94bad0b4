package layers

import (
	"context"
	"os"
	"slices"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
	"blobpglite/runner/bench"
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

// TestTakeStock: unreachable objects are found, all of them and nothing else; a collection deletes exactly those.
func TestTakeStock(t *testing.T) {
	st, garbage := sharing(t)
	s, err := TakeStock(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.Unreached)
	slices.Sort(garbage)
	if !slices.Equal(s.Unreached, garbage) {
		t.Errorf("unreached:\n%q\nwant\n%q", s.Unreached, garbage)
	}
	if s.SharedSegments() != 1 || s.Newest().Key() != base.Key(3, 3) || s.Left() == "" || s.UnreachedBytes <= 0 || s.UnreachedBytes >= s.Bytes {
		t.Errorf("%d segments shared by %s, %d of %d bytes left: %s", s.SharedSegments(), s.Newest().Key(), s.UnreachedBytes, s.Bytes, s.Left())
	}
	if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: 3, Writer: "w"}); err != nil {
		t.Fatal(err)
	}
	after, err := TakeStock(t.Context(), st)
	if err != nil || after.Left() != "" || len(after.sizes) != len(s.sizes)-len(garbage) {
		t.Errorf("behind the collection: %q, %d objects of %d, %v", after.Left(), len(after.sizes), len(s.sizes), err)
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

// TestDeathsAreInspected: unsound remains of a death are a failed check, and so is anything that a collection should have deleted.
func TestDeathsAreInspected(t *testing.T) {
	st, _ := sharing(t)
	r := &bench.Run{}
	if err := Verify(t.Context(), r, st); err != nil || r.TimesHeld(bench.CheckVerified) != 1 {
		t.Fatalf("%v, %q", err, r.Failures())
	}
	s, err := TakeStock(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), s.Newest().Segments()[0]); err != nil {
		t.Fatal(err)
	}
	if err := Verify(t.Context(), r, st); err != nil || r.FailureOf(bench.CheckVerified) == "" {
		t.Errorf("a segment that is gone: %v, %q", err, r.Failures())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Verify(ended, r, st); err == nil {
		t.Error("a verification that did not take place held")
	}
}
