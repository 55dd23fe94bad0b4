package base

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/klauspost/compress/zstd"

	"blobpglite/core/memfs"
)

const (
	magic      = "BPGLAYER"
	headerSize = len(magic) + 12

	// What an index may hold. A body of this size describes some 600,000 files, or a terabyte.
	maxIndexBytes = 64 << 20
	maxParts      = 1_000_000 // part numbers have six digits
	// The smallest encodings of one part, frame, entry and run: no count may promise more than the bytes that follow.
	minPartBytes, minFrameBytes, minEntryBytes, minRunBytes = 6, 5, 4, 2
)

type kind uint8

const (
	kindDir kind = 1 + iota
	kindFile
	kindSymlink
	kindLink // another name of an earlier file
)

// index describes a layer.
type index struct {
	frameBytes int
	chunks     int64 // in the stream
	parts      []part
	frames     []frame
	entries    []entry
}

type part struct {
	frames int // how many
	size   int64
	crc    uint32
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

// run is a sequence of chunks of one file that the stream holds.
type run struct{ first, count int64 }

func (x *index) frameChunks() int64 { return int64(x.frameBytes / memfs.ChunkSize) }

// rawSize is the uncompressed size of a frame: the last may be short.
func (x *index) rawSize(frame int) int {
	left := x.chunks - int64(frame)*x.frameChunks()
	return int(min(left, x.frameChunks())) * memfs.ChunkSize
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

// encodeIndex gives the index object.
func encodeIndex(x *index) ([]byte, error) {
	body := binary.AppendUvarint(nil, uint64(x.frameBytes))
	body = binary.AppendUvarint(body, uint64(x.chunks))
	body = binary.AppendUvarint(body, uint64(len(x.parts)))
	for _, p := range x.parts {
		body = binary.AppendUvarint(body, uint64(p.frames))
		body = binary.AppendUvarint(body, uint64(p.size))
		body = binary.LittleEndian.AppendUint32(body, p.crc)
	}
	for _, f := range x.frames {
		body = binary.AppendUvarint(body, uint64(f.size))
		body = binary.LittleEndian.AppendUint32(body, f.crc)
	}
	body = binary.AppendUvarint(body, uint64(len(x.entries)))
	for i := range x.entries {
		body = x.entries[i].append(body)
	}
	if len(body) > maxIndexBytes {
		return nil, fmt.Errorf("%w: its index has %d bytes, the limit is %d", ErrTooLarge, len(body), maxIndexBytes)
	}
	return seal(body)
}

func (e *entry) append(b []byte) []byte {
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
			next = r.first + r.count
		}
	case kindSymlink, kindLink:
		b = appendText(b, e.target)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// seal puts the header before the compressed body.
func seal(body []byte) ([]byte, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	object := append(make([]byte, 0, headerSize+len(body)/2), magic...)
	object = binary.LittleEndian.AppendUint32(object, Format)
	object = binary.LittleEndian.AppendUint32(object, uint32(len(body)))
	object = append(object, 0, 0, 0, 0)
	object = z.EncodeAll(body, object)
	binary.LittleEndian.PutUint32(object[headerSize-4:], checksum(object)) // with zeros in its own place
	return object, nil
}

// unseal checks the header and gives the body. It changes object.
func unseal(object []byte) ([]byte, error) {
	if len(object) < headerSize || string(object[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin as an index does (%d bytes)", ErrCorrupt, len(object))
	}
	if v := binary.LittleEndian.Uint32(object[len(magic):]); v > Format {
		return nil, fmt.Errorf("%w: its format is %d, this program reads up to %d: upgrade it", ErrNewer, v, Format)
	} else if v != Format {
		return nil, fmt.Errorf("%w: its format is %d", ErrCorrupt, v)
	}
	size := binary.LittleEndian.Uint32(object[len(magic)+4:])
	want := binary.LittleEndian.Uint32(object[headerSize-4:])
	clear(object[headerSize-4 : headerSize])
	if got := checksum(object); got != want {
		return nil, fmt.Errorf("%w: its checksum is %08x, want %08x", ErrCorrupt, got, want)
	}
	if size > maxIndexBytes {
		return nil, fmt.Errorf("%w: its body has %d bytes, the limit is %d", ErrCorrupt, size, maxIndexBytes)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(max(zstd.MinWindowSize, uint64(size))))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	body, err := z.DecodeAll(object[headerSize:], nil)
	if err != nil || len(body) != int(size) {
		return nil, fmt.Errorf("%w: its body does not decompress to %d bytes (%d, %v)", ErrCorrupt, size, len(body), err)
	}
	return body, nil
}

// decodeIndex reads an index object, which it changes. Whatever it accepts is consistent: Read relies on it.
func decodeIndex(object []byte) (*index, error) {
	body, err := unseal(object)
	if err != nil {
		return nil, err
	}
	d := decoder{left: body}
	x := d.index()
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
	left []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
		d.left = nil
	}
}

var errCut = errors.New("it ends too early, or holds a number out of range")

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

// count reads how many things follow that take at least size bytes each.
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
	x.chunks = d.number(math.MaxInt64 / MaxFrameBytes)
	d.parts(x)
	d.entries(x)
	return x
}

// maxStored bounds a compressed frame: zstd adds little to what it cannot compress.
func maxStored(frameBytes int) int64 { return int64(frameBytes + frameBytes/64 + 1024) }

func (d *decoder) parts(x *index) {
	total := int((x.chunks + x.frameChunks() - 1) / x.frameChunks())
	n := d.count(minPartBytes)
	if n > maxParts {
		d.fail("%d parts, the limit is %d", n, maxParts)
		return
	}
	x.parts = make([]part, n)
	frames := 0
	for i := range x.parts {
		p := &x.parts[i]
		p.frames = int(d.number(int64(total - frames)))
		p.size = d.number(MaxPartBytes + maxStored(x.frameBytes))
		p.crc = d.crc()
		if p.frames == 0 {
			d.fail("part %d has no frames", i)
		}
		frames += p.frames
	}
	if frames != total || total > len(d.left)/minFrameBytes {
		d.fail("%d frames in parts, %d chunks need %d", frames, x.chunks, total)
		return
	}
	x.frames = make([]frame, total)
	f := 0
	for i, p := range x.parts {
		sum := int64(0)
		for range p.frames {
			x.frames[f] = frame{size: int(d.number(maxStored(x.frameBytes))), crc: d.crc()}
			sum += int64(x.frames[f].size)
			f++
		}
		if sum != p.size {
			d.fail("part %d has %d bytes, its frames %d", i, p.size, sum)
		}
	}
}

func (d *decoder) entries(x *index) {
	x.entries = make([]entry, d.count(minEntryBytes))
	seen := make(map[string]kind, len(x.entries))
	chunks := int64(0)
	for i := range x.entries {
		e := &x.entries[i]
		d.entry(e)
		if d.err != nil {
			return
		}
		if err := placed(e, seen); err != nil {
			d.fail("entry %d: %w", i, err)
			return
		}
		seen[e.path] = e.kind
		for _, r := range e.runs {
			chunks += r.count
		}
		if chunks > x.chunks {
			break
		}
	}
	if len(x.entries) == 0 || chunks != x.chunks {
		d.fail("%d entries use %d chunks, the stream has %d", len(x.entries), chunks, x.chunks)
	}
}

func (d *decoder) entry(e *entry) {
	e.kind = kind(d.number(int64(kindLink)))
	e.path = d.text(memfs.PathMax)
	e.perm = uint32(d.number(0o7777))
	v, n := binary.Varint(d.left)
	if n <= 0 {
		d.fail("%w", errCut)
		return
	}
	e.mtime, d.left = v, d.left[n:]
	switch e.kind {
	case kindDir:
	case kindFile:
		d.runs(e)
	case kindSymlink, kindLink:
		if e.target = d.text(memfs.PathMax); e.target == "" {
			d.fail("%q leads nowhere", e.path)
		}
	default:
		d.fail("%q is of unknown kind %d", e.path, e.kind)
	}
}

func (d *decoder) runs(e *entry) {
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
		r := run{first: next + skip, count: d.number(chunks)}
		next = r.first + r.count
		if r.count == 0 || next > chunks || (i > 0 && skip == 0) {
			d.fail("%q: chunks %d to %d of %d", e.path, r.first, next, chunks)
			return
		}
		e.runs[i] = r
	}
}

// placed tells what is wrong with an entry's place among those before it.
func placed(e *entry, seen map[string]kind) error {
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
		return fmt.Errorf("%q comes without its directory", e.path)
	case e.kind == kindLink && seen[e.target] != kindFile:
		return fmt.Errorf("%q is another name of %q, which is no earlier file", e.path, e.target)
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
