package base

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// A layer of format 1, written by the previous version, can be restored, and its first successor takes over all of it.
func TestFormat1(t *testing.T) {
	st := mem.New(mem.Options{})
	for _, name := range []string{"index", "part-000000", "part-000001"} {
		body := must(os.ReadFile(filepath.Join("testdata/format1", name)))
		_, err := st.Put(t.Context(), key+"/"+strings.ReplaceAll(name, "-", "/"), body, "", store.Always())
		check(t, err)
	}
	want := string(must(os.ReadFile("testdata/format1/tree.txt")))
	dst := memfs.New(memfs.Options{})
	old, stats, err := Read(t.Context(), st, key, dst, ReadOptions{})
	check(t, err)
	if got := describe(t, dst); got != want {
		t.Fatalf("restored\n%s\nwant\n%s", got, want)
	}
	if stats.Segments != 2 || len(old.Segments()) != 0 || stats.RawBytes != dst.UsedBytes() {
		t.Errorf("%+v, %q", stats, old.Segments())
	}
	if _, verified, err := Verify(t.Context(), st, key, ReadOptions{}); err != nil || verified.StoredBytes != stats.StoredBytes {
		t.Errorf("%+v, %v", verified, err)
	}
	mark := dst.Mark()
	next, wrote, err := Write(t.Context(), st, Key(7, 200), dst, WriteOptions{Share: old, Since: mark})
	check(t, err)
	if wrote.NewRawBytes != wrote.RawBytes || len(next.Segments()) != wrote.Segments {
		t.Errorf("%+v, %q", wrote, next.Segments())
	}
	for k := range keys(t, st, key+"/") {
		check(t, st.Delete(t.Context(), k))
	}
	if got := describe(t, restored(t, st, Key(7, 200))); got != want {
		t.Errorf("the layer behind it restores\n%s", got)
	}
}

func restored(t testing.TB, st store.Store, key string) *memfs.FS {
	t.Helper()
	dst := memfs.New(memfs.Options{})
	_, _, err := Read(t.Context(), st, key, dst, ReadOptions{})
	check(t, err)
	return dst
}

// chain takes layers of a tree, each of which shares with the previous one.
type chain struct {
	t    testing.TB
	st   *mem.Store
	tree *memfs.FS
	o    WriteOptions
	last *Layer
	mark memfs.Mark
	seq  uint64
}

func (c *chain) next() Stats {
	c.t.Helper()
	mark := c.tree.Mark()
	c.seq++
	o := c.o
	o.Share, o.Since = c.last, c.mark
	l, stats, err := Write(c.t.Context(), c.st, Key(7, c.seq), c.tree.Clone(), o)
	check(c.t, err)
	c.last, c.mark = l, mark
	return stats
}

// forget deletes what the last layer does not need, as a collection would.
func (c *chain) forget() {
	c.t.Helper()
	keep := map[string]bool{IndexKey(c.last.Key()): true}
	for _, k := range c.last.Segments() {
		keep[k] = true
	}
	for k := range keys(c.t, c.st, "") {
		if !keep[k] {
			check(c.t, c.st.Delete(c.t.Context(), k))
		}
	}
}

// change makes a change that a database makes to its files.
func change(t testing.TB, rng *rand.Rand, f *memfs.FS) string {
	t.Helper()
	path := fmt.Sprintf("/base/1/%d", 1000+rng.IntN(12))
	what := rng.IntN(9)
	_, err := f.Stat(path)
	if err != nil && what != 1 {
		what = 0
	}
	switch what {
	case 0, 2, 3, 4:
		file, err := f.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
		check(t, err)
		_, err = file.WriteAt(pages(rng, rng.IntN(3*memfs.ChunkSize)), int64(rng.IntN(30*memfs.ChunkSize)))
		check(t, err)
		check(t, file.Close())
	case 1:
		_ = f.Unlink(path)
	case 5:
		file, err := f.Open(path, os.O_RDWR, 0)
		check(t, err)
		check(t, file.Truncate(int64(rng.IntN(40*memfs.ChunkSize))))
		check(t, file.Close())
	case 6:
		check(t, f.Rename(path, fmt.Sprintf("/base/1/%d", 1000+rng.IntN(12))))
	case 7:
		_ = f.Link(path, fmt.Sprintf("/base/1/%d", 1000+rng.IntN(12)))
	case 8:
		file, err := f.Open(path, os.O_RDWR, 0)
		check(t, err)
		_, err = file.WriteAt(make([]byte, 2*memfs.ChunkSize), memfs.ChunkSize*int64(rng.IntN(20)))
		check(t, err)
		check(t, file.Close())
	}
	return fmt.Sprint(what, " ", path)
}

