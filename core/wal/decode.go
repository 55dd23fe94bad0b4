package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// partRef names a part of a record's body.
type partRef struct {
	bytes int
	sum   [32]byte
}

// frame is a record whose body has not been read yet.
type frame struct {
	record Record
	flags  byte
	raw    int    // bytes of the body, uncompressed
	inline []byte // as stored in the object
}

// Decode reads a record that contains its body. Errors: ErrCorrupt, ErrNewer, each naming the record.
func Decode(b []byte) (Record, error) {
	f, err := decodeFrame(b)
	if err != nil {
		return Record{}, err
	}
	if f.flags&flagParts != 0 {
		return Record{}, fmt.Errorf("record %d: %w: its body is in parts, not in the record", f.record.Seq, ErrCorrupt)
	}
	var u unpacker
	defer u.close()
	if err := f.open(f.inline, &u); err != nil {
		return Record{}, err
	}
	return f.record, nil
}

// maxRatio is how many bytes zstd can make from one: a block of 4 bytes stands for up to 128 KiB of one repeated byte.
const maxRatio = 128 << 10 / 4

// unpacker decompresses bodies. The zero value is ready; it is safe for concurrent use.
type unpacker struct {
	once sync.Once
	z    *zstd.Decoder
	err  error
}

// unpack returns the decompressed body, of at most raw bytes. It never allocates more than raw, nor more than stored can hold.
func (u *unpacker) unpack(stored []byte, raw int) ([]byte, error) {
	if int64(raw) > int64(len(stored))*maxRatio {
		return nil, fmt.Errorf("%w: %d bytes cannot hold %d", ErrCorrupt, len(stored), raw)
	}
	u.once.Do(func() {
		u.z, u.err = zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(MaxBodyBytes+1<<20))
	})
	if u.err != nil {
		return nil, u.err
	}
	body, err := u.z.DecodeAll(stored, make([]byte, 0, raw))
	if err != nil {
		return nil, fmt.Errorf("%w: decompress its body: %w", ErrCorrupt, err)
	}
	return body, nil
}

func (u *unpacker) close() {
	if u.z != nil {
		u.z.Close()
	}
}

// decodeFrame decodes everything in a record except its operations.
func decodeFrame(b []byte) (*frame, error) {
	if len(b) < headerBytes+3+8+trailerBytes || string(b[:4]) != magic {
		return nil, fmt.Errorf("%w: its %d bytes are not a record", ErrCorrupt, len(b))
	}
	le := binary.LittleEndian
	r := Record{
		Kind: Kind(b[5]), Seq: le.Uint64(b[8:]), Epoch: le.Uint64(b[16:]), Time: time.Unix(0, int64(le.Uint64(b[24:]))).UTC(),
		Prev: [32]byte(b[32:64]), Hash: sha256.Sum256(b), Bytes: len(b),
	}
	if b[4] > Format {
		return nil, fmt.Errorf("record %d: %w: format %d, this program reads up to %d: upgrade it", r.Seq, ErrNewer, b[4], Format)
	}
	corrupt := func(format string, args ...any) (*frame, error) {
		return nil, fmt.Errorf("record %d: %w: %s", r.Seq, ErrCorrupt, fmt.Sprintf(format, args...))
	}
	end := len(b) - trailerBytes
	if got, want := castagnoli(b[:end]), le.Uint32(b[end:]); got != want {
		return corrupt("CRC32C %08x, its bytes have %08x", want, got)
	}
	f := &frame{flags: b[6]}
	if b[4] != Format || b[7] != 0 || f.flags&^(flagZstd|flagParts) != 0 || r.Kind != Data && r.Kind != Fence || r.Seq == 0 || r.Epoch == 0 {
		return corrupt("format %d, kind %d, flags %#x, epoch %d", b[4], b[5], f.flags, r.Epoch)
	}
	rest := b[headerBytes:end]
	for _, to := range []*string{&r.DatabaseID, &r.Writer, &r.WriteID} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return corrupt("it ends within a name")
		}
		*to, rest = string(rest[1:1+int(rest[0])]), rest[1+int(rest[0]):]
	}
	if len(rest) < 8 {
		return corrupt("it ends before its body")
	}
	f.raw = int(le.Uint32(rest))
	if stored := int(le.Uint32(rest[4:])); stored != len(rest)-8 || f.raw > MaxBodyBytes {
		return corrupt("a body of %d bytes (%d uncompressed) in %d", stored, f.raw, len(rest)-8)
	}
	f.inline, f.record = rest[8:], r
	return f, nil
}

