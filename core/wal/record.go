package wal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"blobpglite/core/store"
)

// Errors of records.
var (
	// ErrCorrupt: a record is damaged, missing within the log, or does not follow from the one before it. Nothing after it may be restored:
	// bring back an older generation of the object, or restore up to the record before it. It wraps store.ErrCorrupt.
	ErrCorrupt = fmt.Errorf("the log is damaged: %w", store.ErrCorrupt)
	// ErrNewer: a record was written by a newer version of this program. Upgrade; nothing is wrong with the log.
	ErrNewer = errors.New("written by a newer version")
	// ErrForeign: a record belongs to another database. Two databases share a prefix, or objects were copied.
	ErrForeign = errors.New("it belongs to another database")
)

// Format is the version of the record format that this package writes.
const Format = 1

// Bounds of a record.
const (
	MaxRecordBytes = 8 << 20  // bytes of a record's object; a larger body goes into parts
	MaxBodyBytes   = 1 << 30  // bytes of one record's body, uncompressed
	MaxOps         = 10 << 20 // operations of one record
	maxText        = 255      // database id, writer, write id
	maxPath        = 1024
	maxOffset      = 1 << 62
	maxParts       = 1024
	partBytes      = 4 << 20
	pieceBytes     = 1 << 20 // bytes compressed at a time

	// MaxInParts bounds, in bytes, the object of a record whose body is in parts: a larger object is not such a record.
	MaxInParts = headerBytes + 3*(1+maxText) + 8 + 4 + maxParts*(4+32) + trailerBytes
)

// Kind says what a record is.
type Kind uint8

// The kinds.
const (
	Data  Kind = 1 // carries operations
	Fence Kind = 2 // opens an epoch; never deleted
)

func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Fence:
		return "fence"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// OpKind says what an operation does.
type OpKind uint8

// The operations.
const (
	OpWrite   OpKind = 1 // Data at Offset
	OpReplace OpKind = 2 // Data is the whole file
	OpRemove  OpKind = 3 // the file is gone
)

// FenceID is the prefix of the write id of every fence that a Log writes, and of no other record. So a list of the log shows fences, which
// must never be deleted, without reading them. A write id without it proves nothing, because metadata can be lost.
const FenceID = "fence-"

// Op is one change to a file of the data directory. Path is absolute within it.
type Op struct {
	Kind   OpKind
	Path   string
	Offset int64
	Data   []byte
}

// Record is one entry of the log.
type Record struct {
	Kind       Kind
	Seq        uint64
	Epoch      uint64
	Time       time.Time
	Prev       [32]byte
	DatabaseID string
	Writer     string
	WriteID    string
	Ops        []Op

	// Hash is the SHA-256 of the record's bytes; set by Decode.
	Hash [32]byte
	// Bytes is the size of the object without parts; set by Decode.
	Bytes int
}

// Position is a place in the log: a record's, usually the last one read or written.
type Position struct {
	Seq   uint64
	Epoch uint64
	// Hash is that record's. All zero: unknown, so the next record is not checked against it.
	Hash [32]byte
}

// Start is the position before the first record of a database.
func Start(databaseID string) Position { return Position{Hash: sha256.Sum256([]byte(databaseID))} }

// keyPrefix and partPrefix are the folders of records and parts.
const (
	keyPrefix  = "wal/"
	partPrefix = "part/"
	seqDigits  = 20
)

// Key is the key of a record.
func Key(seq uint64) string { return fmt.Sprintf("%s%0*d", keyPrefix, seqDigits, seq) }

// ParseKey is the inverse of Key. Error: store.ErrInvalid, for anything that is not a record's key.
func ParseKey(key string) (uint64, error) {
	digits, ok := strings.CutPrefix(key, keyPrefix)
	if !ok || len(digits) != seqDigits {
		return 0, fmt.Errorf("%w: %q is not the key of a record", store.ErrInvalid, key)
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not the key of a record", store.ErrInvalid, key)
	}
	return seq, nil
}

// Prefix is the folder of all records.
func Prefix() string { return keyPrefix }

// PartsPrefix is the folder of all parts.
func PartsPrefix() string { return partPrefix }

// PartPrefix is the folder of a record's parts.
func PartPrefix(epoch uint64, writeID string) string {
	return fmt.Sprintf("%s%d-%s/", partPrefix, epoch, writeID)
}

// ParsePartKey parses the key of a part, and returns the epoch and the write id of its record. ok is false for every other key.
func ParsePartKey(key string) (epoch uint64, writeID string, ok bool) {
	name, isPart := strings.CutPrefix(key, partPrefix)
	folder, n, hasNumber := strings.Cut(name, "/")
	digits, writeID, hasID := strings.Cut(folder, "-")
	epoch, err := strconv.ParseUint(digits, 10, 64)
	number, nErr := strconv.Atoi(n)
	ok = isPart && hasNumber && hasID && writeID != "" && err == nil && nErr == nil && number >= 0 && key == partKey(epoch, writeID, number)
	return epoch, writeID, ok
}

func partKey(epoch uint64, writeID string, n int) string {
	return fmt.Sprintf("%s%06d", PartPrefix(epoch, writeID), n)
}

