package base

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"blobpglite/core/memfs"
)

const (
	// Bounds of an index. A body of this size describes some 600,000 files, or a terabyte.
	maxIndexBytes = 64 << 20
	maxSegments   = 1_000_000 // the numbers of a layer's segments have six digits
	// The smallest encodings of one segment, frame, entry and run: no count may claim more than the remaining bytes can hold.
	minSegmentBytes, minFrameBytes, minEntryBytes, minRunBytes = 8, 5, 4, 2
	maxOrigin                                                  = 256 // bytes of the name of the layer that a segment was written for
)

type kind uint8

const (
	kindDir kind = 1 + iota
	kindFile
	kindSymlink
	kindLink // another name of an earlier file
)

// index describes a layer. The chunks of all its segments, including those it does not use, have addresses: those of the first segment
// begin at zero, those of each other one where the previous one's end.
type index struct {
	named      named
	frameBytes int
	segments   []segment
	starts     []int64    // their first addresses, computed by settle
	boot       []frameRef // in order, each once
	entries    []entry
}

// frameRef is a frame of an index.
type frameRef struct{ segment, frame int }

// segment is an object of frames. All frames but the last are full.
type segment struct {
	layer  string // the layer that it was written for
	n      int    // its number among that layer's segments
	part   bool   // a part of a layer of format 1
	chunks int64
	frames []frame
	first  int64 // address of its first chunk
	size   int64 // bytes of the object
	live   int64 // chunks that the layer uses
}

func (s *segment) key() string {
	if s.part {
		return partKey(s.layer, s.n)
	}
	return SegmentKey(s.layer, s.n)
}

// bytes returns the size of the object.
func (s *segment) bytes() (n int64) {
	for _, f := range s.frames {
		n += int64(f.size)
	}
	return n
}

type frame struct {
	size int
	crc  uint32
}

type entry struct {
	kind   kind
	path   string // relative; the root, which comes first, is ""
	perm   uint32
	mtime  int64 // Unix nanoseconds
	size   int64
	runs   []run
	target string
}

// run is a sequence of chunks of one file, at consecutive addresses.
type run struct{ first, count, at int64 }

func (x *index) frameChunks() int64 { return int64(x.frameBytes / memfs.ChunkSize) }

// rawChunks returns how many chunks a frame of a segment holds: the last frame may be shorter.
func (x *index) rawChunks(s *segment, frame int) int64 {
	return min(s.chunks-int64(frame)*x.frameChunks(), x.frameChunks())
}

// framesOf returns how many frames a number of chunks takes.
func (x *index) framesOf(chunks int64) int64 {
	return (chunks + x.frameChunks() - 1) / x.frameChunks()
}

// settle computes addresses and sizes.
func (x *index) settle() {
	at := int64(0)
	x.starts = x.starts[:0]
	for i := range x.segments {
		s := &x.segments[i]
		s.first, s.size, x.starts = at, s.bytes(), append(x.starts, at)
		at += s.chunks
	}
}

// end returns the address after the last chunk.
func (x *index) end() int64 {
	if len(x.segments) == 0 {
		return 0
	}
	last := &x.segments[len(x.segments)-1]
	return last.first + last.chunks
}

// segmentAt returns the number of the segment that holds an address.
func (x *index) segmentAt(at int64) int {
	i, found := slices.BinarySearch(x.starts, at)
	if !found {
		i--
	}
	return i
}

// liveChunks returns how many chunks the files have.
func (x *index) liveChunks() (n int64) {
	for i := range x.entries {
		for _, r := range x.entries[i].runs {
			n += r.count
		}
	}
	return n
}

func (x *index) files() int {
	n := 0
	for i := range x.entries {
		if x.entries[i].kind == kindFile {
			n++
		}
	}
	return n
}

