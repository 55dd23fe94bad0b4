package pglite

import (
	"bytes"
	"encoding/binary"
	"os"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"
)

// All host access to an instance's linear memory goes through this file. An address outside the memory is a bug of the guest or of the
// host: the slice expression panics, wazero turns that into a trap, and the instance is killed as after any other trap.

// wasmPage is the unit in which a linear memory grows.
const wasmPage = 64 << 10

// maxMemory bounds every instance: 2 GiB, the module's own maximum. (wazero 1.12 has an address-folding bug that only a larger memory would
// show.)
const maxMemory = 2 << 30

// memory is the guest's linear memory as host functions see it.
type memory struct{ b []byte }

func (m *memory) putU8(p uint32, v byte)      { m.b[p] = v }
func (m *memory) u8(p uint32) byte            { return m.b[p] }
func (m *memory) u16(p uint32) uint16         { return binary.LittleEndian.Uint16(m.b[p:]) }
func (m *memory) putU16(p uint32, v uint16)   { binary.LittleEndian.PutUint16(m.b[p:], v) }
func (m *memory) u32(p uint32) uint32         { return binary.LittleEndian.Uint32(m.b[p:]) }
func (m *memory) putU32(p, v uint32)          { binary.LittleEndian.PutUint32(m.b[p:], v) }
func (m *memory) u64(p uint32) uint64         { return binary.LittleEndian.Uint64(m.b[p:]) }
func (m *memory) putU64(p uint32, v uint64)   { binary.LittleEndian.PutUint64(m.b[p:], v) }
func (m *memory) bytes(p, n uint32) []byte    { return m.b[p : uint64(p)+uint64(n)] }
func (m *memory) putCstr(p uint32, s string)  { copy(m.b[p:], s); m.b[uint64(p)+uint64(len(s))] = 0 }
func (m *memory) putBytes(p uint32, s []byte) { copy(m.bytes(p, uint32(len(s))), s) }

// cstr reads a NUL-terminated string.
func (m *memory) cstr(p uint32) string {
	n := bytes.IndexByte(m.b[p:], 0)
	if n < 0 {
		n = len(m.b) - int(p)
	}
	return string(m.b[p : int(p)+n])
}

// linearMemory is the reservation for one instance's memory. It reserves the largest size from the start, and growing only makes more of it
// accessible: the memory never moves.
type linearMemory struct {
	region []byte  // the whole reservation
	limit  uint64  // grows beyond it fail, and PostgreSQL answers with SQLSTATE 53200
	view   *memory // what host functions see, kept current
	free   func()
	file   *os.File // the file that backs it; nil: none
}

var _ experimental.LinearMemory = (*linearMemory)(nil)

// firstByte returns a pointer to the first byte of b.
func firstByte(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// Reallocate implements experimental.LinearMemory.
func (l *linearMemory) Reallocate(size uint64) []byte {
	if size > l.limit || size > uint64(len(l.region)) {
		return nil
	}
	if open(l.region[len(l.view.b):max(size, uint64(len(l.view.b)))]) != nil {
		return nil
	}
	l.view.b = l.region[:size:size]
	return l.view.b
}

// Free implements experimental.LinearMemory.
func (l *linearMemory) Free() {
	if l.region == nil {
		return
	}
	l.region, l.view.b = nil, nil
	l.free()
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
