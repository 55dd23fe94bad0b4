package base

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// class is a field of an object, by its byte range.
type class struct {
	name     string
	from, to int
	every    bool // each bit of a tried byte is tried
}

// samples returns the bytes of a class to try: all of a short one; the ends and the middle of a long one.
func (c class) samples() []int {
	const short = 8
	var all []int
	for at := c.from; at < c.to; at++ {
		all = append(all, at)
	}
	if len(all) <= short {
		return all
	}
	return slices.Concat(all[:2], all[len(all)/2:len(all)/2+1], all[len(all)-2:])
}

// bits yields the bits to try in a byte.
func (c class) bits(at int) iter.Seq[byte] {
	return func(yield func(byte) bool) {
		for bit := range 8 {
			if (c.every || bit == at%8) && !yield(1<<bit) {
				return
			}
		}
	}
}

// indexClasses returns the fields of an index object. Together they cover all of it.
func indexClasses(t *testing.T, object string) (classes []class) {
	t.Helper()
	at := 0
	add := func(name string, n int) {
		classes = append(classes, class{name, at, at + n, true})
		at += n
	}
	add("magic", len(magic))
	add("format", 4)
	add("body length", 4)
	add("checksum", 4)
	add("magic of the name", 4)
	add("length of the name", 4)
	n, size := binary.Uvarint([]byte(object[at:]))
	add("length of the layer's key", size)
	add("layer's key", int(n))
	n, size = binary.Uvarint([]byte(object[at:]))
	add("length of the database's id", size)
	if n > 0 {
		add("database's id", int(n))
	}
	return append(classes, compressed(t, "body", object, at, len(object), true)...)
}

// segmentClasses returns the fields of a segment: those of each of its frames.
func segmentClasses(t *testing.T, x *index, key, object string) (classes []class) {
	t.Helper()
	i := slices.IndexFunc(x.segments, func(s segment) bool { return s.key() == key })
	if i < 0 {
		t.Fatalf("%s is no segment of the layer", key)
	}
	at := 0
	for n, f := range x.segments[i].frames {
		classes = append(classes, compressed(t, fmt.Sprintf("frame %d", n), object, at, at+f.size, false)...)
		at += f.size
	}
	if at != len(object) {
		t.Fatalf("the frames of %s have %d bytes of %d", key, at, len(object))
	}
	return classes
}

// compressed returns the fields of a zstd frame: its header, the header of its first block, and the blocks.
func compressed(t *testing.T, name, object string, from, to int, every bool) []class {
	t.Helper()
	var h zstd.Header
	if err := h.Decode([]byte(object[from:to])); err != nil {
		t.Fatalf("%s at %d: %v", name, from, err)
	}
	const magicBytes, blockHeader = 4, 3
	blocks := from + h.HeaderSize
	if h.Skippable || blocks+blockHeader > to {
		t.Fatalf("%s: %+v in %d bytes", name, h, to-from)
	}
	return []class{
		{name + ": magic of zstd", from, from + magicBytes, every}, {name + ": zstd's header", from + magicBytes, blocks, every},
		{name + ": header of the first block", blocks, blocks + blockHeader, every}, {name + ": blocks", blocks + blockHeader, to, every},
	}
}

// TestClassesAreAllOfIt: every byte of an object is in a class.
func TestClassesAreAllOfIt(t *testing.T) {
	object := string(must(encodeIndex(sampleIndex())))
	at := 0
	for _, c := range indexClasses(t, object) {
		if c.from != at || c.to <= c.from || len(c.samples()) == 0 {
			t.Errorf("%+v begins at %d, the one before ends at %d", c, c.from, at)
		}
		at = c.to
	}
	if at != len(object) {
		t.Errorf("%d bytes of %d", at, len(object))
	}
}

// TestEachBitOfTheBody: whatever bit of an index is flipped, under a correct checksum, it is refused, or it is a consistent index that
// encodes as it was read; and it is the layer's own only if no bit of its name is flipped.
func TestEachBitOfTheBody(t *testing.T) {
	t.Parallel()
	x := sampleIndex()
	good := bodyOf(t, x)
	refused, other := 0, 0
	for at := range good {
		for bit := range 8 {
			body := slices.Clone(good)
			body[at] ^= 1 << bit
			got, err := decodeIndex(key, must(seal(x.named, body, Format)))
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("bit %d of byte %d: %v", bit, at, err)
				}
				refused++
				continue
			}
			other++
			again, err := decoded(t, got)
			if err != nil || !reflect.DeepEqual(got, again) || reflect.DeepEqual(got, x) {
				t.Errorf("bit %d of byte %d: %+v became %+v, %v", bit, at, got, again, err)
			}
		}
	}
	object := must(encodeIndex(x))
	for at := headerSize; at < headerSize+nameHeader+2+len(key)+len(x.named.database); at++ {
		for bit := range 8 {
			wrong := slices.Clone(object)
			wrong[at] ^= 1 << bit
			got, err := decodeIndex(key, resum(wrong))
			if err == nil {
				err = Expect{Database: x.named.database}.check(&Layer{key: key, index: got})
			}
			if !errors.Is(err, ErrCorrupt) && !(err == nil && at < headerSize+4) {
				t.Errorf("bit %d of byte %d of the name: %v", bit, at-headerSize, err)
			}
		}
	}
	t.Logf("%d of %d bits make it no index, %d another one", refused, 8*len(good), other)
	if refused == 0 || other == 0 {
		t.Error("one of both never happens")
	}
}
