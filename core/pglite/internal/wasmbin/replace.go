package wasmbin

import (
	"crypto/sha256"
	"encoding/hex"
)

// replacement is a function that replaces one of the program's, identified by the hash of its body. A program of
// another version has another body and is not changed: slower, but correct.
type replacement struct {
	name string // of the function in PostgreSQL's sources
	sum  string // SHA-256 of the body, local declarations included
	body func() []byte
}

// replacements returns the functions that gain from vector instructions, which PGlite is not compiled to.
func replacements() []replacement {
	return []replacement{{
		name: "pg_checksum_page",
		sum:  "30495781b71aa8c66e6e27f397fe7b18ffc09dde1999c8801fb31091ead4f21b",
		body: func() []byte { return checksumBody(checksumBases) },
	}}
}

// replacer finds the bodies to replace.
type replacer map[string]replacement

func newReplacer() replacer {
	r := replacer{}
	for _, entry := range replacements() {
		r[entry.sum] = entry
	}
	return r
}

func (r replacer) find(body []byte) (replacement, bool) {
	sum := sha256.Sum256(body)
	entry, ok := r[hex.EncodeToString(sum[:])]
	return entry, ok
}

const (
	checksumBases = 1600288  // checksumBaseOffsets in the program's memory
	checksumPrime = 16777619 // FNV_PRIME
	checksumRow   = 128      // bytes: 32 sums of 32 bits
	checksumPage  = 8192
	checksumVecs  = checksumRow / 16
)

// Locals of checksumBody; the sums are the eight before checksumTemp.
const (
	checksumPtr   = 0 // i32, parameter: the page, then the row
	checksumBlock = 1 // i32, parameter: the number of the page in its relation
	checksumEnd   = 2 // i32
	checksumSums  = 3 // v128, eight of them
	checksumTemp  = checksumSums + checksumVecs
	checksumMul   = checksumTemp + 1
)

// checksumBody is pg_checksum_page, which checks every page that is read into shared buffers: 32 sums that go through
// the page in parallel, each
//
//	t = sum ^ word; sum = t*16777619 ^ t>>17
//
// here in eight vectors of four, over 64 rows and two rows of zeros. The page's own checksum counts as zero: two bytes
// at offset 8 of the page, which the original clears and restores.
func checksumBody(bases uint32) []byte {
	c := &code{}
	c.out = append(c.out, 2, 1, byte(I32), checksumVecs+2, byte(V128))
	c.i32(checksumPrime).vec(simdI32x4Splt).set(checksumMul)
	for v := range uint32(checksumVecs) {
		c.i32(0).vec(simdV128Load).memarg(bases + 16*v).set(checksumSums + v)
	}
	c.get(checksumPtr).i32(checksumPage).op(opI32Add).set(checksumEnd)
	for v := uint32(checksumVecs); v > 0; v-- { // the last first: its bounds check covers the others
		c.get(checksumPtr).vec(simdV128Load).memarg(16 * (v - 1))
		if v == 1 {
			c.vec(simdV128Const).op([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\xff\xff\xff\xff\xff\xff")...).vec(simdV128And)
		}
		c.checksumStep(checksumSums+v-1, true)
	}
	c.op(opLoop, blockEmpty)
	for v := uint32(checksumVecs); v > 0; v-- {
		c.get(checksumPtr).vec(simdV128Load).memarg(checksumRow+16*(v-1)).checksumStep(checksumSums+v-1, true)
	}
	c.get(checksumPtr).i32(checksumRow).op(opI32Add).op(opLocalTee, checksumPtr)
	c.get(checksumEnd).i32(checksumRow).op(opI32Sub).op(opI32Ne).brIf(0)
	c.op(opEnd)
	for range 2 {
		for v := range uint32(checksumVecs) {
			c.checksumStep(checksumSums+v, false)
		}
	}
	c.get(checksumSums)
	for v := uint32(1); v < checksumVecs; v++ {
		c.get(checksumSums + v).vec(simdV128Xor)
	}
	c.set(checksumTemp)
	for lane := range byte(4) {
		c.get(checksumTemp).vec(simdI32x4Extr).op(lane)
		if lane > 0 {
			c.op(opI32Xor)
		}
	}
	c.get(checksumBlock).op(opI32Xor)
	c.i32(65535).op(opI32RemU).i32(1).op(opI32Add)
	return c.op(opEnd).out
}

// checksumStep takes a vector of words, or zeros, from the stack into a sum.
func (c *code) checksumStep(sum uint32, word bool) {
	c.get(sum)
	if word {
		c.vec(simdV128Xor)
	}
	c.set(checksumTemp)
	c.get(checksumTemp).get(checksumMul).vec(simdI32x4Mul)
	c.get(checksumTemp).i32(17).vec(simdI32x4ShrU).vec(simdV128Xor).set(sum)
}

// vec appends a vector instruction without its operands.
func (c *code) vec(op uint32) *code {
	c.out = appendU32(append(c.out, opSIMD), op)
	return c
}

// memarg appends an unaligned access's operands.
func (c *code) memarg(offset uint32) *code {
	c.out = appendU32(append(c.out, 0), offset)
	return c
}
