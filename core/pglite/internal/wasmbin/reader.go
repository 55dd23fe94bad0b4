package wasmbin

import (
	"fmt"
	"unicode/utf8"
)

// Bounds on what is read. They follow the limits that browsers have agreed on for WebAssembly's JavaScript interface,
// rounded; pglite.wasm stays below a tenth of each.
const (
	maxModuleBytes  = 256 << 20
	maxNameBytes    = 100_000
	maxVectorLen    = 1_000_000 // types, functions, imports, exports, segments
	maxSignature    = 1_000     // parameters or results of one function type
	maxLocals       = 50_000    // of one function; as in wazero
	maxBranchTable  = 100_000
	maxConstOps     = 1_000 // instructions of one constant expression
	maxMemoryPages  = 65_536
	maxTableEntries = 10_000_000
)

// reader is a cursor over a part of a module. The first error sticks and moves the cursor to its end, so that callers
// can read a whole structure and check err once; values read after an error are zero.
type reader struct {
	buf     []byte // the whole module, so that pos is an offset in the file
	pos     int
	end     int
	section string
	err     error
}

func (r *reader) fail(at int, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Section: r.section, Offset: at, Problem: fmt.Sprintf(format, args...)}
	}
	r.pos = r.end
}

func (r *reader) left() int { return r.end - r.pos }

// finish returns the first error, or that bytes are left over.
func (r *reader) finish() error {
	if r.err == nil && r.pos != r.end {
		r.fail(r.pos, "%d bytes left over after the last entry", r.left())
	}
	return r.err
}

func (r *reader) byte(what string) byte {
	if r.pos >= r.end {
		r.fail(r.pos, "ends inside %s", what)
		return 0
	}
	b := r.buf[r.pos]
	r.pos++
	return b
}

func (r *reader) bytes(n int, what string) []byte {
	if n < 0 || n > r.left() {
		r.fail(r.pos, "ends inside %s: %d bytes needed, %d left", what, n, r.left())
		return nil
	}
	b := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return b
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32(what string) uint32 {
	if r.pos < r.end {
		if b := r.buf[r.pos]; b < 0x80 {
			r.pos++
			return uint32(b)
		}
	}
	return r.u32Slow(what)
}

func (r *reader) u32Slow(what string) uint32 {
	start, v := r.pos, uint32(0)
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte(what)
		if r.err != nil {
			return 0
		}
		if shift == 28 && b > 0x0f {
			break
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail(start, "%s: number does not fit in 32 bits", what)
	return 0
}

// signed reads a signed LEB128 number of at most bits bits (32, 33 or 64).
func (r *reader) signed(bits int, what string) int64 {
	start, v := r.pos, int64(0)
	for shift := 0; shift < bits; shift += 7 {
		b := r.byte(what)
		if r.err != nil {
			return 0
		}
		v |= int64(b&0x7f) << shift
		if b >= 0x80 {
			continue
		}
		used := bits - shift // payload bits of this byte that belong to the number
		if used < 7 {
			extra := int8(b<<1) >> used // sign bit and everything above it
			if extra != 0 && extra != -1 {
				break
			}
		}
		if b&0x40 != 0 && shift+7 < 64 {
			v |= -1 << (shift + 7)
		}
		return v
	}
	r.fail(start, "%s: number does not fit in %d bits", what, bits)
	return 0
}

// count reads the length of a vector whose entries take at least one byte each.
func (r *reader) count(limit int, what string) int {
	at := r.pos
	n := r.u32(what)
	if int64(n) > int64(limit) {
		r.fail(at, "%d %s, at most %d allowed", n, what, limit)
		return 0
	}
	if int(n) > r.left() {
		r.fail(at, "%d %s in the %d bytes left", n, what, r.left())
		return 0
	}
	return int(n)
}

func (r *reader) name(what string) string {
	at := r.pos
	n := r.u32(what)
	if n > maxNameBytes {
		r.fail(at, "%s of %d bytes, at most %d allowed", what, n, maxNameBytes)
		return ""
	}
	b := r.bytes(int(n), what)
	if !utf8.Valid(b) {
		r.fail(at, "%s is not UTF-8", what)
		return ""
	}
	return string(b)
}

// sub returns a reader over the next n bytes and moves past them.
func (r *reader) sub(n uint32, what string) *reader {
	start := r.pos
	r.bytes(int(n), what)
	if r.err != nil {
		return &reader{buf: r.buf, pos: r.end, end: r.end, section: r.section, err: r.err}
	}
	return &reader{buf: r.buf, pos: start, end: r.pos, section: r.section}
}