const (
	magic        = "BPWR"
	flagZstd     = 1
	flagParts    = 2
	flagsAt      = 6
	headerBytes  = 64
	trailerBytes = 4
)

// castagnoli is the CRC32C, with which Cloud Storage also checks uploads.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// encoded is a record ready to be stored.
type encoded struct {
	body  []byte   // the object
	parts [][]byte // objects to store before it
	hash  [32]byte
}

// encode encodes a record.
func encode(r Record, z *zstd.Encoder) (encoded, error) {
	switch {
	case r.Kind != Data && r.Kind != Fence, r.Kind == Fence && len(r.Ops) > 0, r.Seq == 0, r.Epoch == 0,
		r.DatabaseID == "", r.WriteID == "", len(r.DatabaseID) > maxText, len(r.Writer) > maxText, len(r.WriteID) > maxText:
		return encoded{}, fmt.Errorf("encode record %d: %w: kind %v, epoch %d, database %q, writer of %d bytes, write id %q",
			r.Seq, store.ErrInvalid, r.Kind, r.Epoch, r.DatabaseID, len(r.Writer), r.WriteID)
	}
	raw, err := opsBytes(r.Ops)
	if err != nil {
		return encoded{}, fmt.Errorf("encode record %d: %w", r.Seq, err)
	}
	head := headerBytes + 3 + len(r.DatabaseID) + len(r.Writer) + len(r.WriteID) + 8
	b := make([]byte, 0, head+min(raw, max(pieceBytes, raw/4*3))+trailerBytes)
	b = append(b, magic...)
	b = append(b, Format, byte(r.Kind), 0, 0)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = binary.LittleEndian.AppendUint64(b, r.Epoch)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = append(b, r.Prev[:]...)
	for _, s := range []string{r.DatabaseID, r.Writer, r.WriteID} {
		b = append(append(b, byte(len(s))), s...)
	}
	b, flags := appendBody(b[:head], r.Ops, raw, z)
	var e encoded
	if stored := b[head:]; len(stored) > MaxRecordBytes {
		flags |= flagParts
		b = binary.LittleEndian.AppendUint32(bytes.Clone(b[:head]), uint32((len(stored)+partBytes-1)/partBytes))
		for at := 0; at < len(stored); at += partBytes {
			p := stored[at:min(at+partBytes, len(stored))]
			sum := sha256.Sum256(p)
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(p))), sum[:]...)
			e.parts = append(e.parts, p)
		}
	}
	b[flagsAt] = flags
	binary.LittleEndian.PutUint32(b[head-8:], uint32(raw))
	binary.LittleEndian.PutUint32(b[head-4:], uint32(len(b)-head))
	e.body = binary.LittleEndian.AppendUint32(b, castagnoli(b))
	e.hash = sha256.Sum256(e.body)
	return e, nil
}

// appendBody appends the operations, compressed if that makes them smaller. They are compressed piece by piece, each into a frame of its
// own, so that no second uncompressed copy of a large record is made.
func appendBody(b []byte, ops []Op, raw int, z *zstd.Encoder) (body []byte, flags byte) {
	begin := len(b)
	if raw > 64 {
		piece := make([]byte, 0, min(raw, pieceBytes))
		for _, op := range ops {
			piece = appendHead(piece, op)
			for data := op.Data; len(data) > 0; {
				n := min(len(data), max(pieceBytes-len(piece), 1))
				piece, data = append(piece, data[:n]...), data[n:]
				if len(piece) >= pieceBytes {
					b, piece = z.EncodeAll(piece, b), piece[:0]
				}
			}
		}
		if b = z.EncodeAll(piece, b); len(b)-begin < raw {
			return b, flagZstd
		}
	}
	b = b[:begin]
	for _, op := range ops {
		b = append(appendHead(b, op), op.Data...)
	}
	return b, 0
}

// opsBytes is how many bytes operations take, uncompressed.
func opsBytes(ops []Op) (int, error) {
	if len(ops) > MaxOps {
		return 0, fmt.Errorf("%w: %d operations, but a record holds at most %d", store.ErrInvalid, len(ops), MaxOps)
	}
	n := 0
	var head [4 + maxPath + 3*binary.MaxVarintLen64]byte
	for _, op := range ops {
		if op.Kind < OpWrite || op.Kind > OpRemove || op.Path == "" || len(op.Path) > maxPath || op.Offset < 0 || op.Offset > maxOffset {
			return 0, fmt.Errorf("%w: operation %d on %.100q at %d", store.ErrInvalid, op.Kind, op.Path, op.Offset)
		}
		n += len(appendHead(head[:0], op)) + len(op.Data)
	}
	if n > MaxBodyBytes {
		return 0, fmt.Errorf("%w: %d bytes of operations, but a record holds at most %d", store.ErrInvalid, n, MaxBodyBytes)
	}
	return n, nil
}

// appendHead appends everything in an operation before its data.
func appendHead(b []byte, op Op) []byte {
	b = append(b, byte(op.Kind))
	b = append(binary.AppendUvarint(b, uint64(len(op.Path))), op.Path...)
	b = binary.AppendUvarint(b, uint64(op.Offset))
	return binary.AppendUvarint(b, uint64(len(op.Data)))
}
