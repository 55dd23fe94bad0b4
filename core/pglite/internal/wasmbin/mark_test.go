package wasmbin

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
)

// The marks, as written: i64.const of the constant, drop.
var (
	localMark    = markOf(MarkLocal)
	importedMark = append(markOf(MarkInstance), markOf(MarkBase)...)
)

func markOf(v int64) []byte { return append(appendS64([]byte{opI64Const}, v), opDrop) }

// bodies are function bodies, each in two parts: the declarations of its locals, and its instructions.
type bodies [][2][]byte

// module has the bodies as functions () -> (), preceded by an import, the memory that memory names, and sections after the code.
func (b bodies) module(memory string, mark []byte) []byte {
	funcs, code := [][]byte{}, [][]byte{}
	for _, one := range b {
		funcs = append(funcs, []byte{0})
		code = append(code, appendSized(nil, slices.Concat(one[0], mark, one[1])))
	}
	imports := [][]byte{importEntry("env", "f", byte(KindFunc), 0)}
	secs := []rawSection{{secType, vec(appendFuncType(nil, FuncType{}))}}
	if memory == "imported" {
		imports = append(imports, importEntry("env", "memory", byte(KindMemory), 1, 1, 3))
	}
	secs = append(secs, rawSection{secImport, vec(imports...)}, rawSection{secFunction, vec(funcs...)})
	if memory == "own" {
		secs = append(secs, rawSection{secMemory, vec([]byte{0, 1})})
	}
	return rawModule(append(secs, rawSection{secCode, vec(code...)}, rawSection{secCustom, append(appendName(nil, "behind"), "contents"...)})...)
}

// declarations are n declarations of one i32 each.
func declarations(n int) []byte {
	return append(appendU32(nil, uint32(n)), bytes.Repeat([]byte{1, byte(I32)}, n)...)
}

func markedBodies() bodies {
	nops := func(n int) []byte { return append(bytes.Repeat([]byte{0x01}, n), opEnd) }
	b := bodies{
		{{0}, {opEnd}},
		{{0}, {opI32Const, 1, opDrop, opEnd}},
		{{1, 0xd0, 0x86, 0x03, byte(V128)}, {opEnd}},                                         // 50000 locals in one declaration
		{{1, 0x81, 0x80, 0x80, 0x80, 0x00, byte(F64)}, {opEnd}},                              // one local, its number longer than necessary
		{{0x82, 0x00, 1, byte(I64), 2, byte(FuncRef)}, {opEnd}},                              // so is the number of declarations
		{{0}, {opLoop, blockEmpty, opEnd, opEnd}},                                            // a loop at the very beginning
		{{0}, slices.Concat([]byte{opCall, 0}, localMark, []byte{opCall, 1}, []byte{opEnd})}, // a mark of its own, not at the beginning
	}
	for _, n := range []int{1, 2, 127, 128, 300, 20_000} {
		b = append(b, [2][]byte{declarations(n), {opEnd}})
	}
	for n := 100; n < 130; n++ { // where the body's length takes one more byte
		b = append(b, [2][]byte{{0}, nops(n)})
	}
	return append(b, [2][]byte{declarations(3), nops(16_370)}, [2][]byte{{0}, nops(16_384)})
}

