package base

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// wholeOnly is a store that reads only whole objects.
type wholeOnly struct{ store.Store }

// wrongPages compares the part of a tree that is in memory with what was written, and returns how much is not in memory.
func wrongPages(t *testing.T, got, want *memfs.FS) (away int) {
	t.Helper()
	check(t, want.Walk("/", func(path string, i memfs.Info) error {
		if !i.IsRegular() {
			return nil
		}
		right, err := want.ReadFile(path)
		check(t, err)
		f, err := got.Open(path, os.O_RDONLY, 0)
		check(t, err)
		for at := int64(0); at < i.Size; at += memfs.ChunkSize {
			page := make([]byte, min(memfs.ChunkSize, i.Size-at))
			if len(f.Missing(at, int64(len(page)))) > 0 {
				away++
				continue
			}
			_, err := f.ReadAt(page, at)
			check(t, err)
			if string(page) != string(right[at:at+int64(len(page))]) {
				t.Errorf("%s has wrong bytes at %d", path, at)
			}
		}
		return f.Close()
	}))
	return away
}

// incompressible is a tree whose frames all have the same stored size, so that only its checksum tells one from another.
func incompressible(t *testing.T, n uint64) *memfs.FS {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, n))
	f := memfs.New(memfs.Options{})
	check(t, f.MkdirAll("/base/5", 0o700))
	for i := range 4 {
		body := make([]byte, 8*memfs.ChunkSize)
		for j := range body {
			body[j] = byte(rng.Uint32())
		}
		check(t, f.WriteFile(fmt.Sprintf("/base/5/%d", 1000+i), body, 0o600))
	}
	return f
}

// TestPagesOfSpoiltSegments: whatever was done to a segment, reading one of its pages is an error that names the segment, or the page is as
// written. Once the object is restored, everything can be read.
func TestPagesOfSpoiltSegments(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d", seed)
	tree := incompressible(t, 330)
	o := WriteOptions{FrameBytes: 2 * memfs.ChunkSize, SegmentBytes: 40_000}
	first := mem.New(mem.Options{})
	l, _, err := Write(t.Context(), first, key, tree, o)
	check(t, err)
	theirs := mem.New(mem.Options{})
	_, _, err = Write(t.Context(), theirs, key, incompressible(t, 331), o)
	check(t, err)
	good, foreign := objects(t, first), objects(t, theirs)
	segments := l.Segments()
	if len(segments) < 4 {
		t.Fatalf("%d segments", len(segments))
	}
	one, other := segments[1], segments[2]
	frames, others := l.index.segments[1].frames, l.index.segments[2].frames
	a, b := frames[0].size, frames[0].size+frames[1].size
	if len(frames) != len(others) || frames[0].size != frames[1].size || len(good[one]) != len(good[other]) || len(good[one]) != len(foreign[one]) {
		t.Fatalf("what is exchanged has other sizes, and is told by these: %+v, %+v", frames, others)
	}
	for _, c := range []struct {
		name  string
		spoil func(m map[string]string)
		want  error  // nil: the pages are as written
		bad   string // of the objects, those that are named
	}{
		{"as it was", func(map[string]string) {}, nil, ""},
		{"cut by a byte", func(m map[string]string) { m[one] = m[one][:len(m[one])-1] }, ErrCorrupt, one},
		{"cut at a frame", func(m map[string]string) { m[one] = m[one][:a] }, ErrCorrupt, one},
		{"cut in half", func(m map[string]string) { m[one] = m[one][:len(m[one])/2] }, ErrCorrupt, one},
		{"empty", func(m map[string]string) { m[one] = "" }, ErrCorrupt, one},
		{"longer", func(m map[string]string) { m[one] += "x" }, nil, ""},
		{"twice as long", func(m map[string]string) { m[one] += m[one] }, nil, ""},
		{"longer at its beginning", func(m map[string]string) { m[one] = "x" + m[one] }, ErrCorrupt, one},
		{"without its beginning", func(m map[string]string) { m[one] = m[one][1:] }, ErrCorrupt, one},
		{"zeros", func(m map[string]string) { m[one] = strings.Repeat("\x00", len(m[one])) }, ErrCorrupt, one},
		{"its frames exchanged", func(m map[string]string) { m[one] = m[one][a:b] + m[one][:a] + m[one][b:] }, ErrCorrupt, one},
		{"exchanged with another", func(m map[string]string) { m[one], m[other] = m[other], m[one] }, ErrCorrupt, one + " " + other},
		{"another's twice", func(m map[string]string) { m[one] = m[other] }, ErrCorrupt, one},
		{"another database's", func(m map[string]string) { m[one] = foreign[one] }, ErrCorrupt, one},
		{"gone", func(m map[string]string) { delete(m, one) }, store.ErrNotFound, one},
	} {
		for _, ranges := range []bool{true, false} {
			below := mem.New(mem.Options{})
			put := func(m map[string]string) {
				for k, v := range m {
					_, err := below.Put(t.Context(), k, []byte(v), "", store.Always())
					check(t, err)
				}
			}
			changed := maps.Clone(good)
			c.spoil(changed)
			put(changed)
			var st store.Store = below
			if !ranges {
				st = wholeOnly{below}
			}
			p := pagesOf(t, st, PagesOptions{Clock: noWait{clock.System()}})
			f := memfs.New(memfs.Options{})
			_, _, _, err := Open(t.Context(), p, key, f, func(string) Wish { return Later }, Expect{})
			check(t, err)
			named := map[string]bool{}
			check(t, f.Walk("/", func(path string, i memfs.Info) error {
				if !i.IsRegular() {
					return nil
				}
				file, err := f.Open(path, os.O_RDONLY, 0)
				check(t, err)
				defer file.Close()
				for at := int64(0); at < i.Size; at += memfs.ChunkSize {
					missing := file.Missing(at, 1)
					if len(missing) == 0 {
						continue
					}
					got, err := memfs.Get(t.Context(), p, missing)
					if err == nil {
						file.Fill(missing, got)
						continue
					}
					if !errors.Is(err, c.want) {
						t.Errorf("%s: %v, want %v", c.name, err, c.want)
					}
					for _, k := range segments {
						if strings.Contains(err.Error(), k) {
							named[k] = true
						}
					}
				}
				return nil
			}))
			if got := strings.Join(slices.Sorted(maps.Keys(named)), " "); got != c.bad {
				t.Errorf("%s (ranges %v): it names %q, want %q", c.name, ranges, got, c.bad)
			}
			if away := wrongPages(t, f, tree); (away > 0) != (c.want != nil) {
				t.Errorf("%s: %d pages are away", c.name, away)
			}
			put(good)
			whole(t, p, f)
			if got, want := contents(t, f), contents(t, tree); got != want {
				t.Errorf("%s: afterwards it is\n%s\nwant\n%s", c.name, got, want)
			}
		}
	}
}

// TestVerifyOfALongerSegment: a verification sees what a reader of single pages does not.
func TestVerifyOfALongerSegment(t *testing.T) {
	st := mem.New(mem.Options{})
	l, _, err := Write(t.Context(), st, key, makeTree(t, rand.New(rand.NewPCG(seed, 332)), 5), WriteOptions{})
	check(t, err)
	segment := l.Segments()[0]
	o, err := st.Get(t.Context(), segment)
	check(t, err)
	_, err = st.Put(t.Context(), segment, append(o.Body, 0), "", store.Always())
	check(t, err)
	if _, _, err := Verify(t.Context(), st, key, ReadOptions{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("%q", segment)) {
		t.Errorf("%v", err)
	}
}
