package wasmbin

import (
	"errors"
	"testing"
)

// placeable is a module built to be placed anywhere: imported globals, table and memory; data and table entries relative to imported
// globals; a start function that moves a global of its own.
func placeable() []byte {
	global := func(module, name string, mutable byte) []byte {
		return importEntry(module, name, byte(KindGlobal), byte(I32), mutable)
	}
	i32 := FuncType{Results: []ValType{I32}}
	return rawModule(
		rawSection{secType, vec(appendFuncType(nil, FuncType{}), appendFuncType(nil, i32))},
		rawSection{secImport, vec(
			global("env", "__stack_pointer", 1),
			importEntry("env", "memory", byte(KindMemory), 1, 1, 3),
			global("env", "__memory_base", 0),
			importEntry("env", "table", byte(KindTable), byte(FuncRef), 0, 2),
			global("env", "__table_base", 0),
			global("GOT.mem", "__heap_base", 1),
		)},
		rawSection{secFunction, vec([]byte{0}, []byte{1}, []byte{1})},
		rawSection{secGlobal, vec([]byte{byte(I32), 1, opI32Const, 3, opEnd})},
		rawSection{secExport, vec(appendExport(nil, Export{"address", KindFunc, 1}), appendExport(nil, Export{"read", KindFunc, 2}))},
		rawSection{secStart, []byte{0}},
		rawSection{secElement, vec([]byte{0, opGlobalGet, 2, opEnd, 2, 1, 2})},
		rawSection{secCode, vec(
			body(opGlobalGet, 1, opGlobalGet, 4, opI32Add, 0x24, 4), // own += __memory_base
			body(opGlobalGet, 4), // address
			body(opGlobalGet, 2, 0x11, 1, 0, opI32Load8U, 0, 0), // the byte where table[__table_base]() says
		)},
		rawSection{secData, vec(append([]byte{dataActive, opGlobalGet, 1, opEnd}, appendName(nil, "abcdef")...))},
	)
}

func places(i Import) (int32, bool) {
	at, ok := map[string]int32{"__memory_base": 1000, "__table_base": 1, "__stack_pointer": 5000, "__heap_base": 6000}[i.Name]
	return at, ok
}

func TestSettle(t *testing.T) {
	bin, err := Settle(placeable(), places)
	if err == nil {
		bin, err = RewriteMain(bin)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := instantiate(t, newRuntime(t), bin, "")
	if got := mustCall1(t, m, "address"); got != 1003 {
		t.Errorf("the start function has put the address at %d", got)
	}
	if got := mustCall1(t, m, "read"); got != 'd' {
		t.Errorf("read %d through table and data", got)
	}
	for name, want := range map[string]uint64{"__stack_pointer": 5000, "__heap_base": 6000} {
		if g := m.ExportedGlobal(name); g == nil || g.Get() != want {
			t.Errorf("%s is %v", name, g)
		}
	}
	meta, err := Parse(bin)
	if err != nil {
		t.Fatal(err)
	}
	if len(meta.Imports) != 0 {
		t.Errorf("still imports %v", meta.Imports)
	}
	if data, err := meta.DataSegments(); err != nil || len(data) != 1 || data[0].Base != -1 || data[0].Offset != 1000 {
		t.Errorf("data %+v, %v", data, err)
	}
	if got := meta.ElemFuncs(); got[1] != 1 || got[2] != 2 {
		t.Errorf("table %v", got)
	}
}

func TestSettleRefuses(t *testing.T) {
	if _, err := Settle(placeable(), func(i Import) (int32, bool) { return 0, i.Name != "__heap_base" }); !errors.Is(err, ErrFormat) {
		t.Errorf("a global without a place: %v", err)
	}
	bin, err := Settle(placeable(), places)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Settle(bin, places); !errors.Is(err, ErrFormat) {
		t.Errorf("settled twice: %v", err)
	}
	for n := range bin { // truncated anywhere: an error, no panic
		if _, err := Settle(placeable()[:min(n, len(placeable())-1)], places); err == nil && n > len(header) {
			// A module may end after any complete section; then it lacks the rest.
			if _, err := Parse(placeable()[:min(n, len(placeable())-1)]); err != nil {
				t.Errorf("cut to %d bytes: it was taken, and cannot be parsed: %v", n, err)
			}
		}
	}
}