// encodeIndex returns the index object.
func encodeIndex(x *index) ([]byte, error) {
	body := binary.AppendUvarint(nil, uint64(x.frameBytes))
	body = binary.AppendUvarint(body, uint64(len(x.segments)))
	layer := ""
	for i := range x.segments {
		s := &x.segments[i]
		name := strings.TrimPrefix(s.layer, keyPrefix)
		if name == layer {
			name = ""
		} else {
			layer = name
		}
		body = appendText(body, name)
		body = binary.AppendUvarint(body, uint64(s.n))
		body = binary.AppendUvarint(body, uint64(s.chunks))
		for _, f := range s.frames {
			body = binary.AppendUvarint(body, uint64(f.size))
			body = binary.LittleEndian.AppendUint32(body, f.crc)
		}
	}
	body = binary.AppendUvarint(body, uint64(len(x.boot)))
	for _, b := range x.boot {
		body = binary.AppendUvarint(body, uint64(b.segment))
		body = binary.AppendUvarint(body, uint64(b.frame))
	}
	body = binary.AppendUvarint(body, uint64(len(x.entries)))
	at := int64(0)
	for i := range x.entries {
		body = x.entries[i].append(body, &at)
	}
	if len(body) > maxIndexBytes {
		return nil, fmt.Errorf("%w: its index has %d bytes, the limit is %d", ErrTooLarge, len(body), maxIndexBytes)
	}
	return seal(x.named, body, Format)
}

// append encodes an entry. at is the address after the last encoded run, where most runs continue.
func (e *entry) append(b []byte, at *int64) []byte {
	b = append(b, byte(e.kind))
	b = appendText(b, e.path)
	b = binary.AppendUvarint(b, uint64(e.perm))
	b = binary.AppendVarint(b, e.mtime)
	switch e.kind {
	case kindFile:
		b = binary.AppendUvarint(b, uint64(e.size))
		b = binary.AppendUvarint(b, uint64(len(e.runs)))
		next := int64(0)
		for _, r := range e.runs {
			b = binary.AppendUvarint(b, uint64(r.first-next))
			b = binary.AppendUvarint(b, uint64(r.count))
			b = binary.AppendVarint(b, r.at-*at)
			next, *at = r.first+r.count, r.at+r.count
		}
	case kindSymlink, kindLink:
		b = appendText(b, e.target)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeIndex decodes the index object of a layer, and changes it. It accepts only consistent indexes: Read relies on that.
func decodeIndex(layer string, object []byte) (*index, error) {
	own, body, format, err := unseal(object)
	if err != nil {
		return nil, err
	}
	if own.layer != "" && own.layer != layer {
		return nil, fmt.Errorf("%w: it is the index of layer %s", ErrCorrupt, own.layer)
	}
	d := decoder{left: body, layer: layer, parts: format == formatPart}
	x := d.index()
	x.named = own
	if d.err == nil && len(d.left) > 0 {
		d.fail("%d bytes follow the last entry", len(d.left))
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, d.err)
	}
	return x, nil
}

// decoder reads a body; after the first error it reads nothing more.
type decoder struct {
	left  []byte
	layer string
	parts bool  // format 1
	at    int64 // address after the last run
	err   error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
		d.left = nil
	}
}

var errCut = errors.New("it ends too early, or contains a number that is out of range")

// number reads a varint of at most limit.
func (d *decoder) number(limit int64) int64 {
	v, n := binary.Uvarint(d.left)
	if n <= 0 || v > uint64(limit) {
		d.fail("%w", errCut)
		return 0
	}
	d.left = d.left[n:]
	return int64(v)
}

// signed reads a signed varint.
func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.left)
	if n <= 0 {
		d.fail("%w", errCut)
		return 0
	}
	d.left = d.left[n:]
	return v
}

// count reads a count of items that take at least size bytes each.
func (d *decoder) count(size int) int { return int(d.number(int64(len(d.left) / size))) }

func (d *decoder) crc() uint32 {
	if len(d.left) < 4 {
		d.fail("%w", errCut)
		return 0
	}
	v := binary.LittleEndian.Uint32(d.left)
	d.left = d.left[4:]
	return v
}

