package wasmbin

import (
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// tableModule exports a table "table" of 2..100 entries and call(slot, a, b),
// which calls a function (i32, i64) -> i64 in it.
func tableModule() []byte {
	t := FuncType{[]ValType{I32, I64}, []ValType{I64}}
	call := FuncType{[]ValType{I32, I32, I64}, []ValType{I64}}
	return rawModule(
		rawSection{secType, vec(appendFuncType(nil, t), appendFuncType(nil, call))},
		rawSection{secFunction, vec([]byte{1})},
		rawSection{secTable, vec([]byte{byte(FuncRef), 1, 2, 100})},
		rawSection{secExport, vec(
			appendExport(nil, Export{"table", KindTable, 0}),
			appendExport(nil, Export{"call", KindFunc, 0}),
		)},
		rawSection{secCode, vec(body(opLocalGet, 1, opLocalGet, 2, opLocalGet, 0, 0x11, 0, 0))},
	)
}

func TestTableAndGrower(t *testing.T) {
	rt := newRuntime(t)
	host := rt.NewHostModuleBuilder("host")
	host = host.NewFunctionBuilder().WithFunc(func(a uint32, b uint64) uint64 { return uint64(a) + b }).Export("add")
	host = host.NewFunctionBuilder().WithFunc(func(a uint32, b uint64) uint64 { return uint64(a) * b }).Export("multiply")
	if _, err := host.Instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	main := instantiate(t, rt, tableModule(), "main")
	grower := instantiate(t, rt, BuildTableGrower("main", "table"), "")
	if got := mustCall1(t, grower, "size"); got != 2 {
		t.Errorf("size %d, want 2", got)
	}
	base := mustCall1(t, grower, "grow", 70)
	if base != 2 || mustCall1(t, grower, "size") != 72 {
		t.Errorf("grew from %d to %d, want 2 to 72", base, mustCall1(t, grower, "size"))
	}
	if got := mustCall1(t, grower, "grow", 29); uint32(got) != 0xffff_ffff {
		t.Errorf("growing over the maximum gave %d, want -1", int32(got))
	}
	types := [2][]ValType{{I32, I64}, {I64}}
	entries := []TableEntry{{"host", "add", types[0], types[1]}, {"host", "multiply", types[0], types[1]}, {"host", "add", types[0], types[1]}}
	instantiate(t, rt, BuildTable(entries, "main", "table", 68), "")
	for slot, want := range map[uint64]uint64{68: 13, 69: 30, 70: 13} {
		if got := mustCall1(t, main, "call", slot, 3, 10); got != want {
			t.Errorf("slot %d gave %d, want %d", slot, got, want)
		}
	}
	for _, slot := range []uint64{67, 71} {
		if got, err := call1(t, main, "call", slot, 3, 10); err == nil {
			t.Errorf("slot %d should be empty, it gave %d", slot, got)
		}
	}
	instantiate(t, rt, BuildTable(nil, "main", "table", 0), "")
}

func TestLink(t *testing.T) {
	rt := newRuntime(t)
	globals := []Global{{"__memory_base", false, 1 << 20}, {"negative", false, -5}, {"GOT.mem.x", true, 77}}
	link := instantiate(t, rt, BuildLink(globals), "link")
	for _, want := range globals {
		g := link.ExportedGlobal(want.Name)
		if g == nil || int32(g.Get()) != want.Value || g.Type() != api.ValueTypeI32 {
			t.Errorf("%s: %v, want %d", want.Name, g, want.Value)
			continue
		}
		if _, mutable := g.(api.MutableGlobal); mutable != want.Mutable {
			t.Errorf("%s: mutable %v, want %v", want.Name, mutable, want.Mutable)
		}
	}
	instantiate(t, rt, BuildLink(nil), "empty")
}

// Builders never read; Parse must understand what they write.
func TestBuiltModulesParse(t *testing.T) {
	entry := TableEntry{"a", "f", []ValType{I32}, nil}
	for name, bin := range map[string][]byte{
		"link":   BuildLink([]Global{{"a", true, 1}}),
		"table":  BuildTable([]TableEntry{entry, entry}, "m", "t", 1<<31),
		"grower": BuildTableGrower("m", "t"),
	} {
		m, err := Parse(bin)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "table" && (len(m.Imports) != 3 || m.ElemFuncs()[2] != 1<<31 || m.ElemFuncs()[3] != 1<<31+1 || len(m.types) != 1) {
			t.Errorf("table: %+v", m)
		}
	}
}
