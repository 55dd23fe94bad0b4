package wasmbin

import "math/rand/v2"

// Locals of random functions: two parameters and three more are pointers, one is an arbitrary number, one counts down so that every loop
// ends.
const (
	randomPointers = 5
	randomNumber   = 5
	randomFuel     = 6
)

// generator writes a random function: nested control flow, accesses through pointers that stay, move, are copied, come from memory, and at
// constants.
type generator struct {
	*code
	rng   *rand.Rand
	depth int
	loops []bool // the open blocks, true for loops
	left  int    // statements still to write
}

func randomFunction(rng *rand.Rand) *code {
	g := &generator{code: &code{}, rng: rng, left: 30 + rng.IntN(120)}
	g.locals(I32, I32, I32, I32, I32)
	g.i32(200).set(randomFuel)
	for p := uint32(2); p < randomPointers; p++ {
		g.i32(int32(rng.IntN(1000))).set(p)
	}
	for g.left > 0 {
		g.statement()
	}
	g.get(randomNumber)
	for p := range uint32(randomPointers) {
		g.get(p).op(opI32Add)
	}
	g.op(opEnd)
	return g.code
}

func (g *generator) pointer() uint32 { return uint32(g.rng.IntN(randomPointers)) }

// offset is small most of the time, sometimes as far as the guard page reaches.
func (g *generator) offset() uint32 {
	if g.rng.IntN(20) == 0 {
		return uint32(g.rng.IntN(GuardBytes))
	}
	return uint32(g.rng.IntN(100))
}

// value leaves a number on the stack.
func (g *generator) value() {
	loads := []byte{opI32Load, 0x2c, opI32Load8U, 0x2e, 0x2f}
	load := loads[g.rng.IntN(len(loads))]
	switch g.rng.IntN(7) {
	case 0:
		g.i32(int32(g.rng.Uint32()))
	case 1:
		g.get(randomNumber)
	case 2:
		g.i32(int32(g.rng.IntN(40000))).access(load, g.offset())
	case 3:
		g.get(g.pointer()).access(0x29, g.offset()).op(opI32WrapI64) // i64.load
	default:
		g.get(g.pointer()).access(load, g.offset())
	}
}

// address leaves an address inside memory.
func (g *generator) address() {
	switch g.rng.IntN(4) {
	case 0:
		g.get(g.pointer())
	case 1:
		g.get(g.pointer()).i32(int32(g.rng.IntN(64))).op(opI32Add).i32(0xffff).op(opI32And)
	default:
		g.value()
		g.i32(0xffff).op(opI32And)
	}
}

func (g *generator) statement() {
	g.left--
	switch k := g.rng.IntN(18); {
	case k < 4:
		g.value()
		g.get(randomNumber).op(opI32Add).set(randomNumber)
	case k < 7:
		g.get(g.pointer())
		g.value()
		g.access([]byte{opI32Store, opI32Store8, 0x3b}[g.rng.IntN(3)], g.offset())
	case k == 7:
		g.address()
		g.set(g.pointer())
	case k == 8:
		g.address()
		g.op(opLocalTee, byte(g.pointer())).access(opI32Load, g.offset()).set(randomNumber)
	case k == 9:
		g.i32(int32(g.rng.IntN(1000)))
		g.value()
		g.access(opI32Store, g.offset())
	case k == 10:
		g.get(randomNumber).call(1).set(randomNumber)
	case k == 11:
		g.leave()
	case g.depth < 6:
		g.nested(k)
	}
}

// leave goes to the end or to the head of a block, on a condition.
func (g *generator) leave() {
	if len(g.loops) == 0 {
		return
	}
	depth := byte(g.rng.IntN(len(g.loops)))
	if g.loops[len(g.loops)-1-int(depth)] {
		g.get(randomFuel).op(0x45, opIf, blockEmpty).i32(1).op(opReturn, opEnd)
		g.get(randomFuel).i32(1).op(opI32Sub).set(randomFuel)
	}
	g.value()
	g.i32(3).op(opI32And)
	switch g.rng.IntN(3) {
	case 0:
		g.brIf(depth)
	case 1: // an arm that leaves for good
		g.op(0x45, opIf, blockEmpty)
		g.value()
		g.op(opDrop, opBr, depth+1)
		g.get(g.pointer()).access(opI32Load, 4).op(opDrop)
		g.op(opEnd)
	default: // one of several blocks, or on
		g.op(opLocalTee, randomNumber)
		g.op(opIf, blockEmpty).get(randomNumber)
		g.op(opBrTable, 2, 0, depth+1, 0, opEnd)
	}
}

func (g *generator) nested(k int) {
	g.depth++
	defer func() { g.depth-- }()
	inside := func(loop bool) {
		g.loops = append(g.loops, loop)
		for range 1 + g.rng.IntN(5) {
			g.statement()
		}
		g.loops = g.loops[:len(g.loops)-1]
	}
	switch k % 3 {
	case 0:
		g.value()
		g.op(opIf, blockEmpty)
		inside(false)
		if g.rng.IntN(2) == 0 {
			g.op(opElse)
			inside(false)
		}
	case 1:
		g.op(opBlock, blockEmpty)
		inside(false)
	default:
		g.op(opLoop, blockEmpty)
		inside(true)
	}
	g.op(opEnd)
}