// TestSharedLayers: whatever happens between two layers, each restores to exactly the tree's state, with only the objects it names present;
// and so does a tree that was restored and changed further.
func TestSharedLayers(t *testing.T) {
	t.Logf("seed %d", seed)
	for round := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 100+round))
		c := &chain{t: t, st: mem.New(mem.Options{}), tree: makeTree(t, rng, 12), o: WriteOptions{
			FrameBytes: (1 + rng.IntN(4)) * memfs.ChunkSize, SegmentBytes: int64(1 + rng.IntN(100_000)),
		}}
		var done []string
		for range 12 {
			c.next()
			if want, got := describe(t, c.tree), describe(t, restored(t, c.st, c.last.Key())); want != got {
				t.Fatalf("round %d, layer %d, after %q: restored\n%s\nwant\n%s", round, c.seq, done, got, want)
			}
			if rng.IntN(3) > 0 {
				c.forget()
			}
			if rng.IntN(4) == 0 { // a new process
				c.tree = memfs.New(memfs.Options{})
				l, _, err := Read(t.Context(), c.st, c.last.Key(), c.tree, ReadOptions{})
				check(t, err)
				c.last, c.mark = l, c.tree.Mark()
			}
			done = nil
			for range rng.IntN(8) {
				done = append(done, change(t, rng, c.tree))
			}
		}
	}
}

// TestLayerOfWhatChanged: a layer writes what was written since the previous one, and nothing else.
func TestLayerOfWhatChanged(t *testing.T) {
	c := &chain{t: t, st: mem.New(mem.Options{}), tree: largeTree(t, 64<<20)}
	first := c.next()
	if first.NewRawBytes != first.RawBytes || first.NewBytes != first.StoredBytes {
		t.Errorf("the first: %+v", first)
	}
	if again := c.next(); again.NewSegments != 0 || again.NewRawBytes != 0 || again.RawBytes != first.RawBytes || again.NewBytes > 10_000 {
		t.Errorf("nothing changed: %+v", again)
	}
	rng := rand.New(rand.NewPCG(seed, 31))
	written := map[string]bool{}
	for range 80 {
		path, at := fmt.Sprintf("/base/5/%d", 16384+rng.IntN(4)), int64(rng.IntN(2048))
		file, err := c.tree.Open(path, os.O_RDWR, 0)
		check(t, err)
		_, err = file.WriteAt([]byte{1}, at*memfs.ChunkSize)
		check(t, err)
		check(t, file.Close())
		written[fmt.Sprint(path, at)] = true
	}
	stats := c.next()
	if stats.NewRawBytes != int64(len(written))*memfs.ChunkSize || stats.CleanedBytes != 0 || stats.NewSegments != 1 || stats.NewBytes*50 > first.StoredBytes {
		t.Errorf("%d chunks changed: %+v of %+v", len(written), stats, first)
	}
}

// TestCleaning: under random updates, what is stored stays below twice what is used, and what a layer writes again is bounded.
func TestCleaning(t *testing.T) {
	c := &chain{t: t, st: mem.New(mem.Options{}), tree: largeTree(t, 48<<20), o: WriteOptions{SegmentBytes: 256 << 10}}
	rng := rand.New(rand.NewPCG(seed, 32))
	total, cleaned := int64(0), int64(0)
	for n := range 120 {
		s := c.next()
		use := c.last.Use()
		stored := float64(use.Chunks) / float64(use.LiveChunks)
		fresh := s.NewRawBytes - s.CleanedBytes
		bound := max(cleanLeast*memfs.ChunkSize, fresh) + smallMost*10*c.o.SegmentBytes/smallShare // small ones, uncompressed
		if stored > 2 || s.CleanedBytes > bound {
			t.Fatalf("layer %d: stored is %.2f of what is used; %d bytes were new, %d cleaned", n, stored, fresh, s.CleanedBytes)
		}
		if n > 0 {
			total, cleaned = total+fresh, cleaned+s.CleanedBytes
		}
		for range 300 {
			path := fmt.Sprintf("/base/5/%d", 16384+rng.IntN(3))
			file, err := c.tree.Open(path, os.O_RDWR, 0)
			check(t, err)
			_, err = file.WriteAt(pages(rng, 100), int64(rng.IntN(2048))*memfs.ChunkSize)
			check(t, err)
			check(t, file.Close())
		}
		c.forget()
	}
	t.Logf("cleaned %.2f of what was written; %+v", float64(cleaned)/float64(total), c.last.Use())
	if cleaned > 3*total {
		t.Errorf("%d bytes were cleaned for %d written", cleaned, total)
	}
	c.next()
	if want, got := describe(t, c.tree), describe(t, restored(t, c.st, c.last.Key())); want != got {
		t.Error("restored something else")
	}
}

// TestSmallSegments: many layers of few pages do not become as many segments.
func TestSmallSegments(t *testing.T) {
	c := &chain{t: t, st: mem.New(mem.Options{}), tree: largeTree(t, 8<<20)}
	rng := rand.New(rand.NewPCG(seed, 33))
	most := 0
	for range 300 {
		c.next()
		most = max(most, c.last.Use().Segments)
		check(t, c.tree.WriteFile(fmt.Sprintf("/base/5/1%d", rng.IntN(100)), pages(rng, 20_000), 0o600))
	}
	if most > 2*smallMost {
		t.Errorf("%d segments", most)
	}
}

