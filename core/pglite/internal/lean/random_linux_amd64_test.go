package lean

import (
	"encoding/binary"
	mathbits "math/bits"
	"math/rand/v2"
)

// A random module to compare the compilers on:
//
//	(import "host" "f" (func (param i32 i64) (result i32)))   index 0
//	(memory ...), or (import "memory" "memory" (memory ...)); (global (mut i32)) (table of all functions)
//	functions of (i32, i64) -> i32, which call earlier ones, and the last one, "run"
const (
	paramLocals  = 2
	local32s     = 4 // i32 locals 2..5, i64 locals 6..8
	local64s     = 3
	fuelLocal    = paramLocals + local32s + local64s // i32; every loop ends
	tableOfTypes = 0
)

type kind byte

const (
	k32 kind = 0x7f
	k64 kind = 0x7e

	kindVector kind = 0x7b
)

// wasm is a function's body under construction.
type wasm struct{ out []byte }

func (w *wasm) op(b ...byte) *wasm { w.out = append(w.out, b...); return w }

func (w *wasm) u(v uint64) *wasm { w.out = binary.AppendUvarint(w.out, v); return w }

func (w *wasm) s(v int64) *wasm {
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && b&0x40 == 0 || v == -1 && b&0x40 != 0 {
			w.out = append(w.out, b)
			return w
		}
		w.out = append(w.out, b|0x80)
	}
}

type generator struct {
	wasm
	rng    *rand.Rand
	pages  uint32
	before int // functions that may be called
	budget int
	blocks []bool // the open ones; true: a loop
}

// randomModule returns a module whose memory, its own or imported, has the given number of pages.
func randomModule(seed uint64, pages uint32, imported bool) []byte {
	rng := rand.New(rand.NewPCG(seed, 14))
	n := 2 + rng.IntN(3)
	var bodies [][]byte
	for f := range n {
		g := &generator{rng: rng, pages: pages, before: 1 + f, budget: 60 + rng.IntN(160)}
		g.op(3).u(local32s).op(byte(k32)).u(local64s).op(byte(k64)).u(1).op(byte(k32))
		g.op(0x41).s(40).op(0x21).u(fuelLocal)
		for g.budget > 0 {
			g.statement(3)
		}
		g.expr(k32, 3)
		for l := range uint64(local32s) { // everything that a function computed is in its result
			g.op(0x20).u(paramLocals + l).op(0x6a)
		}
		for l := range uint64(local64s) {
			g.op(0x20).u(paramLocals+local32s+l).op(0xa7, 0x73)
		}
		g.op(0x0b)
		bodies = append(bodies, g.out)
	}
	section := func(w *wasm, id byte, body *wasm) { w.op(id).u(uint64(len(body.out))).op(body.out...) }
	name := func(w *wasm, s string) *wasm { return w.u(uint64(len(s))).op([]byte(s)...) }
	m := &wasm{out: []byte("\x00asm\x01\x00\x00\x00")}
	section(m, 1, (&wasm{}).op(1, 0x60, 2, byte(k32), byte(k64), 1, byte(k32)))
	imports := name(name((&wasm{}).op(1), "host"), "f").op(0, 0)
	if imported {
		imports.out[0]++
		name(name(imports, "memory"), "memory").op(2, 1).u(uint64(pages)).u(uint64(pages))
	}
	section(m, 2, imports)
	types := (&wasm{}).u(uint64(n))
	for range n {
		types.op(0)
	}
	section(m, 3, types)
	section(m, 4, (&wasm{}).op(1, 0x70, 0).u(uint64(n+1)))
	if !imported {
		section(m, 5, (&wasm{}).op(1, 1).u(uint64(pages)).u(uint64(pages)))
	}
	section(m, 6, (&wasm{}).op(1, byte(k32), 1, 0x41).s(int64(int32(rng.Uint32()))).op(0x0b))
	exports := (&wasm{}).op(2)
	name(exports, "run").op(0).u(uint64(n))
	name(exports, "g").op(3, 0)
	section(m, 7, exports)
	elems := (&wasm{}).op(1, 0, 0x41, 0, 0x0b).u(uint64(n))
	for i := range uint64(n) {
		elems.u(i + 1)
	}
	section(m, 9, elems)
	code := (&wasm{}).u(uint64(n))
	for _, b := range bodies {
		code.u(uint64(len(b))).op(b...)
	}
	section(m, 10, code)
	return m.out
}

func (g *generator) local(k kind) uint64 {
	if k == k32 {
		if n := g.rng.Uint64N(local32s + 1); n > 0 {
			return paramLocals + n - 1
		}
		return 0
	}
	if n := g.rng.Uint64N(local64s + 1); n > 0 {
		return paramLocals + local32s + n - 1
	}
	return 1
}

// number is a constant that is hard for compilers.
func (g *generator) number() int64 {
	hard := []int64{0, 1, -1, 1 << 31, 1<<31 - 1, -1 << 31, 1 << 32, 0xffff_ffff, 0x8000_0001, 4, 8, 16, 32, 64, -1 << 63, 1<<63 - 1, 0xff80, 255}
	switch g.rng.IntN(3) {
	case 0:
		return hard[g.rng.IntN(len(hard))]
	case 1:
		return int64(g.rng.IntN(100_000))
	default:
		return int64(g.rng.Uint64())
	}
}

