package wasmbin

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// treeModule has one imported function, print(i32), and functions of the type (i32)(i32) with these bodies.
func treeModule(t *testing.T, bodies ...[]byte) *Code {
	t.Helper()
	types := vec(appendFuncType(nil, FuncType{Params: []ValType{I32}}), appendFuncType(nil, FuncType{Params: []ValType{I32}, Results: []ValType{I32}}))
	var kinds, codes [][]byte
	for _, b := range bodies {
		kinds, codes = append(kinds, []byte{1}), append(codes, body(b...))
	}
	bin := rawModule(
		rawSection{secType, types},
		rawSection{secImport, vec(importEntry("env", "print", byte(KindFunc), 0))},
		rawSection{secFunction, vec(kinds...)},
		rawSection{secMemory, vec([]byte{0, 1})},
		rawSection{secCode, vec(codes...)},
	)
	c, err := mustParse(t, bin).Code()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTree(t *testing.T) {
	for _, tt := range []struct {
		name string
		code []byte
		want []string
	}{
		{
			"nested",
			[]byte{
				opI32Const, 8, opLocalGet, 0, opI32Const, 2, opI32Add, opLocalTee, 0, opI32Store, 2, 4,
				opLocalGet, 0, opI32Load8U, 0, 12, opCall, 0, opI32Const, 5,
			},
			[]string{"i32.store+4(8, tee 0(i32.add(l0, 2)))", "f0(i32.load8_u+12(l0))", "end(5)"},
		},
		{
			"what cannot be reached is left out, ends are not",
			[]byte{opLocalGet, 0, opIf, blockEmpty, opI32Const, 1, opReturn, opI32Const, 7, opCall, 0, opEnd, opI32Const, 0x7f},
			[]string{"if(l0)", "return(1)", "end", "end(-1)"},
		},
		{
			"no end of a block that nobody enters",
			[]byte{opUnreachable, opBlock, blockEmpty, opI32Const, 1, opDrop, opEnd},
			[]string{"unreachable", "end(_)"},
		},
		{
			"a branch that is not taken leaves its value",
			[]byte{opBlock, byte(I32), opI32Const, 3, opLocalGet, 0, opBrIf, 0, opI32Const, 4, opI32Add, opEnd, opCall, 0, opI32Const, 0},
			[]string{"block", "br_if 0(l0)", "end", "f0(i32.add(3, 4))", "end(0)"},
		},
		{
			"values of an arm that is left stand alone",
			[]byte{opLocalGet, 0, opIf, byte(I32), opI32Const, 1, opElse, opI32Const, 2, opEnd},
			[]string{"if(l0)", "1", "else", "end", "end(2)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			row, err := treeModule(t, tt.code).Tree(1)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range row {
				got = append(got, e.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestEachSeesWhatCannotBeReached(t *testing.T) {
	c := treeModule(t, []byte{opI32Const, 1, opReturn, opI32Const, 0xc0, 0, opCall, 0})
	var got []string
	if err := c.Each(1, func(e *Expr) { got = append(got, e.String()) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"1", "return", "64", "f0", "end"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCodeRefuses(t *testing.T) {
	c := treeModule(t, []byte{opI32Const, 1})
	if c.First() != 1 {
		t.Errorf("the first function of its own is %d", c.First())
	}
	for _, f := range []uint32{0, 2, ^uint32(0)} { // imported, and none
		if _, err := c.Tree(f); !errors.Is(err, ErrFormat) {
			t.Errorf("function %d: %v", f, err)
		}
		if err := c.Each(f, func(*Expr) {}); !errors.Is(err, ErrFormat) {
			t.Errorf("function %d: %v", f, err)
		}
	}
	if _, err := treeModule(t, []byte{opI32Add}).Tree(1); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "function 1") {
		t.Errorf("a sum of nothing: %v", err)
	}
	bin := rawModule(rawSection{secType, vec(appendFuncType(nil, FuncType{}))}, rawSection{secFunction, vec([]byte{0}, []byte{0})},
		rawSection{secCode, vec(body())})
	if _, err := mustParse(t, bin).Code(); !errors.Is(err, ErrFormat) {
		t.Errorf("one body for two functions: %v", err)
	}
}

func TestOpcodeNames(t *testing.T) {
	for op, want := range map[byte]string{
		opUnreachable: "unreachable", opElse: "else", opEnd: "end", opCallIndirect: "call_indirect", opSelect: "select", opLocalTee: "tee",
		opI32Load: "i32.load", opI64Store32: "i64.store32", opMemoryGrow: "memory.grow", opF64Const: "f64.const", opI32Eqz: "i32.eqz",
		0x66: "f64.ge", 0x67: "i32.clz", opI64Add: "i64.add", 0x8b: "f32.abs", opI32WrapI64: "i32.wrap_i64", opF64ReinterpretI64: "f64.reinterpret_i64",
		0xc4: "i64.extend32_s", 0xc5: "op0xc5", opRefFunc: "ref.func", opSIMD: "simd",
	} {
		if got := (&Expr{Op: op}).Name(); got != want {
			t.Errorf("%#02x is %q, want %q", op, got, want)
		}
	}
}
