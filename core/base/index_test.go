package base

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/store/mem"
)

// sampleIndex uses 5 of the 6 chunks of its segments.
func sampleIndex() *index {
	x := &index{
		named:      named{key, "01ID"},
		frameBytes: 2 * memfs.ChunkSize,
		segments: []segment{
			{layer: Key(3, 5), n: 2, chunks: 3, frames: []frame{{10, 3}, {20, 4}}},
			{layer: Key(3, 5), n: 0, chunks: 2, frames: []frame{{8, 6}}},
			{layer: Key(0, 0) + "-01ID", n: 7, chunks: 1, frames: []frame{{7, 5}}},
		},
		boot: []frameRef{{0, 1}, {2, 0}},
		entries: []entry{
			{kind: kindDir, perm: 0o700, mtime: -5},
			{kind: kindFile, path: "a", perm: 0o600, mtime: 1 << 60, size: 9 * memfs.ChunkSize, runs: []run{{1, 2, 2}, {5, 1, 4}, {6, 1, 0}}},
			{kind: kindDir, path: "d", perm: 0o750},
			{kind: kindFile, path: "d/e", size: 1, runs: []run{{0, 1, 5}}},
			{kind: kindFile, path: "d/f", size: memfs.MaxFileSize},
			{kind: kindLink, path: "d/g", target: "a"},
			{kind: kindSymlink, path: "s", target: "../x"},
		},
	}
	x.settle()
	x.tally()
	return x
}

func decoded(t testing.TB, x *index) (*index, error) {
	t.Helper()
	object, err := encodeIndex(x)
	check(t, err)
	return decodeIndex(key, object)
}

func TestIndexRoundTrip(t *testing.T) {
	for _, x := range []*index{sampleIndex(), {frameBytes: MaxFrameBytes, segments: []segment{}, entries: []entry{{kind: kindDir}}}} {
		got, err := decoded(t, x)
		check(t, err)
		if !reflect.DeepEqual(got, x) {
			t.Fatalf("%+v\nwant\n%+v", got, x)
		}
	}
	if use := (&Layer{index: sampleIndex(), size: 100}).Use(); use != (Use{Segments: 3, StoredBytes: 145, Chunks: 6, LiveChunks: 5, LiveBytes: 135}) { // of the first segment, two of three chunks
		t.Errorf("%+v", use)
	}
}

