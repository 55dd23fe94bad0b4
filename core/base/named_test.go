package base

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// prefix is a database in its bucket, with two layers of which the second shares with the first, and what its manifest says.
type prefix struct {
	Objects map[string][]byte
	Layers  []manifest.Layer
	Trees   []string // what each layer restores
}

// twoLayers makes a database with an ID; n tells them apart.
func twoLayers(t *testing.T, id string, n uint64) prefix {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, n))
	st, tree := mem.New(mem.Options{}), makeTree(t, rng, 8)
	p := prefix{Objects: map[string][]byte{}}
	o := WriteOptions{FrameBytes: 4 * memfs.ChunkSize, SegmentBytes: 40_000, Database: id}
	for _, seq := range []uint64{90, 120} {
		mark := tree.Mark()
		l, stats, err := Write(t.Context(), st, Key(7, seq), tree.Clone(), o)
		check(t, err)
		o.Share, o.Since = l, mark
		p.Layers = append(p.Layers, manifest.Layer{
			Key: l.Key(), Epoch: 7, Seq: seq, RawBytes: stats.RawBytes, StoredBytes: stats.StoredBytes, Segments: stats.Segments,
		})
		p.Trees = append(p.Trees, describe(t, tree))
		check(t, tree.WriteFile("/base/1/1003", pages(rng, 50_000), 0o600))
	}
	for k, v := range objects(t, st) {
		p.Objects[k] = []byte(v)
	}
	return p
}

func (p prefix) clone() prefix {
	p.Objects = maps.Clone(p.Objects)
	for k, v := range p.Objects {
		p.Objects[k] = slices.Clone(v)
	}
	return p
}

func (p prefix) store(t *testing.T) store.Store {
	t.Helper()
	st := mem.New(mem.Options{})
	for k, v := range p.Objects {
		_, err := st.Put(t.Context(), k, v, "", store.Always())
		check(t, err)
	}
	return st
}

// read reads a layer in every possible way. All must end alike.
func (p prefix) read(t *testing.T, n int, database string) error {
	t.Helper()
	st, key := p.store(t), p.Layers[n].Key
	e := Expected(manifest.Manifest{DatabaseID: database}, p.Layers[n])
	dst := memfs.New(memfs.Options{})
	_, _, err := Read(t.Context(), st, key, dst, ReadOptions{Expect: e})
	if err == nil && describe(t, dst) != p.Trees[n] {
		t.Errorf("layer %s restores\n%s\nwant\n%s", key, describe(t, dst), p.Trees[n])
	}
	_, _, verifyErr := Verify(t.Context(), st, key, ReadOptions{Expect: e})
	lazy := memfs.New(memfs.Options{})
	pages := pagesOf(t, st, PagesOptions{})
	_, _, _, openErr := Open(t.Context(), pages, key, lazy, func(string) Wish { return Later }, e)
	if openErr == nil {
		openErr = lazy.Walk("/", func(path string, i memfs.Info) error {
			if !i.IsRegular() {
				return nil
			}
			return lazy.Bring(t.Context(), pages, path)
		})
	}
	if openErr == nil && describe(t, lazy) != p.Trees[n] {
		t.Errorf("layer %s opens as\n%s\nwant\n%s", key, describe(t, lazy), p.Trees[n])
	}
	for what, other := range map[string]error{"verified": verifyErr, "opened": openErr} {
		if (err == nil) != (other == nil) || errors.Is(err, ErrCorrupt) != errors.Is(other, ErrCorrupt) {
			t.Errorf("layer %s: read: %v; %s: %v", key, err, what, other)
		}
	}
	return errors.Join(err, verifyErr, openErr)
}

// recordedFormat2 was written before indexes had names, by the commit 42be9ad: makeTree of 8 files, three changes between its layers.
func recordedFormat2(t *testing.T) (p prefix) {
	t.Helper()
	check(t, json.Unmarshal(must(os.ReadFile("testdata/format2.json")), &p))
	return p
}