// TestMark: every function of a module with a memory begins with its mark, and nothing else changes.
func TestMark(t *testing.T) {
	if !bytes.Equal(localMark[:2], []byte{opI64Const, MarkLocal&0x7f | 0x80}) || localMark[len(localMark)-1] != opDrop || len(importedMark) != 2*len(localMark) {
		t.Errorf("the marks are written % x, % x", localMark, importedMark)
	}
	all := markedBodies()
	for memory, mark := range map[string][]byte{"own": localMark, "imported": importedMark, "none": nil} {
		got, err := Mark(all.module(memory, nil))
		if err != nil {
			t.Fatal(err)
		}
		if want := all.module(memory, mark); !bytes.Equal(got, want) {
			t.Errorf("%s memory: %d bytes are not the %d wanted", memory, len(got), len(want))
		}
		rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
		if _, err := rt.CompileModule(t.Context(), got); err != nil {
			t.Errorf("%s memory: it is not valid any more: %v", memory, err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for name, bin := range map[string][]byte{
		"nothing":                          rawModule(),
		"a memory and no code":             rawModule(rawSection{secMemory, vec([]byte{0, 1})}),
		"a memory and code of no function": rawModule(rawSection{secMemory, vec([]byte{0, 1})}, rawSection{secCode, vec()}),
	} {
		if got, err := Mark(bin); err != nil || !bytes.Equal(got, bin) {
			t.Errorf("%s: % x, %v", name, got, err)
		}
	}
}

// TestMarkedRuns: a marked module does the same as before.
func TestMarkedRuns(t *testing.T) {
	const seeds = 100
	rt := newRuntime(t)
	for seed := range uint64(seeds) {
		bin := oneFunction(2, randomFunction(rand.New(rand.NewPCG(seed, 1))))
		marked, err := Mark(bin)
		if err != nil {
			t.Fatal(err)
		}
		before, after := instantiate(t, rt, bin, ""), instantiate(t, rt, marked, "")
		for _, arg := range []uint64{0, 100, 60_000} {
			want, trap := call1(t, before, "f", arg, arg/2)
			got, err := call1(t, after, "f", arg, arg/2)
			if (err == nil) != (trap == nil) || got != want || !bytes.Equal(memoryOf(t, before), memoryOf(t, after)) {
				t.Errorf("seed %d: f(%d) = %d, %v, want %d, %v", seed, arg, got, err, want, trap)
			}
		}
	}
}

// TestMarkRefuses: truncated modules, and incomplete code.
func TestMarkRefuses(t *testing.T) {
	whole := bodies{{declarations(3), {opEnd}}, {{0}, {opCall, 0, opEnd}}, {declarations(130), {opEnd}}}.module("own", nil)
	s, err := split(whole)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int]bool{8: true}
	for _, sec := range s.list {
		ends[sec.end] = true
	}
	for n := range len(whole) {
		if _, err := Mark(whole[:n]); (err == nil) != ends[n] || err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	code := s.body(secCode)
	with := func(code []byte) []byte {
		return rawModule(rawSection{secType, vec(appendFuncType(nil, FuncType{}))}, rawSection{secFunction, vec([]byte{0}, []byte{0}, []byte{0})},
			rawSection{secMemory, vec([]byte{0, 1})}, rawSection{secCode, code})
	}
	if _, err := Mark(with(code)); err != nil {
		t.Fatal(err)
	}
	for n := range len(code) {
		if _, err := Mark(with(code[:n])); !errors.Is(err, ErrFormat) {
			t.Errorf("code cut to %d bytes: got %v, want %v", n, err, ErrFormat)
		}
	}
	for name, code := range map[string][]byte{
		"left over":                         append(bytes.Clone(code), 0),
		"body too long":                     vec([]byte{9, 0, opEnd}),
		"body too short":                    vec([]byte{1, 0, opEnd}),
		"body of nothing":                   vec([]byte{0}),
		"more declarations than bytes":      vec(appendSized(nil, []byte{4, 1, byte(I32), opEnd})),
		"a declaration that is the end":     vec(appendSized(nil, []byte{1, 1})),
		"a number of locals over 32 bits":   vec(appendSized(nil, []byte{1, 0xff, 0xff, 0xff, 0xff, 0x1f, byte(I32), opEnd})),
		"a length over 32 bits":             vec([]byte{0xff, 0xff, 0xff, 0xff, 0x1f}),
		"declarations of the next function": vec(append([]byte{1, 2}, body()...), []byte{1, byte(I32), opEnd}),
	} {
		if _, err := Mark(with(code)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want %v", name, err, ErrFormat)
		}
	}
}

// TestMarkOfAnything: whatever the bytes, the result can be read again, or the error says what is wrong.
func TestMarkOfAnything(t *testing.T) {
	const seed, rounds = 20261129, 4000
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	originals := [][]byte{mainModule(), sideModule(), segmentModule(), bodies{{declarations(3), {opEnd}}, {{0}, {opCall, 0, opEnd}}}.module("own", nil)}
	accepted := 0
	for range rounds {
		bin := bytes.Clone(originals[rng.IntN(len(originals))])
		for range 1 + rng.IntN(4) {
			at := rng.IntN(len(bin))
			switch rng.IntN(4) {
			case 0:
				bin[at] ^= 1 << rng.IntN(8)
			case 1:
				bin[at] = byte(rng.Uint32())
			case 2:
				bin = slices.Delete(bin, at, min(len(bin), at+1+rng.IntN(4)))
			default:
				bin = slices.Insert(bin, at, byte(rng.Uint32()))
			}
			if len(bin) == 0 {
				break
			}
		}
		out, err := Mark(bin)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("% x: %v does not match ErrFormat", bin, err)
			}
			continue
		}
		accepted++
		if _, err := Parse(out); err != nil {
			t.Errorf("% x: it gives a module that cannot be read: %v", bin, err)
		}
	}
	t.Logf("%d of %d were accepted", accepted, rounds)
	if accepted < rounds/20 || accepted > rounds*19/20 {
		t.Errorf("%d of %d were accepted: the changes are not of both kinds", accepted, rounds)
	}
}
