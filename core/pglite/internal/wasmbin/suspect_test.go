package wasmbin

import "testing"

// TestSuspects: Mend must look at every function that has a select and gets a float or a vector from anywhere, and at no other.
func TestSuspects(t *testing.T) {
	const (
		none = iota // () -> ()
		takes
		gives
		takesBoth
	)
	types := vec(appendFuncType(nil, FuncType{}), appendFuncType(nil, FuncType{Params: []ValType{F64}}),
		appendFuncType(nil, FuncType{Results: []ValType{F32}}), appendFuncType(nil, FuncType{Params: []ValType{I32, I64}}))
	chosen := func(ops ...byte) []byte { return append(ops, opI32Const, 1, opSelect, opDrop) }
	twice := func(ops ...byte) []byte { return chosen(append(ops, ops...)...) }
	withLocal := func(t ValType, ops ...byte) []byte {
		return appendSized(nil, append(append([]byte{1, 1, byte(t)}, ops...), opEnd))
	}
	const f64Convert32, f32Load, i32Trunc = 0xb7, 0x2a, 0xa8
	for name, c := range map[string]struct {
		kind uint32
		code []byte
		want bool
	}{
		"integers":            {takesBoth, body(twice(opLocalGet, 0)...), false},
		"integers, a local":   {none, withLocal(I64, twice(opLocalGet, 0)...), false},
		"no select":           {takes, body(opLocalGet, 0, opDrop), false},
		"a parameter":         {takes, body(twice(opLocalGet, 0)...), true},
		"a local":             {none, withLocal(F32, twice(opLocalGet, 0)...), true},
		"a vector":            {none, withLocal(V128, twice(opLocalGet, 0)...), true},
		"a load":              {none, body(twice(opI32Const, 0, f32Load, 2, 0)...), true},
		"a constant":          {none, body(twice(opF32Const, 0, 0, 0, 0)...), true},
		"a large constant":    {none, body(twice(opF64Const, 0, 0, 0, 0, 0, 0, 0, 0)...), true},
		"a conversion":        {none, body(twice(opI32Const, 0, f64Convert32)...), true},
		"bits":                {none, body(twice(opI32Const, 0, opF32ReinterpretI32)...), true},
		"a call":              {none, body(twice(opCall, 1)...), true},
		"a call of nothing":   {none, body(append([]byte{opCall, 0}, twice(opI32Const, 1)...)...), false},
		"a call by table":     {none, body(twice(opI32Const, 0, opCallIndirect, gives, 0)...), true},
		"a global":            {none, body(twice(opGlobalGet, 1)...), true},
		"a global integer":    {none, body(twice(opGlobalGet, 0)...), false},
		"unsigned, no select": {none, body(opI64Const, 1, opF32ConvertI64U, opDrop), true},
		"an integer of it":    {none, body(append([]byte{opF32Const, 0, 0, 0, 0, i32Trunc, opDrop}, twice(opI32Const, 1)...)...), true}, // more than needed
	} {
		bin := rawModule(
			rawSection{secType, types},
			rawSection{secFunction, vec([]byte{none}, []byte{gives}, appendU32(nil, c.kind))},
			rawSection{secTable, vec([]byte{0x70, 0, 1})},
			rawSection{secMemory, vec([]byte{0, 1})},
			rawSection{secGlobal, vec([]byte{byte(I32), 0, opI32Const, 0, opEnd}, []byte{byte(F64), 0, opF64Const, 0, 0, 0, 0, 0, 0, 0, 0, opEnd})},
			rawSection{secCode, vec(body(), body(opF32Const, 0, 0, 0, 0), c.code)},
		)
		m, err := Parse(bin)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, unmended, err := m.rewriteCode(leaveChecks)
		if err != nil || len(unmended) != 3 {
			t.Fatalf("%s: %v, %v", name, unmended, err)
		}
		if unmended[2] != c.want {
			t.Errorf("%s: %v", name, unmended[2])
		}
		_, stats, err := mend(bin)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if needed := stats != (mendStats{}); needed && !unmended[2] {
			t.Errorf("%s: Mend replaces %+v", name, stats)
		}
	}
}
