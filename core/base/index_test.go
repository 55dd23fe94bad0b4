package base

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/memfs"
)

func sampleIndex() *index {
	return &index{
		frameBytes: 2 * memfs.ChunkSize, chunks: 5,
		parts:  []part{{frames: 2, size: 30, crc: 1}, {frames: 1, size: 7, crc: 2}},
		frames: []frame{{10, 3}, {20, 4}, {7, 5}},
		entries: []entry{
			{kind: kindDir, perm: 0o700, mtime: -5},
			{kind: kindFile, path: "a", perm: 0o600, mtime: 1 << 60, size: 9 * memfs.ChunkSize, runs: []run{{1, 2}, {5, 2}}},
			{kind: kindDir, path: "d", perm: 0o750},
			{kind: kindFile, path: "d/e", size: 1, runs: []run{{0, 1}}},
			{kind: kindFile, path: "d/f", size: memfs.MaxFileSize},
			{kind: kindLink, path: "d/g", target: "a"},
			{kind: kindSymlink, path: "s", target: "../x"},
		},
	}
}

func TestIndexRoundTrip(t *testing.T) {
	for _, x := range []*index{sampleIndex(), {
		frameBytes: MaxFrameBytes, parts: []part{}, frames: []frame{}, entries: []entry{{kind: kindDir}},
	}} {
		object, err := encodeIndex(x)
		check(t, err)
		got, err := decodeIndex(object)
		check(t, err)
		if !reflect.DeepEqual(got, x) {
			t.Fatalf("%+v\nwant\n%+v", got, x)
		}
	}
}

// Contradictions under a right checksum: nothing that Read relies on may pass.
func TestIndexContradictions(t *testing.T) {
	for name, spoil := range map[string]func(*index){
		"no frame size":        func(x *index) { x.frameBytes = 0 },
		"uneven frame size":    func(x *index) { x.frameBytes = 10000 },
		"large frame size":     func(x *index) { x.frameBytes = MaxFrameBytes + memfs.ChunkSize },
		"more chunks":          func(x *index) { x.chunks = 6 },
		"one frame more":       func(x *index) { x.chunks = 7 },
		"fewer chunks":         func(x *index) { x.chunks = 4 },
		"absurd chunks":        func(x *index) { x.chunks = 1 << 62 },
		"part without frames":  func(x *index) { x.parts = append(x.parts, part{}) },
		"part too long":        func(x *index) { x.parts[1].size++ },
		"frame too long":       func(x *index) { x.frames[2].size = 1 << 20; x.parts[1].size = 1 << 20 },
		"no root":              func(x *index) { x.entries = x.entries[1:] },
		"nothing":              func(x *index) { x.entries = nil },
		"root is a file":       func(x *index) { x.entries[0].kind = kindFile },
		"second root":          func(x *index) { x.entries[2].path = "" },
		"name twice":           func(x *index) { x.entries[4].path = "d/e" },
		"path goes up":         func(x *index) { x.entries[4].path = "d/../e" },
		"absolute path":        func(x *index) { x.entries[4].path = "/d/f" },
		"empty name":           func(x *index) { x.entries[4].path = "d//f" },
		"zero byte":            func(x *index) { x.entries[4].path = "d/\x00" },
		"long name":            func(x *index) { x.entries[4].path = "d/" + strings.Repeat("n", 256) },
		"long path":            func(x *index) { x.entries[4].path = strings.Repeat("d/", 2048) },
		"no such directory":    func(x *index) { x.entries[4].path = "e/f" },
		"below a file":         func(x *index) { x.entries[4].path = "a/f" },
		"below a symlink":      func(x *index) { x.entries = append(x.entries, entry{kind: kindDir, path: "s/x"}) },
		"unknown kind":         func(x *index) { x.entries[4].kind = kindLink + 1 },
		"kind zero":            func(x *index) { x.entries[4].kind = 0 },
		"permissions":          func(x *index) { x.entries[4].perm = 0o10000 },
		"large file":           func(x *index) { x.entries[4].size++ },
		"chunk past the end":   func(x *index) { x.entries[1].size = 6 * memfs.ChunkSize },
		"chunk of no file":     func(x *index) { x.entries[3].size = 0 },
		"empty run":            func(x *index) { x.entries[3].runs[0].count = 0 },
		"runs that touch":      func(x *index) { x.entries[1].runs = []run{{1, 2}, {3, 2}} },
		"link to a directory":  func(x *index) { x.entries[5].target = "d" },
		"link to nothing":      func(x *index) { x.entries[5].target = "b" },
		"link to a later file": func(x *index) { x.entries[5].target = "z" },
		"symlink to nowhere":   func(x *index) { x.entries[6].target = "" },
	} {
		x := sampleIndex()
		spoil(x)
		object, err := encodeIndex(x)
		check(t, err)
		if _, err := decodeIndex(object); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, object := range map[string][]byte{
		"body with a tail": must(seal(append(bodyOf(t, sampleIndex()), 0))),
		"body cut":         must(seal(bodyOf(t, sampleIndex())[:40])),
		"body empty":       must(seal(nil)),
	} {
		if _, err := decodeIndex(object); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lying := must(seal(bodyOf(t, sampleIndex())))
	binary.LittleEndian.PutUint32(lying[len(magic)+4:], maxIndexBytes+1)
	if _, err := decodeIndex(resum(lying)); !errors.Is(err, ErrCorrupt) {
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
	body, err := unseal(object)
	check(t, err)
	return body
}

// resum puts the right checksum on an object.
func resum(object []byte) []byte {
	if len(object) >= headerSize {
		clear(object[headerSize-4 : headerSize])
		binary.LittleEndian.PutUint32(object[headerSize-4:], checksum(object))
	}
	return object
}

// FuzzDecodeIndex gives the decoder objects with right checksums, and bodies under a right header.
func FuzzDecodeIndex(f *testing.F) {
	rng := rand.New(rand.NewPCG(seed, 10))
	p, err := planTree(makeTree(f, rng, 10), must(WriteOptions{}.withDefaults()))
	check(f, err)
	p.index.chunks = 0
	for i := range p.index.entries {
		p.index.entries[i].runs = nil
	}
	for _, x := range []*index{sampleIndex(), &p.index} {
		f.Add(must(encodeIndex(x)), false)
		f.Add(bodyOf(f, x), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, isBody bool) {
		object := resum(slices.Clone(data))
		if isBody {
			object = must(seal(data))
		}
		x, err := decodeIndex(object)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		again, err := encodeIndex(x)
		check(t, err)
		if y, err := decodeIndex(again); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v became %+v, %v", x, y, err)
		}
	})
}
