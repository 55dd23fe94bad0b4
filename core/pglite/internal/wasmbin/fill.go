package wasmbin

// fillShort is the longest fill that the helper does itself; for longer ones a runtime's own memory.fill is faster.
const fillShort = 2048

// Locals of the helper.
const (
	fillDst  = 0 // i32, parameter
	fillByte = 1 // i32, parameter
	fillLen  = 2 // i32, parameter
	fillLast = 3 // i32, address of the last store
	fillStop = 4 // i32, where the blocks of 64 bytes end
	fillWide = 5 // i64, the byte eight times
	fillVec  = 6 // v128, the byte sixteen times
)

// eightTimes, multiplied by a byte, repeats it eight times.
const eightTimes = 0x0101010101010101

// fillBody is the helper that replaces memory.fill; long is the function to which it leaves the rest:
//
//	if n > 2048 or dst+n > memory.size, in 64 bits: memory.fill, which traps
//	                         before it writes if the range is out of bounds
//	n >= 16: v128 stores from dst on, one that ends at dst+n
//	n >= 8:  two i64 stores that may overlap
//	n >= 4:  two i32 stores that may overlap
//	n >= 1:  three i8 stores: first, middle, last
//	n == 0:  nothing
//
// The whole range is checked first, so a store never traps halfway.
func fillBody(long uint32) []byte {
	c := &code{}
	c.locals(I32, I32, I64, V128)
	c.op(opBlock, blockEmpty)
	{
		c.get(fillLen).i32(fillShort).op(opI32GtU).brIf(0)
		c.get(fillDst).op(opI64ExtendU).get(fillLen).op(opI64ExtendU).op(opI64Add)
		c.op(opMemorySize, 0).op(opI64ExtendU).i64(16).op(opI64Shl)
		c.op(opI64GtU).brIf(0)

		c.get(fillLen).i32(16).op(opI32GeU).op(opIf, blockEmpty)
		c.fillVectors().op(opReturn)
		c.op(opEnd)

		c.get(fillByte).op(opI64ExtendU).i64(0xff).op(opI64And).i64(eightTimes).op(opI64Mul).set(fillWide)
		c.fillPair(8, opI64Store, false)
		c.fillPair(4, opI32Store, true)

		c.get(fillLen).op(opIf, blockEmpty)
		c.get(fillDst).get(fillByte).store(opI32Store8)
		c.get(fillDst).get(fillLen).i32(1).op(opI32ShrU).op(opI32Add).get(fillByte).store(opI32Store8)
		c.get(fillDst).get(fillLen).op(opI32Add).i32(1).op(opI32Sub).get(fillByte).store(opI32Store8)
		c.op(opEnd)
		c.op(opReturn)
	}
	c.op(opEnd)
	c.get(fillDst).get(fillByte).get(fillLen).call(long)
	return c.op(opEnd).out
}

// fillVectors writes 16 bytes or more: blocks of 64 while more than 64 remain, then 16 while dst < last, then 16 at
// last = dst+n-16. dst stays below dst+n, so it cannot wrap. In a block the highest store comes first: its bounds check
// covers the other three.
func (c *code) fillVectors() *code {
	c.get(fillByte).simd(simdI8x16Splt).set(fillVec)
	c.get(fillDst).get(fillLen).op(opI32Add).i32(16).op(opI32Sub).op(opLocalTee, fillLast)
	c.storeVec(0)
	c.get(fillLen).i32(64).op(opI32GtU).op(opIf, blockEmpty)
	{
		c.get(fillDst).get(fillLen).i32(1).op(opI32Sub).i32(-64).op(opI32And).op(opI32Add).set(fillStop)
		c.op(opLoop, blockEmpty)
		for _, offset := range []byte{48, 0, 16, 32} {
			c.get(fillDst).storeVec(offset)
		}
		c.get(fillDst).i32(64).op(opI32Add).op(opLocalTee, fillDst)
		c.get(fillStop).op(opI32LtU).brIf(0)
		c.op(opEnd)
	}
	c.op(opEnd)
	c.get(fillDst).get(fillLast).op(opI32LtU).op(opIf, blockEmpty)
	{
		c.op(opLoop, blockEmpty)
		c.get(fillDst).storeVec(0)
		c.get(fillDst).i32(16).op(opI32Add).op(opLocalTee, fillDst)
		c.get(fillLast).op(opI32LtU).brIf(0)
		c.op(opEnd)
	}
	return c.op(opEnd)
}

// storeVec stores the vector at the address on the stack plus offset.
func (c *code) storeVec(offset byte) *code {
	return c.get(fillVec).simd(simdV128Store).op(0, offset)
}

// fillPair writes width..2*width-1 bytes with two stores and returns; shorter
// lengths fall through.
func (c *code) fillPair(width int32, store byte, wrap bool) {
	wide := func() {
		c.get(fillWide)
		if wrap {
			c.op(opI32WrapI64)
		}
		c.store(store)
	}
	c.get(fillLen).i32(width).op(opI32GeU).op(opIf, blockEmpty)
	c.get(fillDst)
	wide()
	c.get(fillDst).get(fillLen).op(opI32Add).i32(width).op(opI32Sub)
	wide()
	c.op(opReturn, opEnd)
}

// code assembles a function body.
type code struct{ out []byte }

func (c *code) locals(types ...ValType) {
	c.out = appendU32(c.out, uint32(len(types)))
	for _, t := range types {
		c.out = append(c.out, 1, byte(t))
	}
}

func (c *code) op(ops ...byte) *code {
	c.out = append(c.out, ops...)
	return c
}

func (c *code) simd(op byte) *code { return c.op(opSIMD, op) }

func (c *code) get(local uint32) *code {
	c.out = appendU32(append(c.out, opLocalGet), local)
	return c
}

func (c *code) set(local uint32) *code {
	c.out = appendU32(append(c.out, opLocalSet), local)
	return c
}

func (c *code) tee(local uint32) *code {
	c.out = appendU32(append(c.out, opLocalTee), local)
	return c
}

func (c *code) i32(v int32) *code {
	c.out = appendS32(append(c.out, opI32Const), v)
	return c
}

func (c *code) i64(v int64) *code {
	c.out = appendS64(append(c.out, opI64Const), v)
	return c
}

func (c *code) call(fn uint32) *code {
	c.out = appendU32(append(c.out, opCall), fn)
	return c
}

func (c *code) brIf(depth byte) *code { return c.op(opBrIf, depth) }

// store appends an unaligned store without offset.
func (c *code) store(op byte) *code { return c.op(op, 0, 0) }