// TestFormat2WithoutNames: layers of versions whose indexes have no name can be read and shared with.
func TestFormat2WithoutNames(t *testing.T) {
	p := recordedFormat2(t)
	for n := range p.Layers {
		check(t, p.read(t, n, "01ID"))
	}
	st := p.store(t)
	dst := memfs.New(memfs.Options{})
	old, _, err := Read(t.Context(), st, p.Layers[1].Key, dst, ReadOptions{})
	check(t, err)
	if old.index.named != (named{}) {
		t.Errorf("it has a name: %q", old.index.named)
	}
	next, stats, err := Write(t.Context(), st, Key(8, 130), dst, WriteOptions{FrameBytes: 4 * memfs.ChunkSize, Share: old, Since: dst.Mark(), Database: "01ID"})
	check(t, err)
	if stats.NewSegments != 0 || next.index.named != (named{Key(8, 130), "01ID"}) {
		t.Errorf("the next layer: %+v, %q", stats, next.index.named)
	}
	if got := describe(t, restored(t, st, Key(8, 130))); got != p.Trees[1] {
		t.Errorf("the next layer restores\n%s\nwant\n%s", got, p.Trees[1])
	}
}

// TestNamesAreSkipped: versions that do not know names can read indexes that have one. They pass everything after the header to zstd.
func TestNamesAreSkipped(t *testing.T) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	check(t, err)
	defer z.Close()
	x := sampleIndex()
	object := must(encodeIndex(x))
	if !strings.Contains(string(object), key+"\x0401ID") {
		t.Fatal("it has no name")
	}
	body, err := z.DecodeAll(object[headerSize:], nil)
	check(t, err)
	if string(body) != string(bodyOf(t, x)) {
		t.Error("they read another body")
	}
}