// constant32 is any constant; if all addresses are valid, none above 2^31, which an address that only gets it through a variable takes for
// negative (see onAdd).
func (g *generator) constant32() {
	v := int32(g.number())
	if g.pages > 1<<15 {
		v &= 1<<31 - 1
	}
	g.op(0x41).s(int64(v))
}

// offset is small most of the time, so that nearly all of the memory's addresses can have it.
func (g *generator) offset() uint64 {
	switch g.rng.IntN(30) {
	case 0:
		return g.rng.Uint64N(70_000)
	case 1:
		if g.pages < 1<<16 {
			return 0
		}
		return 1<<31 - 4 + g.rng.Uint64N(16) // more than what an address mode can hold; half of all addresses trap
	case 2, 3, 4, 5, 6, 7:
		return 0
	default:
		return g.rng.Uint64N(64)
	}
}

// address leaves an address that is most likely in the memory: any, if it has all of them.
func (g *generator) address(depth int) {
	if g.pages > 1<<15 && g.rng.IntN(8) == 0 {
		g.op(0x41).s(int64(int32(g.number())))
		return
	}
	g.expr(k32, depth)
	n := g.rng.IntN(4)
	if g.pages <= 1<<15 {
		n %= 2
	}
	bits := int64(15 + mathbits.TrailingZeros32(g.pages)) // half of the memory
	switch n {
	case 0:
		g.op(0x41).s(1<<bits - 1).op(0x71) // i32.and
	case 1:
		g.op(0x41).s(32 - bits + g.rng.Int64N(bits-4)).op(0x76) // i32.shr_u
	}
}

func (g *generator) memory(op byte) { g.op(op, 0).u(g.offset()) }

var (
	loads32 = []byte{0x28, 0x28, 0x2c, 0x2d, 0x2e, 0x2f}
	loads64 = []byte{0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35}
)

// expr leaves a value.
func (g *generator) expr(k kind, depth int) {
	g.budget--
	pick := func(ops ...byte) byte { return ops[g.rng.IntN(len(ops))] }
	if depth <= 0 || g.rng.IntN(6) == 0 {
		switch {
		case g.rng.IntN(3) > 0:
			g.op(0x20).u(g.local(k))
		case k == k32 && g.rng.IntN(3) == 0:
			g.op(0x23, 0)
		case k == k32:
			g.constant32()
		default:
			g.op(0x42).s(g.number())
		}
		return
	}
	d := depth - 1
	n := g.rng.IntN(20)
	switch {
	case n < 6:
		g.address(d)
		if k == k32 {
			g.memory(pick(loads32...))
		} else {
			g.memory(pick(loads64...))
		}
	case n < 11:
		g.expr(k, d)
		g.expr(k, d)
		if k == k32 {
			g.op(pick(0x6a, 0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x74, 0x75, 0x76, 0x77, 0x78))
		} else {
			g.op(pick(0x7c, 0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a))
		}
	case n == 11: // shifted by a constant, including zero
		g.expr(k, d)
		by := []int64{0, 1, 2, 3, 4, 31, 32, 33, 63, 64}[g.rng.IntN(10)]
		if k == k32 {
			g.op(0x41).s(by).op(pick(0x74, 0x75, 0x76))
		} else {
			g.op(0x42).s(by).op(pick(0x86, 0x87, 0x88))
		}
	case n == 12: // a division that is defined
		g.expr(k, d)
		g.expr(k, d)
		if k == k32 {
			g.op(0x41).s(0x7fff).op(0x71).op(0x41).s(1).op(0x72).op(pick(0x6d, 0x6e, 0x6f, 0x70))
		} else {
			g.op(0x42).s(0x7fff).op(0x83).op(0x42).s(1).op(0x84).op(pick(0x7f, 0x80, 0x81, 0x82))
		}
	case n == 13:
		g.expr(k, d)
		if k == k32 {
			g.op(pick(0x67, 0x68, 0x69, 0xc0, 0xc1))
		} else {
			g.op(pick(0x79, 0x7a, 0x7b, 0xc2, 0xc3, 0xc4))
		}
	case n == 14 || n == 15:
		if k == k32 {
			g.expr(k64, d)
			g.op(0xa7)
		} else {
			g.expr(k32, d)
			g.op(pick(0xac, 0xad))
		}
	case n == 16:
		g.choose(k, d)
	case n == 17:
		g.expr(k, d)
		g.op(0x22).u(g.local(k))
	case k == k64:
		g.expr(k64, d)
		g.float(k64)
	case n == 18:
		switch g.rng.IntN(3) {
		case 0: // a comparison
			g.expr(k32, d)
			g.expr(k32, d)
			g.op(0x41).s(g.rng.Int64N(3)).op(0x6a) // not an and: the stock compiler takes 0 < x&y for x&y < 0, see TestZeroAgainstAnd
			g.op(pick(0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f))
		case 1:
			g.expr(k64, d)
			g.expr(k64, d)
			g.op(0x42).s(g.rng.Int64N(3)).op(0x7c)
			g.op(pick(0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a))
		default:
			g.expr(k32, d)
			g.float(k32)
		}
	default: // a call, of a function, of the host, through the table
		g.expr(k32, d)
		g.expr(k64, d)
		if g.before > 1 && g.rng.IntN(3) == 0 {
			g.op(0x41).s(int64(g.rng.IntN(g.before-1))).op(0x11, 0, tableOfTypes)
		} else {
			g.op(0x10).u(g.rng.Uint64N(uint64(g.before)))
		}
	}
}