// parts reads the references that the object holds in place of a body.
func (f *frame) parts() ([]partRef, error) {
	const size = 4 + 32
	b := f.inline
	if len(b) < 4 {
		return nil, fmt.Errorf("record %d: %w: it names no parts", f.record.Seq, ErrCorrupt)
	}
	n := int(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n == 0 || n > maxParts || len(b) != n*size {
		return nil, fmt.Errorf("record %d: %w: %d parts in %d bytes", f.record.Seq, ErrCorrupt, n, len(b))
	}
	refs := make([]partRef, n)
	for i := range refs {
		refs[i] = partRef{int(binary.LittleEndian.Uint32(b[i*size:])), [32]byte(b[i*size+4 : (i+1)*size])}
	}
	return refs, nil
}

// open reads the operations from a stored body into the record. They share the body's memory if it is not compressed.
func (f *frame) open(stored []byte, u *unpacker) error {
	raw := stored
	if f.record.Kind == Fence && f.raw > 0 {
		return fmt.Errorf("record %d: %w: it is a fence, but carries operations", f.record.Seq, ErrCorrupt)
	}
	if f.flags&flagZstd != 0 {
		var err error
		if raw, err = u.unpack(stored, f.raw); err != nil {
			return fmt.Errorf("record %d: %w", f.record.Seq, err)
		}
	}
	if len(raw) != f.raw {
		return fmt.Errorf("record %d: %w: its body has %d bytes, not the announced %d", f.record.Seq, ErrCorrupt, len(raw), f.raw)
	}
	for len(raw) > 0 {
		op, rest, ok := readOp(raw)
		if !ok {
			return fmt.Errorf("record %d: %w: operation %d cannot be read", f.record.Seq, ErrCorrupt, len(f.record.Ops))
		}
		f.record.Ops = append(f.record.Ops, op)
		raw = rest
	}
	return nil
}

func readOp(b []byte) (op Op, rest []byte, ok bool) {
	op.Kind = OpKind(b[0])
	if op.Kind < OpWrite || op.Kind > OpRemove {
		return op, nil, false
	}
	path, b, ok := readBytes(b[1:], maxPath)
	if !ok || len(path) == 0 {
		return op, nil, false
	}
	op.Path = string(path)
	off, n := binary.Uvarint(b)
	if n <= 0 || off > maxOffset {
		return op, nil, false
	}
	op.Offset = int64(off)
	op.Data, rest, ok = readBytes(b[n:], MaxBodyBytes)
	return op, rest, ok
}

func readBytes(b []byte, limit uint64) (got, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > limit || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

// Header decodes everything in a record except its operations, even if its body is in parts. Errors: ErrCorrupt, ErrNewer. A collection
// must not delete an object for which Header returns one.
func Header(b []byte) (Record, error) {
	f, err := decodeFrame(b)
	if err != nil {
		return Record{}, err
	}
	return f.record, nil
}

// InParts decodes a record as Header does, and says whether its body is in parts, whose keys follow from its epoch and write id
// (PartPrefix). Errors: those of Header.
func InParts(b []byte) (Record, bool, error) {
	f, err := decodeFrame(b)
	if err != nil {
		return Record{}, false, err
	}
	return f.record, f.flags&flagParts != 0, nil
}

// IsFence says whether an object is a fence. Errors: those of Header.
func IsFence(b []byte) (bool, error) {
	r, err := Header(b)
	return r.Kind == Fence, err
}