// TestIndexInAnothersPlace: an intact index, with all its segments present, is not read as another layer's.
func TestIndexInAnothersPlace(t *testing.T) {
	t.Parallel()
	ours, theirs, old := twoLayers(t, "01ID", 401), twoLayers(t, "02OTHER", 402), recordedFormat2(t)
	check(t, errors.Join(ours.read(t, 0, "01ID"), ours.read(t, 1, "01ID"), theirs.read(t, 1, "02OTHER")))
	swap := func(p prefix, from, to int) prefix {
		p = p.clone()
		p.Objects[IndexKey(p.Layers[to].Key)] = p.Objects[IndexKey(p.Layers[from].Key)]
		return p
	}
	foreign := func(p prefix, index, segments bool) prefix {
		q := p.clone()
		for k, v := range theirs.Objects {
			if strings.HasSuffix(k, "/index") && index || !strings.HasSuffix(k, "/index") && segments {
				q.Objects[k] = v
			}
		}
		q.Trees = theirs.Trees // what it would restore
		return q
	}
	nameless := func(p prefix) prefix { // as an earlier version would have written it
		p = p.clone()
		for _, l := range p.Layers {
			x := must(decodeIndex(l.Key, p.Objects[IndexKey(l.Key)]))
			x.named = named{}
			p.Objects[IndexKey(l.Key)] = must(encodeIndex(x))
		}
		return p
	}
	for _, c := range []struct {
		name  string
		p     prefix
		layer int
		said  string
	}{
		{"the earlier layer's", swap(ours, 0, 1), 1, "it is the index of layer " + ours.Layers[0].Key},
		{"the later layer's", swap(ours, 1, 0), 0, "it is the index of layer " + ours.Layers[1].Key},
		{"the earlier layer's, without a name", swap(old, 0, 1), 1, "it is not the one that the manifest names"},
		{"the later layer's, without a name", swap(old, 1, 0), 0, "was written for a later layer"},
		{"another database's", foreign(ours, true, false), 1, "database 02OTHER, not to 01ID"},
		{"another database's, with its segments", foreign(ours, true, true), 1, "database 02OTHER, not to 01ID"},
		{"another database's, without a name", foreign(old, true, true), 1, "database 02OTHER, not to 01ID"},
		{"another database's, neither with a name", nameless(foreign(ours, true, true)), 1, "it is not the one that the manifest names"},
	} {
		err := c.p.read(t, c.layer, "01ID")
		index := IndexKey(c.p.Layers[c.layer].Key)
		if !errors.Is(err, ErrCorrupt) || strings.Count(err.Error(), index) != 3 || strings.Count(err.Error(), c.said) != 3 {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	err := foreign(ours, false, true).read(t, 1, "01ID")
	if !errors.Is(err, ErrCorrupt) || strings.Count(err.Error(), SegmentPrefix()) < 3 {
		t.Errorf("another database's segments: %v", err)
	}
}

// TestExpect: each number in a manifest's description of a layer is compared; what it leaves out is not.
func TestExpect(t *testing.T) {
	p := twoLayers(t, "01ID", 403)
	st, l := p.store(t), p.Layers[1]
	whole := Expected(manifest.Manifest{DatabaseID: "01ID"}, l)
	for name, c := range map[string]struct {
		change func(*Expect)
		want   error
	}{
		"all of it":        {func(*Expect) {}, nil},
		"nothing":          {func(e *Expect) { *e = Expect{} }, nil},
		"another database": {func(e *Expect) { e.Database = "02OTHER" }, ErrCorrupt},
		"another record":   {func(e *Expect) { e.Seq++ }, ErrCorrupt},
		"a page more":      {func(e *Expect) { e.RawBytes += memfs.ChunkSize }, ErrCorrupt},
		"a byte less":      {func(e *Expect) { e.StoredBytes-- }, ErrCorrupt},
		"a segment less":   {func(e *Expect) { e.Segments-- }, ErrCorrupt},
		"no segment":       {func(e *Expect) { e.Segments = 0 }, ErrCorrupt},
		"no sizes":         {func(e *Expect) { *e = Expect{Database: e.Database} }, nil},
	} {
		e := whole
		c.change(&e)
		if _, err := ReadIndex(t.Context(), st, l.Key, e); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), IndexKey(l.Key)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIDsInKeys: a layer whose key, or whose segments' keys, contain the ID of another database is not this one's, with or without a name.
func TestIDsInKeys(t *testing.T) {
	for _, id := range []string{"01ID", ""} {
		st, first := mem.New(mem.Options{}), Key(0, 0)+"-01ID"
		tree := makeTree(t, rand.New(rand.NewPCG(seed, 404)), 3)
		l, _, err := Write(t.Context(), st, first, tree, WriteOptions{Database: id})
		check(t, err)
		_, _, err = Write(t.Context(), st, Key(1, 4), tree, WriteOptions{Database: id, Share: l, Since: tree.Mark()})
		check(t, err)
		for _, key := range []string{first, Key(1, 4)} {
			for database, want := range map[string]error{"01ID": nil, "": nil, "02OTHER": ErrCorrupt} {
				if _, err := ReadIndex(t.Context(), st, key, Expect{Database: database}); !errors.Is(err, want) {
					t.Errorf("%s, of database %q, read as %q's: %v", key, id, database, err)
				}
			}
		}
	}
}

// TestLaterLayersAreNotSharedWith: a layer that no reader would accept is not written.
func TestLaterLayersAreNotSharedWith(t *testing.T) {
	st := mem.New(mem.Options{})
	tree := makeTree(t, rand.New(rand.NewPCG(seed, 405)), 3)
	l, _, err := Write(t.Context(), st, Key(7, 120), tree, WriteOptions{})
	check(t, err)
	before := objects(t, st)
	for key, want := range map[string]error{Key(7, 119): store.ErrInvalid, Key(6, 120): store.ErrInvalid, Key(6, 500): store.ErrInvalid} {
		if _, _, err := Write(t.Context(), st, key, tree, WriteOptions{Share: l, Since: tree.Mark()}); !errors.Is(err, want) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if !maps.Equal(before, objects(t, st)) {
		t.Error("something was written")
	}
	if _, _, err := Write(t.Context(), st, Key(7, 121), tree, WriteOptions{Database: strings.Repeat("x", maxOrigin+1)}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("an id without end: %v", err)
	}
}