// choose is a select: of integers, or of their bits as floats or as a vector.
func (g *generator) choose(k kind, depth int) {
	var to, back, typed []byte
	switch wide := k == k64; g.rng.IntN(4) {
	case 0:
		if to, back = []byte{0xbe}, []byte{0xbc}; wide { // f32.reinterpret_i32, i32.reinterpret_f32
			to, back = []byte{0xbf}, []byte{0xbd}
		}
	case 1:
		if to, back = []byte{0xfd, 17}, []byte{0xfd, 27, byte(g.rng.IntN(4))}; wide { // i32x4.splat, i32x4.extract_lane
			to, back = []byte{0xfd, 18}, []byte{0xfd, 29, byte(g.rng.IntN(2))}
		}
		typed = []byte{0x1c, 1, byte(kindVector)}
	}
	for range 2 {
		g.expr(k, depth)
		g.op(to...)
	}
	g.expr(k32, depth)
	if typed == nil {
		typed = []byte{0x1b}
	}
	g.op(typed...).op(back...)
}

// float takes an integer through floating point and back.
func (g *generator) float(k kind) {
	if k == k32 {
		switch g.rng.IntN(3) {
		case 0:
			g.op(0xb7).op(0xfc, 2+byte(g.rng.IntN(2))) // f64.convert_i32_s, i32.trunc_sat_f64
		case 1:
			g.op(0xb8).op(0xfc, 2+byte(g.rng.IntN(2)))
		default:
			g.op(0xbe).op(0xbc) // f32.reinterpret_i32, i32.reinterpret_f32
		}
		return
	}
	if g.rng.IntN(2) == 0 {
		g.op(0xb9).op(0xfc, 6) // f64.convert_i64_s, i64.trunc_sat_f64_s
	} else {
		g.op(0xbf).op(0xbd)
	}
}

func (g *generator) statement(depth int) {
	g.budget--
	switch n := g.rng.IntN(16); {
	case n < 4:
		k := k32
		if g.rng.IntN(3) == 0 {
			k = k64
		}
		g.expr(k, 3)
		g.op(0x21).u(g.local(k))
	case n < 7:
		g.address(2)
		if g.rng.IntN(2) == 0 {
			g.expr(k32, 2)
			g.memory([]byte{0x36, 0x3a, 0x3b}[g.rng.IntN(3)])
		} else {
			g.expr(k64, 2)
			g.memory([]byte{0x37, 0x3c, 0x3d, 0x3e}[g.rng.IntN(4)])
		}
	case n == 7:
		g.expr(k32, 3)
		g.op(0x24, 0)
	case n == 8 && g.pages < 1<<16: // memory.copy or memory.fill, sometimes of a constant length
		g.small(2)
		g.small(2)
		if g.rng.IntN(2) == 0 {
			g.op(0x41).s(int64(g.rng.IntN(300)))
		} else {
			g.small(2)
		}
		if g.rng.IntN(2) == 0 {
			g.op(0xfc, 10, 0, 0)
		} else {
			g.op(0xfc, 11, 0)
		}
	case n == 9 && len(g.blocks) > 0:
		g.expr(k32, 2)
		to := g.rng.IntN(len(g.blocks))
		if g.blocks[len(g.blocks)-1-to] { // a loop: only with fuel
			g.op(0x20).u(fuelLocal).op(0x41).s(1).op(0x6b).op(0x22).u(fuelLocal).op(0x41).s(0).op(0x4a).op(0x71)
		}
		g.op(0x0d).u(uint64(to))
	case n < 14 && depth > 0:
		g.nested(depth - 1)
	default:
		g.expr(k64, 3)
		g.op(0x1a)
	}
}

// small leaves a value that serves as an address and a length.
func (g *generator) small(depth int) {
	g.expr(k32, depth)
	g.op(0x41).s(0x3fff).op(0x71)
}

func (g *generator) nested(depth int) {
	inside := func(loop bool) {
		g.blocks = append(g.blocks, loop)
		for range 1 + g.rng.IntN(4) {
			g.statement(depth)
		}
		g.blocks = g.blocks[:len(g.blocks)-1]
	}
	switch g.rng.IntN(3) {
	case 0:
		g.expr(k32, 2)
		g.op(0x04, 0x40)
		inside(false)
		if g.rng.IntN(2) == 0 {
			g.op(0x05)
			inside(false)
		}
	case 1:
		g.op(0x02, 0x40)
		inside(false)
	default:
		g.op(0x03, 0x40)
		inside(true)
	}
	g.op(0x0b)
}