// Contradictions under a correct checksum: nothing may pass that Read relies on.
func TestIndexContradictions(t *testing.T) {
	for name, spoil := range map[string]func(*index){
		"no frame size":             func(x *index) { x.frameBytes = 0 },
		"uneven frame size":         func(x *index) { x.frameBytes = 10000 },
		"large frame size":          func(x *index) { x.frameBytes = MaxFrameBytes + memfs.ChunkSize },
		"no chunks":                 func(x *index) { x.segments[2].chunks, x.segments[2].frames = 0, nil },
		"one frame more":            func(x *index) { x.segments[1].chunks = 3 },
		"absurd chunks":             func(x *index) { x.segments[1].chunks = 1 << 62 },
		"frame too long":            func(x *index) { x.segments[0].frames[0].size = 1 << 20 },
		"segment twice":             func(x *index) { x.segments[1].n = 2 },
		"segment of nobody":         func(x *index) { x.segments[0].layer, x.segments[1].layer = "", "" },
		"segment elsewhere":         func(x *index) { x.segments[0].layer = "base/../../other/1-2" },
		"segment of no epoch":       func(x *index) { x.segments[2].layer = "base/x-2" },
		"segment number":            func(x *index) { x.segments[2].n = maxSegments },
		"segment of an epoch above": func(x *index) { x.segments[2].layer = Key(8, 5) },
		"segment of a later record": func(x *index) { x.segments[2].layer = Key(3, 121) },
		"of an earlier layer":       func(x *index) { x.named.layer = Key(7, 119) },
		"of a later layer":          func(x *index) { x.named.layer = Key(7, 121) },
		"boot of no segment":        func(x *index) { x.boot[1].segment = 3 },
		"boot of no frame":          func(x *index) { x.boot[0].frame = 2 },
		"boot twice":                func(x *index) { x.boot[1] = x.boot[0] },
		"boot out of order":         func(x *index) { x.boot[0], x.boot[1] = x.boot[1], x.boot[0] },
		"segment not used":          func(x *index) { x.entries[3].runs = nil },
		"chunk used twice":          func(x *index) { x.entries[3].runs[0].at = 4 },
		"runs overlap":              func(x *index) { x.entries[1].runs[2].at = 3 },
		"address behind":            func(x *index) { x.entries[3].runs[0].at = 6 },
		"address before":            func(x *index) { x.entries[3].runs[0].at = -1 },
		"address far away":          func(x *index) { x.entries[3].runs[0].at = 1<<63 - 1 },
		"no root":                   func(x *index) { x.entries = x.entries[1:] },
		"nothing":                   func(x *index) { x.entries = nil },
		"root is a file":            func(x *index) { x.entries[0].kind = kindFile },
		"second root":               func(x *index) { x.entries[2].path = "" },
		"name twice":                func(x *index) { x.entries[4].path = "d/e" },
		"path goes up":              func(x *index) { x.entries[4].path = "d/../e" },
		"absolute path":             func(x *index) { x.entries[4].path = "/d/f" },
		"empty name":                func(x *index) { x.entries[4].path = "d//f" },
		"zero byte":                 func(x *index) { x.entries[4].path = "d/\x00" },
		"long name":                 func(x *index) { x.entries[4].path = "d/" + strings.Repeat("n", 256) },
		"long path":                 func(x *index) { x.entries[4].path = strings.Repeat("d/", 2048) },
		"no such directory":         func(x *index) { x.entries[4].path = "e/f" },
		"below a file":              func(x *index) { x.entries[4].path = "a/f" },
		"below a symlink":           func(x *index) { x.entries = append(x.entries, entry{kind: kindDir, path: "s/x"}) },
		"unknown kind":              func(x *index) { x.entries[4].kind = kindLink + 1 },
		"kind zero":                 func(x *index) { x.entries[4].kind = 0 },
		"permissions":               func(x *index) { x.entries[4].perm = 0o10000 },
		"large file":                func(x *index) { x.entries[4].size++ },
		"chunk past the end":        func(x *index) { x.entries[1].size = 6 * memfs.ChunkSize },
		"chunk of no file":          func(x *index) { x.entries[3].size = 0 },
		"empty run":                 func(x *index) { x.entries[3].runs[0].count = 0 },
		"runs that touch":           func(x *index) { x.entries[1].runs = []run{{1, 1, 2}, {2, 1, 3}, {5, 1, 4}, {6, 1, 0}} },
		"link to a directory":       func(x *index) { x.entries[5].target = "d" },
		"link to nothing":           func(x *index) { x.entries[5].target = "b" },
		"link to a later file":      func(x *index) { x.entries[5].target = "z" },
		"symlink to nowhere":        func(x *index) { x.entries[6].target = "" },
	} {
		x := sampleIndex()
		spoil(x)
		if _, err := decoded(t, x); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, object := range map[string][]byte{
		"body with a tail": must(seal(named{}, append(bodyOf(t, sampleIndex()), 0), Format)),
		"body cut":         must(seal(named{}, bodyOf(t, sampleIndex())[:40], Format)),
		"body empty":       must(seal(named{}, nil, Format)),
		"name cut":         renamed(t, func(name []byte) []byte { return name[:len(name)-1] }),
		"name longer":      renamed(t, func(name []byte) []byte { return append(name, 0) }),
		"name empty":       renamed(t, func([]byte) []byte { return nil }),
		"name of nobody":   renamed(t, func([]byte) []byte { return []byte{0, 0} }),
		"name beyond":      renamed(t, func(name []byte) []byte { return append(name, make([]byte, maxName)...) }),
	} {
		if _, err := decodeIndex(key, object); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lying := must(seal(named{}, bodyOf(t, sampleIndex()), Format))
	binary.LittleEndian.PutUint32(lying[len(magic)+4:], maxIndexBytes+1)
	if _, err := decodeIndex(key, resum(lying)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("body of another length: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func bodyOf(t testing.TB, x *index) []byte {
	t.Helper()
	object, err := encodeIndex(x)
	check(t, err)
	_, body, _, err := unseal(object)
	check(t, err)
	return body
}

// renamed returns an index object with a damaged name.
func renamed(t testing.TB, spoil func([]byte) []byte) []byte {
	t.Helper()
	object := must(encodeIndex(sampleIndex()))
	at := headerSize + nameHeader
	end := at + int(binary.LittleEndian.Uint32(object[at-4:]))
	name := spoil(slices.Clone(object[at:end]))
	object = slices.Concat(object[:at], name, object[end:])
	binary.LittleEndian.PutUint32(object[at-4:], uint32(len(name)))
	return resum(object)
}

// resum puts the correct checksum on an object.
func resum(object []byte) []byte {
	if len(object) >= headerSize {
		clear(object[headerSize-4 : headerSize])
		binary.LittleEndian.PutUint32(object[headerSize-4:], checksum(object))
	}
	return object
}

// FuzzDecodeIndex gives the decoder objects with correct checksums, and bodies under a correct header of either format, without a name.
func FuzzDecodeIndex(f *testing.F) {
	rng := rand.New(rand.NewPCG(seed, 10))
	l, _, err := Write(f.Context(), mem.New(mem.Options{}), key, makeTree(f, rng, 10), WriteOptions{})
	check(f, err)
	later, foreign, nameless := sampleIndex(), sampleIndex(), sampleIndex()
	later.named.layer, foreign.named.database, nameless.named = Key(7, 121), "02OTHER", named{}
	beyond := sampleIndex()
	beyond.segments[0].layer = Key(8, 120)
	for _, x := range []*index{sampleIndex(), l.index, later, foreign, nameless, beyond} {
		f.Add(must(encodeIndex(x)), byte(0))
		f.Add(bodyOf(f, x), byte(Format))
	}
	f.Add(renamed(f, func(name []byte) []byte { return name[:len(name)-1] }), byte(0))
	old := must(os.ReadFile("testdata/format1/index"))
	f.Add(slices.Clone(old), byte(0))
	_, body, _, err := unseal(old)
	check(f, err)
	f.Add(body, byte(formatPart))
	f.Fuzz(func(t *testing.T, data []byte, format byte) {
		object := resum(slices.Clone(data))
		if format != 0 {
			object = must(seal(named{}, data, uint32(format)))
		}
		x, err := decodeIndex(key, object)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		for i := range x.segments {
			if x.segments[i].part {
				return
			}
		}
		again, err := encodeIndex(x)
		check(t, err)
		if y, err := decodeIndex(key, again); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v became %+v, %v", x, y, err)
		}
	})
}
