package wasmbin

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

// scalarOp is a scalar instruction that never traps.
type scalarOp struct {
	op     []byte
	takes  []ValType
	gives  ValType
	tamely bool // its operands must not be NaN: the result's bits would be unspecified
}

func scalarOps() (all []scalarOp) {
	add := func(first, last byte, gives ValType, tamely bool, takes ...ValType) {
		for op := int(first); op <= int(last); op++ {
			all = append(all, scalarOp{[]byte{byte(op)}, takes, gives, tamely})
		}
	}
	add(0x45, 0x45, I32, false, I32)      // i32.eqz
	add(0x46, 0x4f, I32, false, I32, I32) // comparisons
	add(0x50, 0x50, I32, false, I64)
	add(0x51, 0x5a, I32, false, I64, I64)
	add(0x5b, 0x60, I32, false, F32, F32)
	add(0x61, 0x66, I32, false, F64, F64)
	add(0x67, 0x69, I32, false, I32) // clz, ctz, popcnt
	add(0x6a, 0x6c, I32, false, I32, I32)
	add(0x71, 0x78, I32, false, I32, I32)
	add(0x79, 0x7b, I64, false, I64)
	add(0x7c, 0x7e, I64, false, I64, I64)
	add(0x83, 0x8a, I64, false, I64, I64)
	add(0x8b, 0x8c, F32, false, F32) // abs, neg
	add(0x8d, 0x90, F32, true, F32)  // ceil, floor, trunc, nearest
	add(0x92, 0x94, F32, true, F32, F32)
	add(0x96, 0x97, F32, true, F32, F32)  // min, max
	add(0x98, 0x98, F32, false, F32, F32) // copysign
	add(0x99, 0x9a, F64, false, F64)
	add(0x9b, 0x9e, F64, true, F64)
	add(0xa0, 0xa2, F64, true, F64, F64)
	add(0xa4, 0xa5, F64, true, F64, F64)
	add(0xa6, 0xa6, F64, false, F64, F64)
	add(0xa7, 0xa7, I32, false, I64)
	add(0xac, 0xad, I64, false, I32)
	add(0xb2, 0xb3, F32, false, I32)
	add(0xb4, 0xb5, F32, false, I64)
	add(0xb6, 0xb6, F32, true, F64)
	add(0xb7, 0xb8, F64, false, I32)
	add(0xb9, 0xba, F64, false, I64)
	add(0xbb, 0xbb, F64, true, F32)
	add(0xbc, 0xbc, I32, false, F32)
	add(0xbd, 0xbd, I64, false, F64)
	add(0xbe, 0xbe, F32, false, I32)
	add(0xbf, 0xbf, F64, false, I64)
	add(0xc0, 0xc1, I32, false, I32)
	add(0xc2, 0xc4, I64, false, I64)
	for i, from := range []ValType{F32, F32, F64, F64, F32, F32, F64, F64} { // saturating truncations
		gives := I32
		if i >= 4 {
			gives = I64
		}
		all = append(all, scalarOp{[]byte{opMisc, byte(i)}, []ValType{from}, gives, false})
	}
	for _, t := range selectTypes[:4] {
		all = append(all, scalarOp{[]byte{opSelect}, []ValType{t, t, I32}, t, false})
	}
	return all
}

// scalarFunc writes functions of all scalar instructions with many values of each type alive.
type scalarFunc struct {
	*code
	rng   *rand.Rand
	first map[ValType]int // local of each type
	live  int             // of each type
}

func (f *scalarFunc) any(t ValType) uint32 { return uint32(f.first[t] + f.rng.IntN(f.live)) }

func randomScalars(rng *rand.Rand, ops []scalarOp) []byte {
	f := &scalarFunc{code: &code{}, rng: rng, first: map[ValType]int{}, live: 1 + rng.IntN(16)}
	var locals []ValType
	for _, t := range selectTypes[:4] {
		f.first[t] = selectParams + len(locals)
		for range f.live {
			locals = append(locals, t)
		}
	}
	f.locals(locals...)
	for i := range f.live {
		f.get(uint32(i % selectParams)).i64(int64(2*i + 1)).op(opI64Mul).set(uint32(f.first[I64] + i))
		f.get(f.any(I64)).op(opI32WrapI64).set(uint32(f.first[I32] + i))
		f.get(f.any(I32)).op(0xb2).set(uint32(f.first[F32] + i))
		f.get(f.any(I64)).op(0xb9).set(uint32(f.first[F64] + i))
	}
	for range 20 + rng.IntN(100) {
		if rng.IntN(6) == 0 {
			f.get(uint32(rng.IntN(selectParams))).call(0).set(f.any(I64))
			continue
		}
		f.one(ops[rng.IntN(len(ops))])
	}
	f.i64(0)
	for _, t := range selectTypes[:4] {
		for i := range f.live {
			f.i64(31).op(opI64Mul).get(uint32(f.first[t] + i))
			f.op(map[ValType][]byte{I32: {opI64ExtendU}, F32: {opI32ReinterpretF32, opI64ExtendU}, F64: {opI64ReinterpretF64}}[t]...)
			f.op(opI64Add)
		}
	}
	f.op(opEnd)
	return f.out
}

func (f *scalarFunc) one(op scalarOp) {
	for _, t := range op.takes {
		f.get(f.any(t))
		if op.tamely && t == F32 { // to a number and back
			f.op(opMisc, 0, 0xb2)
		} else if op.tamely {
			f.op(opMisc, 6, 0xb9)
		}
	}
	f.op(op.op...).set(f.any(op.gives))
}

// compareScalars counts functions of these instructions whose results differ from the interpreter's: mended, and unchanged.
func compareScalars(t *testing.T, seed uint64, modules, functions int, ops []scalarOp) (mended, stock int) {
	for i := range uint64(modules) {
		rng := rand.New(rand.NewPCG(seed+i, 1))
		bin := functionsModule(functions, func() []byte { return randomScalars(rng, ops) })
		fixed, err := Mend(bin)
		if err != nil {
			t.Fatal(err)
		}
		wrong := compareSelects(t, seed+i, functions, ways(t, bin, fixed, bin))
		mended, stock = mended+wrong[1], stock+wrong[2]
	}
	t.Logf("seed %d: of %d functions %d are wrong; as they were, %d", seed, modules*functions, mended, stock)
	return mended, stock
}

// TestScalarsAreRight: functions of any scalar instructions give the interpreter's results. This would reveal the next fault of wazero's
// register allocator.
func TestScalarsAreRight(t *testing.T) {
	if mended, _ := compareScalars(t, 20261129, 20, 100, scalarOps()); mended > 0 {
		t.Errorf("%d functions come to something else than in the interpreter", mended)
	}
}

// TestConversionsAreRight: without the mending, some conversions of unsigned integers among shifts are wrong.
func TestConversionsAreRight(t *testing.T) {
	var ops []scalarOp
	for _, op := range scalarOps() {
		if op.op[0] != opMisc && op.op[0] != opSelect && !op.tamely {
			ops = append(ops, op)
		}
	}
	mended, stock := compareScalars(t, 5000, 80, 150, ops)
	if mended > 0 {
		t.Errorf("%d functions come to something else than in the interpreter", mended)
	}
	if runtime.GOARCH == "amd64" && stock == 0 {
		t.Error("wazero compiles all of them right: if its release mends these conversions, Mend need not")
	}
}
