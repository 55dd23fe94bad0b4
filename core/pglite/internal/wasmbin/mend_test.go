package wasmbin

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// selectTypes are the types of random selects.
var selectTypes = [...]ValType{I32, I64, F32, F64, V128}

// selectFunc writes a function of four i64 parameters that selects among values of one type, after calls and in loops, with few or many of
// them alive, and folds the results into one i64.
type selectFunc struct {
	*code
	rng  *rand.Rand
	kind ValType
	live int // locals of the kind, after the parameters and two counters
}

const selectParams = 4

func (f *selectFunc) value(i int) uint32 { return uint32(selectParams + 2 + i) }

func (f *selectFunc) any() uint32 { return f.value(f.rng.IntN(f.live)) }

// from converts the i64 on the stack to the kind; back converts to i64.
func (f *selectFunc) from() {
	switch f.kind {
	case I32:
		f.op(opI32WrapI64)
	case F32:
		f.op(opI32WrapI64, opF32ReinterpretI32)
	case F64:
		f.op(opF64ReinterpretI64)
	case V128:
		f.simd(18) // i64x2.splat
	}
}

func (f *selectFunc) back() {
	switch f.kind {
	case I32:
		f.op(opI64ExtendU)
	case F32:
		f.op(opI32ReinterpretF32, opI64ExtendU)
	case F64:
		f.op(opI64ReinterpretF64)
	case V128:
		f.simd(29).op(0) // i64x2.extract_lane 0
	}
}

// add is an operation of the kind: on bits, so that NaNs are deterministic.
func (f *selectFunc) add() {
	switch f.kind {
	case I32:
		f.op(opI32Add)
	case I64:
		f.op(opI64Add)
	case V128:
		f.op(opSIMD).out = appendU32(f.out, 206) // i64x2.add
	case F32, F64:
		a, b := uint32(selectParams), uint32(selectParams+1) // i64
		f.back()
		f.set(a)
		f.back()
		f.set(b)
		f.get(a).get(b).op(opI64Add)
		f.from()
	}
}

func (f *selectFunc) condition() {
	switch f.rng.IntN(4) {
	case 0:
		f.get(uint32(f.rng.IntN(selectParams))).op(opI32WrapI64).i32(1 << f.rng.IntN(8)).op(opI32And)
	case 1:
		f.get(uint32(f.rng.IntN(selectParams))).get(uint32(f.rng.IntN(selectParams))).op(0x54) // i64.lt_u
	case 2:
		f.get(f.any())
		f.back()
		f.op(opI32WrapI64).i32(3).op(opI32And)
	default:
		f.get(0).op(0x50) // i64.eqz
	}
}

func (f *selectFunc) chosen() {
	f.get(f.any())
	if f.rng.IntN(2) == 0 {
		f.get(f.any())
		f.add()
	}
	f.get(f.any())
	if f.rng.IntN(3) == 0 { // a call between the operands and the select: everything goes to the stack
		f.get(uint32(f.rng.IntN(selectParams))).call(0).set(uint32(f.rng.IntN(selectParams)))
	}
	f.condition()
	if f.rng.IntN(2) == 0 {
		f.op(opSelect)
	} else {
		f.op(opSelectTyped, 1, byte(f.kind))
	}
}

func (f *selectFunc) statement(depth int) {
	switch k := f.rng.IntN(10); {
	case k < 6:
		f.chosen()
		f.set(f.any())
	case k == 6:
		f.get(f.any())
		f.get(f.any())
		f.add()
		f.op(opLocalTee, byte(f.any())).op(opDrop)
	case k == 7:
		f.get(uint32(f.rng.IntN(selectParams))).call(0).set(uint32(f.rng.IntN(selectParams)))
	case k == 8 && f.kind == V128:
		f.get(f.any())
		f.get(f.any())
		f.get(f.any())
		f.simd(simdV128Bitsel).set(f.any())
	case k == 8 && depth < 2:
		f.condition()
		f.op(opIf, blockEmpty)
		f.statement(depth + 1)
		f.op(opElse)
		f.statement(depth + 1)
		f.op(opEnd)
	case depth < 2: // unreachable code: its selects have no type
		f.op(opBlock, blockEmpty)
		f.statement(depth + 1)
		f.op(opBr, 0, opSelect, opDrop, opEnd)
	}
}

func randomSelects(rng *rand.Rand) (body []byte) {
	f := &selectFunc{code: &code{}, rng: rng, kind: selectTypes[rng.IntN(len(selectTypes))], live: 1 + rng.IntN(24)}
	types := []ValType{I64, I64}
	for range f.live {
		types = append(types, f.kind)
	}
	f.locals(types...)
	for i := range f.live {
		f.get(uint32(rng.IntN(selectParams))).i64(int64(i)*0x1_0000_0001 + 7).op(opI64Mul)
		f.from()
		f.set(f.value(i))
	}
	for range 10 + rng.IntN(60) {
		f.statement(0)
	}
	f.i64(0)
	for i := range f.live {
		f.i64(31).op(opI64Mul)
		f.get(f.value(i))
		f.back()
		f.op(opI64Add)
	}
	f.op(opEnd)
	return f.out
}

// selectsModule has n such functions.
func selectsModule(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	return functionsModule(n, func() []byte { return randomSelects(rng) })
}

