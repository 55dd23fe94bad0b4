package file

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"blobpglite/core/store"
)

// An object's file:
//
//	0   "BPGOBJ1\n"    8   generation    16  time of writing, Unix nanoseconds    24  bytes of the body
//	32  CRC32C of the body    36  CRC32C of the header without this field    40  bytes of the key    42  bytes of the write id
//	44  the key, the write id, the body
const (
	objectMagic = "BPGOBJ1\n"
	fixedBytes  = 44
)

type header struct {
	attrs store.Attrs
	crc   uint32 // of the body
}

func (h header) bytes() int64 { return int64(fixedBytes + len(h.attrs.Key) + len(h.attrs.WriteID)) }

func (h header) encode() []byte {
	b := make([]byte, fixedBytes, h.bytes())
	copy(b, objectMagic)
	binary.LittleEndian.PutUint64(b[8:], uint64(h.attrs.Gen))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.attrs.Updated.UnixNano()))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.attrs.Size))
	binary.LittleEndian.PutUint32(b[32:], h.crc)
	binary.LittleEndian.PutUint16(b[40:], uint16(len(h.attrs.Key)))
	binary.LittleEndian.PutUint16(b[42:], uint16(len(h.attrs.WriteID)))
	b = append(append(b, h.attrs.Key...), h.attrs.WriteID...)
	binary.LittleEndian.PutUint32(b[36:], headerSum(b))
	return b
}

func headerSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:36], castagnoli), castagnoli, b[40:])
}

// readHeader reads the header of an open object.
func readHeader(f File) (header, error) {
	size, err := f.Size()
	if err != nil {
		return header{}, err
	}
	b := make([]byte, fixedBytes+store.MaxKeyBytes+store.MaxWriteIDBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return decodeHeader(b[:n], size)
}

func decodeHeader(b []byte, fileSize int64) (header, error) {
	damaged := func(why string) (header, error) {
		return header{}, fmt.Errorf("%w: the object's file has %s", store.ErrCorrupt, why)
	}
	if len(b) < fixedBytes || string(b[:len(objectMagic)]) != objectMagic {
		return damaged("no header")
	}
	key, id := int(binary.LittleEndian.Uint16(b[40:])), int(binary.LittleEndian.Uint16(b[42:]))
	if len(b) < fixedBytes+key+id {
		return damaged("an incomplete header")
	}
	b = b[:fixedBytes+key+id]
	if headerSum(b) != binary.LittleEndian.Uint32(b[36:]) {
		return damaged("a header that does not match its CRC32C")
	}
	h := header{crc: binary.LittleEndian.Uint32(b[32:]), attrs: store.Attrs{
		Key:     string(b[fixedBytes : fixedBytes+key]),
		WriteID: string(b[fixedBytes+key:]),
		Gen:     store.Gen(binary.LittleEndian.Uint64(b[8:])),
		Size:    int64(binary.LittleEndian.Uint64(b[24:])),
		Updated: time.Unix(0, int64(binary.LittleEndian.Uint64(b[16:]))),
	}}
	if h.attrs.Size < 0 || h.attrs.Size > store.MaxBodyBytes || h.bytes()+h.attrs.Size != fileSize {
		return damaged(fmt.Sprintf("%d bytes, but its header announces a body of %d", fileSize, h.attrs.Size))
	}
	return h, nil
}

// longestName bounds a file's name, well below the 255 bytes that file systems take.
const longestName = 200

// hashed begins the names of objects whose own would be too long; the key is read from the header.
const hashed = "="

// nameOf returns the file name of an object: the key, with each slash as "+", a capital as "^" and its lower-case
// letter (some file systems do not tell them apart), and any other byte except a-z, 0-9, "-", "_" and inner dots as %
// and two hex digits.
func nameOf(key string) string {
	var b strings.Builder
	for i := range len(key) {
		switch c := key[i]; {
		case c == '/':
			b.WriteByte('+')
		case c >= 'A' && c <= 'Z':
			b.WriteByte('^')
			b.WriteByte(c + 'a' - 'A')
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > longestName {
		sum := sha256.Sum256([]byte(key))
		return hashed + hex.EncodeToString(sum[:])
	}
	return b.String()
}

// keyOf returns the key that a file name represents. long: the key must be read from the header. ok is false for a
// name that nameOf does not make.
func keyOf(name string) (key string, long, ok bool) {
	if strings.HasPrefix(name, hashed) {
		return "", true, len(name) == len(hashed)+2*sha256.Size
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '+':
			b.WriteByte('/')
		case c == '^' && i+1 < len(name):
			i++
			b.WriteByte(name[i] - 'a' + 'A')
		case c == '%' && i+2 < len(name):
			raw, err := hex.DecodeString(name[i+1 : i+3])
			if err != nil {
				return "", false, false
			}
			b.WriteByte(raw[0])
			i += 2
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), false, nameOf(b.String()) == name
}

// path returns the path of an object's file.
func path(key string) string { return objectsDir + "/" + nameOf(key) }
