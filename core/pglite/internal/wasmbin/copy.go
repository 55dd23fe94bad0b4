package wasmbin

// copyShort is the longest copy that the helper does itself.
const copyShort = 128

// Locals of the helper.
const (
	copyDst  = 0 // i32, parameter
	copySrc  = 1 // i32, parameter
	copyLen  = 2 // i32, parameter
	copyFrom = 3 // i32, source address of the part that ends with the range
	copyTo   = 4 // i32, destination address of that part
	copyWord = 5 // i32, three of them
	copyWide = 8 // i64, two of them
	copyVecs = 10
)

// copyBody is the helper that replaces memory.copy; long is the function to which it leaves the rest:
//
//	if n > 128 or dst+n or src+n > memory.size, in 64 bits: memory.copy, which traps
//	              before it writes if a range is out of bounds
//	n > 64:  eight vectors: four from the start on, four that end with the range
//	n > 32:  two and two
//	n >= 16: one and one
//	n >= 8, n >= 4: as many words of 64 or 32 bits
//	n >= 1:  three bytes: first, middle, last
//	n == 0:  nothing
//
// Everything is loaded before the first store, so the ranges may overlap.
func copyBody(long uint32) []byte {
	c := &code{}
	c.locals(I32, I32, I32, I32, I32, I64, I64, V128, V128, V128, V128, V128, V128, V128, V128)
	c.op(opBlock, blockEmpty)
	{
		c.get(copyLen).i32(copyShort).op(opI32GtU).brIf(0)
		for _, from := range []uint32{copyDst, copySrc} {
			c.get(from).op(opI64ExtendU).get(copyLen).op(opI64ExtendU).op(opI64Add)
			c.op(opMemorySize, 0).op(opI64ExtendU).i64(16).op(opI64Shl)
			c.op(opI64GtU).brIf(0)
		}
		c.get(copyLen).i32(16).op(opI32GeU).op(opIf, blockEmpty)
		{
			c.get(copyLen).i32(32).op(opI32GtU).op(opIf, blockEmpty)
			{
				c.get(copyLen).i32(64).op(opI32GtU).op(opIf, blockEmpty)
				c.copyVectors(4).op(opReturn, opEnd)
				c.copyVectors(2).op(opReturn)
			}
			c.op(opEnd)
			c.copyVectors(1).op(opReturn)
		}
		c.op(opEnd)
		c.copyPair(8, opI64Load, opI64Store, copyWide)
		c.copyPair(4, opI32Load, opI32Store, copyWord)

		c.get(copyLen).op(opIf, blockEmpty)
		at := func(base, i uint32) {
			c.get(base)
			switch i {
			case 1:
				c.get(copyLen).i32(1).op(opI32ShrU, opI32Add)
			case 2:
				c.get(copyLen).op(opI32Add).i32(1).op(opI32Sub)
			}
		}
		for i := range uint32(3) {
			at(copySrc, i)
			c.op(opI32Load8U, 0, 0).set(copyWord + i)
		}
		for i := range uint32(3) {
			at(copyDst, i)
			c.get(copyWord+i).op(opI32Store8, 0, 0)
		}
		c.op(opEnd)
		c.op(opReturn)
	}
	c.op(opEnd)
	c.get(copyDst).get(copySrc).get(copyLen).call(long)
	return c.op(opEnd).out
}

// copyEnds sets where the last size bytes of both ranges begin.
func (c *code) copyEnds(size int32) *code {
	c.get(copySrc).get(copyLen).op(opI32Add).i32(size).op(opI32Sub).set(copyFrom)
	return c.get(copyDst).get(copyLen).op(opI32Add).i32(size).op(opI32Sub).set(copyTo)
}

// copyVectors copies n vectors from the start, and n that end with the range.
func (c *code) copyVectors(n uint32) *code {
	c.copyEnds(int32(16 * n))
	for i := range 2 * n {
		from := uint32(copySrc)
		if i >= n {
			from = copyFrom
		}
		c.get(from).vec(simdV128Load).memarg(16 * (i % n)).set(copyVecs + i)
	}
	for i := range 2 * n {
		to := uint32(copyDst)
		if i >= n {
			to = copyTo
		}
		c.get(to).get(copyVecs + i).vec(simdV128Store).memarg(16 * (i % n))
	}
	return c
}

// copyPair copies width to 2*width-1 bytes and returns; shorter lengths fall through.
func (c *code) copyPair(width int32, load, store byte, temp uint32) {
	c.get(copyLen).i32(width).op(opI32GeU).op(opIf, blockEmpty)
	c.copyEnds(width)
	c.get(copySrc).op(load, 0, 0).set(temp)
	c.get(copyFrom).op(load, 0, 0).set(temp + 1)
	c.get(copyDst).get(temp).op(store, 0, 0)
	c.get(copyTo).get(temp+1).op(store, 0, 0)
	c.op(opReturn, opEnd)
}