// Any damage to a shared object is found, under the name of the layer that needs it.
func TestSharedDamageIsFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed, 34))
	c := &chain{t: t, st: mem.New(mem.Options{}), tree: makeTree(t, rng, 20), o: WriteOptions{FrameBytes: 16384, SegmentBytes: 40_000}}
	c.next()
	change(t, rng, c.tree)
	c.next()
	shared := ""
	for _, k := range c.last.Segments() {
		if o, ok := ParseSegment(k); ok && o.Seq == 1 {
			shared = k
		}
	}
	if shared == "" {
		t.Fatalf("nothing is shared: %q", c.last.Segments())
	}
	good, index := objects(t, c.st), IndexKey(c.last.Key())
	found := func(name, object string, want error) {
		t.Helper()
		_, _, err := Read(t.Context(), c.st, c.last.Key(), memfs.New(memfs.Options{}), ReadOptions{})
		_, _, verifyErr := Verify(t.Context(), c.st, c.last.Key(), ReadOptions{})
		for _, err := range []error{err, verifyErr} {
			if !errors.Is(err, want) || !strings.Contains(err.Error(), object) || !strings.Contains(err.Error(), c.last.Key()) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, body := range map[string]string{
		"the earlier layer's index": good[IndexKey(Key(7, 1))], "index cut": good[index][:len(good[index])-1], "index longer": good[index] + "x",
	} {
		_, err := c.st.Put(t.Context(), index, []byte(body), "", store.Always())
		check(t, err)
		found(name, index, ErrCorrupt)
	}
	_, err := c.st.Put(t.Context(), index, []byte(good[index]), "", store.Always())
	check(t, err)
	for name, want := range map[string]error{"bit": ErrCorrupt, "cut": ErrCorrupt, "longer": ErrCorrupt, "gone": store.ErrNotFound, "another's": ErrCorrupt} {
		body := []byte(good[shared])
		switch name {
		case "bit":
			body[len(body)/2] ^= 4
		case "cut":
			body = body[1:]
		case "longer":
			body = append(body, 0)
		case "another's":
			other := maps.Clone(good)
			delete(other, shared)
			for k, v := range other {
				if strings.HasPrefix(k, SegmentPrefix()) {
					body = []byte(v)
				}
			}
		}
		check(t, c.st.Delete(t.Context(), shared))
		if name != "gone" {
			_, err := c.st.Put(t.Context(), shared, body, "", store.Always())
			check(t, err)
		}
		found(name, shared, want)
	}
}

func TestObjectNames(t *testing.T) {
	for key, want := range map[string]Object{
		IndexKey(Key(7, 9)):            {Layer: Key(7, 9), Epoch: 7, Seq: 9, Index: true},
		partKey(Key(7, 9)+"-01AB", 12): {Layer: Key(7, 9) + "-01AB", Epoch: 7, Seq: 9, ID: "01AB"},
	} {
		if o, ok := ParseObject(key); !ok || o != want {
			t.Errorf("%s: %+v, %v", key, o, ok)
		}
	}
	for key, want := range map[string]Object{
		SegmentKey(Key(7, 9), 0):           {Layer: Key(7, 9), Epoch: 7, Seq: 9},
		SegmentKey(Key(0, 0)+"-01AB", 999): {Layer: Key(0, 0) + "-01AB", ID: "01AB"},
	} {
		if o, ok := ParseSegment(key); !ok || o != want {
			t.Errorf("%s: %+v, %v", key, o, ok)
		}
	}
	for _, key := range []string{"page/", "page/1-2", "page/1-2/3", "page/1-2/000003x", "page/1/000003", "page/a-2/000003", "page/1-2/000003/x", "base/1-2/000003", "x/page/1-2/000003", "page/1-2/-00003", "page/1-2/index"} {
		if o, ok := ParseSegment(key); ok {
			t.Errorf("%s: %+v", key, o)
		}
		if o, ok := ParseObject(key); ok {
			t.Errorf("%s: %+v", key, o)
		}
	}
}

// TestRewrite: a file that differs between the clone and the tree is never taken from the layer that was made from the clone.
func TestRewrite(t *testing.T) {
	st, tree := mem.New(mem.Options{}), memfs.New(memfs.Options{})
	check(t, tree.WriteFile("/control", []byte("the tree's"), 0o600))
	check(t, tree.WriteFile("/other", []byte("x"), 0o600))
	mark, clone := tree.Mark(), tree.Clone()
	check(t, clone.WriteFile("/control", []byte("the clone's"), 0o600))
	first, _, err := Write(t.Context(), st, Key(1, 1), clone, WriteOptions{Rewrite: "/control"})
	check(t, err)
	_, stats, err := Write(t.Context(), st, Key(1, 2), tree.Clone(), WriteOptions{Share: first, Since: mark, Rewrite: "/control"})
	check(t, err)
	got := must(restored(t, st, Key(1, 2)).ReadFile("/control"))
	if string(got) != "the tree's" || stats.NewRawBytes != memfs.ChunkSize {
		t.Errorf("%q, %+v", got, stats)
	}
}
