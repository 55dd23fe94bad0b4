package base

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestSharedSegmentsAreVerifiedOnce: of layers that share segments, what was read for one is not read for the next, unless that one uses
// more of it, or describes it differently; and damage is still found.
func TestSharedSegmentsAreVerifiedOnce(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed, 501))
	st := mem.New(mem.Options{})
	c := &chain{t: t, st: st, tree: memfs.New(memfs.Options{}), o: WriteOptions{FrameBytes: memfs.ChunkSize, SegmentBytes: 100_000}}
	for n := range 12 {
		check(t, c.tree.WriteFile(fmt.Sprintf("/%d", n), pages(rng, 4*memfs.ChunkSize), 0o600))
	}
	check(t, c.tree.WriteFile("/head", pages(rng, 10), 0o600))
	var layers []*Layer
	objects := map[string]bool{}
	for n := range 4 {
		check(t, c.tree.Unlink(fmt.Sprintf("/%d", n)))
		check(t, c.tree.WriteFile("/new", pages(rng, 2*memfs.ChunkSize), 0o600))
		c.next()
		layers = append(layers, c.last)
		for _, key := range c.last.Segments() {
			objects[key] = true
		}
	}
	verify := func(order ...int) (requests int, err error) {
		counted, known := store.Count(st), &Verified{}
		for _, n := range order {
			done, total := int64(-1), int64(0)
			o := ReadOptions{Verified: known, Progress: func(d, all int64) { done, total = d, all }}
			if _, _, err := Verify(t.Context(), counted, layers[n].Key(), o); err != nil {
				return 0, err
			}
			if done >= 0 && done != total {
				t.Errorf("layer %d: %d bytes of %d were told", n, done, total)
			}
		}
		return int(counted.Ops().ClassB) - len(order), nil
	}
	if got, err := verify(0, 1, 2, 3); err != nil || got != len(objects) {
		t.Errorf("%d segments were read, %d are there: %v", got, len(objects), err)
	}
	if got, err := verify(3, 3, 3); err != nil || got != len(layers[3].Segments()) {
		t.Errorf("one layer three times: %d of its %d segments were read: %v", got, len(layers[3].Segments()), err)
	}
	if got, err := verify(3, 2, 1, 0); err != nil || got <= len(objects) {
		t.Errorf("the newest first, which uses less of what they share: %d segments were read of %d: %v", got, len(objects), err)
	}

	// A chunk does not decompress, though the index has the correct checksum for it: what was verified before had another one.
	first, known := layers[0], &Verified{}
	if _, _, err := Verify(t.Context(), st, first.Key(), ReadOptions{Verified: known}); err != nil {
		t.Fatal(err)
	}
	place, ok := first.Place("/1", 0)
	if !ok {
		t.Fatal("the first layer has no file 1")
	}
	o, err := st.Get(t.Context(), place.Object)
	check(t, err)
	clear(o.Body[place.Offset : place.Offset+place.Length])
	_, err = st.Put(t.Context(), place.Object, o.Body, "", store.Always())
	check(t, err)
	x := must(decodeIndex(first.Key(), must(st.Get(t.Context(), IndexKey(first.Key()))).Body))
	for i := range x.segments {
		for f, at := 0, int64(0); x.segments[i].key() == place.Object && f < len(x.segments[i].frames); f++ {
			fr := &x.segments[i].frames[f]
			if at == place.Offset {
				fr.crc = checksum(o.Body[at : at+int64(fr.size)])
			}
			at += int64(fr.size)
		}
	}
	_, err = st.Put(t.Context(), IndexKey(first.Key()), must(encodeIndex(x)), "", store.Always())
	check(t, err)
	if _, _, err := Verify(t.Context(), st, first.Key(), ReadOptions{Verified: known}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), place.Object) {
		t.Errorf("what an index says of a segment differs from what was verified: %v", err)
	}
	for _, order := range [][]int{{1, 2, 3}, {3, 2, 1}} {
		if _, err := verify(order...); !errors.Is(err, ErrCorrupt) {
			t.Errorf("layers %v of which the first needs what is damaged: %v", order, err)
		}
	}
}