func (d *decoder) text(limit int) string {
	n := d.number(int64(limit))
	if n > int64(len(d.left)) {
		d.fail("%w", errCut)
		return ""
	}
	s := string(d.left[:n])
	d.left = d.left[n:]
	return s
}

func (d *decoder) index() *index {
	x := &index{frameBytes: int(d.number(MaxFrameBytes))}
	if x.frameBytes < memfs.ChunkSize || x.frameBytes%memfs.ChunkSize != 0 {
		d.fail("frames of %d bytes", x.frameBytes)
		return x
	}
	if d.parts {
		d.partsOf(x)
	} else {
		d.segments(x)
		d.boot(x)
	}
	x.settle()
	d.entries(x)
	if d.err == nil {
		d.use(x)
	}
	return x
}

// maxStored bounds a compressed frame: zstd adds little to incompressible data.
func maxStored(frameBytes int) int64 { return int64(frameBytes + frameBytes/64 + 1024) }

func (d *decoder) segments(x *index) {
	n := d.count(minSegmentBytes)
	if n > maxSegments {
		d.fail("%d segments, the limit is %d", n, maxSegments)
		return
	}
	x.segments = make([]segment, n)
	seen := make(map[string]bool, n)
	layer := ""
	for i := range x.segments {
		s := &x.segments[i]
		if name := d.text(maxOrigin); name != "" {
			layer = keyPrefix + name
		}
		*s = segment{layer: layer, n: int(d.number(maxSegments - 1)), chunks: d.number(math.MaxInt64 / MaxFrameBytes / maxSegments)}
		key := s.key()
		o, ok := ParseSegment(key)
		switch {
		case d.err != nil:
			return
		case !ok:
			d.fail("%q is not the name of a segment", key)
		case isLater(o, d.layer):
			d.fail("segment %q was written for a later layer", key)
		case seen[key]:
			d.fail("segment %q occurs twice", key)
		case s.chunks == 0:
			d.fail("segment %q has no chunks", key)
		case x.framesOf(s.chunks) > int64(len(d.left)/minFrameBytes):
			d.fail("segment %q has %d chunks: %w", key, s.chunks, errCut)
		default:
			seen[key] = true
			d.frames(x, s, int(x.framesOf(s.chunks)))
			continue
		}
		return
	}
}

func (d *decoder) frames(x *index, s *segment, n int) {
	s.frames = make([]frame, n)
	size := int64(0)
	for i := range s.frames {
		f := frame{size: int(d.number(maxStored(x.frameBytes))), crc: d.crc()}
		size += int64(f.size)
		s.frames[i] = f
	}
	if size > MaxSegmentBytes+maxStored(x.frameBytes) {
		d.fail("segment %q has %d bytes", s.key(), size)
	}
}

// boot reads the boot set.
func (d *decoder) boot(x *index) {
	const least = 2 // bytes of one
	n := d.count(least)
	if n == 0 {
		return
	}
	x.boot = make([]frameRef, n)
	for i := range x.boot {
		b := frameRef{int(d.number(maxSegments)), int(d.number(maxIndexBytes))}
		switch {
		case d.err != nil:
			return
		case b.segment >= len(x.segments) || b.frame >= len(x.segments[b.segment].frames):
			d.fail("frame %d of segment %d is to be read first, but does not exist", b.frame, b.segment)
			return
		case i > 0 && (b.segment < x.boot[i-1].segment || b.segment == x.boot[i-1].segment && b.frame <= x.boot[i-1].frame):
			d.fail("frame %d of segment %d is to be read first twice, or out of order", b.frame, b.segment)
			return
		}
		x.boot[i] = b
	}
}