// functionsModule has n functions of four i64 parameters and one result, f0 and so on; function 0 scrambles its argument.
func functionsModule(n int, next func() []byte) []byte {
	scramble := &code{}
	scramble.locals()
	scramble.get(0).i64(0x5851F42D4C957F2D).op(opI64Mul).i64(0x14057B7E).op(opI64Add, opEnd)
	bodies, funcs, exports := [][]byte{appendSized(nil, scramble.out)}, [][]byte{{0}}, [][]byte{}
	for i := range n {
		bodies, funcs = append(bodies, appendSized(nil, next())), append(funcs, []byte{1})
		exports = append(exports, appendExport(nil, Export{Name: fmt.Sprint("f", i), Kind: KindFunc, Index: uint32(i + 1)}))
	}
	return rawModule(
		rawSection{secType, vec(
			appendFuncType(nil, FuncType{Params: []ValType{I64}, Results: []ValType{I64}}),
			appendFuncType(nil, FuncType{Params: []ValType{I64, I64, I64, I64}, Results: []ValType{I64}}))},
		rawSection{secFunction, vec(funcs...)},
		rawSection{secExport, vec(exports...)},
		rawSection{secCode, vec(bodies...)},
	)
}

// ways returns modules to be called alike: the original interpreted, and compilations.
func ways(tb testing.TB, bin []byte, fixed ...[]byte) []api.Module {
	interpreter := wazero.NewRuntimeWithConfig(tb.Context(), wazero.NewRuntimeConfigInterpreter())
	tb.Cleanup(func() {
		if err := interpreter.Close(tb.Context()); err != nil {
			tb.Error(err)
		}
	})
	all := []api.Module{instantiate(tb, interpreter, bin, "")}
	for _, f := range fixed {
		all = append(all, instantiate(tb, newRuntime(tb), f, ""))
	}
	return all
}

func selectArguments(rng *rand.Rand) []uint64 {
	args := []uint64{rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64() & 7}
	if rng.IntN(3) == 0 {
		args[0], args[1] = 0, math.Float64bits(math.NaN())
	}
	return args
}

// compareSelects calls every function of a module in all ways, and returns how many results differ from the interpreter's.
func compareSelects(tb testing.TB, seed uint64, n int, modules []api.Module) (wrong []int) {
	wrong = make([]int, len(modules))
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := range n {
		name, off := fmt.Sprint("f", i), make([]bool, len(modules))
		for range 4 {
			args := selectArguments(rng)
			want := mustCall1(tb, modules[0], name, args...)
			for w, m := range modules[1:] {
				off[w+1] = off[w+1] || mustCall1(tb, m, name, args...) != want
			}
		}
		for w, o := range off {
			if o {
				wrong[w]++
			}
		}
	}
	return wrong
}

// TestSelectsAreRight: thousands of functions give the interpreter's results, and without the rewriting some do not.
func TestSelectsAreRight(t *testing.T) {
	const seed, modules, functions = 20261128, 20, 150
	stock, replaced := 0, 0
	for i := range uint64(modules) {
		bin := selectsModule(seed+i, functions)
		fixed, n, err := mend(bin)
		if err != nil {
			t.Fatal(err)
		}
		replaced += n.selects
		wrong := compareSelects(t, seed+i, functions, ways(t, bin, fixed, bin))
		if wrong[1] > 0 {
			t.Errorf("seed %d: %d of %d functions come to something else than in the interpreter", seed+i, wrong[1], functions)
		}
		stock += wrong[2]
		again, n, err := mend(fixed)
		if err != nil || n != (mendStats{}) || len(again) != len(fixed) {
			t.Errorf("seed %d: a second pass replaces %+v (%v)", seed+i, n, err)
		}
	}
	t.Logf("seed %d: %d selects in %d functions; as they were, %d functions are compiled wrongly", uint64(seed), replaced, modules*functions, stock)
	if replaced == 0 {
		t.Error("no select was replaced")
	}
	if runtime.GOARCH == "amd64" && stock == 0 {
		t.Error("wazero compiles all of them right: if its release mends selects, Mend is not needed any more")
	}
}

func FuzzSelects(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		bin := selectsModule(seed, 4)
		fixed, err := Mend(bin)
		if err != nil {
			t.Fatal(err)
		}
		if wrong := compareSelects(t, seed, 4, ways(t, bin, fixed)); wrong[1] > 0 {
			t.Errorf("%d functions come to something else than in the interpreter", wrong[1])
		}
	})
}

// TestSelectOfReferences: a select of references stays, and one that cannot be typed is an error.
func TestSelectOfReferences(t *testing.T) {
	module := func(ops ...byte) []byte {
		return rawModule(
			rawSection{secType, vec(appendFuncType(nil, FuncType{}))},
			rawSection{secFunction, vec([]byte{0})},
			rawSection{secCode, vec(body(ops...))},
		)
	}
	refs := module(opRefNull, byte(FuncRef), opRefNull, byte(FuncRef), opI32Const, 1, opSelectTyped, 1, byte(FuncRef), opDrop)
	if out, n, err := mend(refs); err != nil || n != (mendStats{}) || string(out) != string(refs) {
		t.Errorf("a select of references: %+v, %v", n, err)
	}
	for name, bad := range map[string][]byte{
		"too little":  module(opF64Const, 0, 0, 0, 0, 0, 0, 0, 0, opI32Const, 1, opSelect, opDrop),
		"no local":    module(opLocalGet, 3, opDrop),
		"no function": module(opCall, 9),
	} {
		if _, err := Mend(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