func (d *decoder) entries(x *index) {
	x.entries = make([]entry, d.count(minEntryBytes))
	seen := make(map[string]kind, len(x.entries))
	for i := range x.entries {
		e := &x.entries[i]
		d.entry(x, e)
		if d.err != nil {
			return
		}
		if err := misplaced(e, seen); err != nil {
			d.fail("entry %d: %w", i, err)
			return
		}
		seen[e.path] = e.kind
	}
	if len(x.entries) == 0 {
		d.fail("it has no entries")
	}
}

func (d *decoder) entry(x *index, e *entry) {
	e.kind = kind(d.number(int64(kindLink)))
	e.path = d.text(memfs.PathMax)
	e.perm = uint32(d.number(0o7777))
	e.mtime = d.signed()
	if d.err != nil {
		return
	}
	switch e.kind {
	case kindDir:
	case kindFile:
		d.runs(x, e)
	case kindSymlink, kindLink:
		if e.target = d.text(memfs.PathMax); e.target == "" {
			d.fail("%q leads nowhere", e.path)
		}
	default:
		d.fail("%q is of unknown kind %d", e.path, e.kind)
	}
}

func (d *decoder) runs(x *index, e *entry) {
	e.size = d.number(memfs.MaxFileSize)
	chunks := (e.size + memfs.ChunkSize - 1) / memfs.ChunkSize
	n := d.count(minRunBytes)
	if n == 0 {
		return
	}
	e.runs = make([]run, n)
	next := int64(0)
	for i := range e.runs {
		skip := d.number(chunks)
		r := run{first: next + skip, count: d.number(chunks), at: d.at}
		if !d.parts {
			r.at += d.signed()
		}
		next = r.first + r.count
		if r.count == 0 || next > chunks {
			d.fail("%q: chunks %d to %d of %d", e.path, r.first, next, chunks)
			return
		}
		if i > 0 && skip == 0 && r.at == d.at {
			d.fail("%q: chunk %d begins a run where none ends", e.path, r.first)
			return
		}
		if r.at < 0 || r.at > x.end()-r.count {
			d.fail("%q: chunk %d is at %d of %d", e.path, r.first, r.at, x.end())
			return
		}
		e.runs[i], d.at = r, r.at+r.count
	}
}

// tally counts the used chunks of each segment.
func (x *index) tally() {
	for i := range x.segments {
		x.segments[i].live = 0
	}
	for i := range x.entries {
		for _, r := range x.entries[i].runs {
			x.split(r.at, r.count, func(segment int, _, n int64) { x.segments[segment].live += n })
		}
	}
}

// use counts the used chunks of each segment, and refuses an index that uses a chunk twice, or a segment not at all.
func (d *decoder) use(x *index) {
	var runs []run
	for i := range x.entries {
		runs = append(runs, x.entries[i].runs...)
	}
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.at, b.at) })
	next := int64(0)
	for _, r := range runs {
		if r.at < next {
			d.fail("the chunk at %d is used twice", r.at)
			return
		}
		next = r.at + r.count
	}
	x.tally()
	for i := range x.segments {
		if s := &x.segments[i]; s.live == 0 || d.parts && s.live != s.chunks {
			d.fail("segment %q has %d chunks, %d are used", s.key(), s.chunks, s.live)
			return
		}
	}
}

// misplaced returns what is wrong with an entry's position among those before it; nil: nothing.
func misplaced(e *entry, seen map[string]kind) error {
	if len(seen) == 0 {
		if e.path != "" || e.kind != kindDir {
			return fmt.Errorf("the root is missing, %q comes first", e.path)
		}
		return nil
	}
	for name := range strings.SplitSeq(e.path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > memfs.NameMax || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("%q is not a path", e.path)
		}
	}
	dir, _ := splitPath(e.path)
	switch {
	case seen[e.path] != 0:
		return fmt.Errorf("%q comes twice", e.path)
	case seen[dir] != kindDir:
		return fmt.Errorf("%q occurs without its directory", e.path)
	case e.kind == kindLink && seen[e.target] != kindFile:
		return fmt.Errorf("%q is another name of %q, which is not an earlier file", e.path, e.target)
	}
	return nil
}

func splitPath(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
