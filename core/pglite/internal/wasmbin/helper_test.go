package wasmbin

import (
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

func newRuntime(tb testing.TB) wazero.Runtime {
	tb.Helper()
	rt := wazero.NewRuntime(tb.Context())
	tb.Cleanup(func() {
		if err := rt.Close(tb.Context()); err != nil {
			tb.Error(err)
		}
	})
	return rt
}

// instantiate runs a module under a name; without a name it stays anonymous.
func instantiate(tb testing.TB, rt wazero.Runtime, bin []byte, name string) api.Module {
	tb.Helper()
	mod, err := rt.InstantiateWithConfig(tb.Context(), bin, wazero.NewModuleConfig().WithName(name))
	if err != nil {
		tb.Fatal(err)
	}
	return mod
}

// call1 calls a function with at most one result.
func call1(tb testing.TB, mod api.Module, name string, args ...uint64) (uint64, error) {
	tb.Helper()
	fn := mod.ExportedFunction(name)
	if fn == nil {
		tb.Fatalf("no function %q", name)
	}
	res, err := fn.Call(tb.Context(), args...)
	if err != nil || len(res) == 0 {
		return 0, err
	}
	return res[0], nil
}

func mustCall1(tb testing.TB, mod api.Module, name string, args ...uint64) uint64 {
	tb.Helper()
	v, err := call1(tb, mod, name, args...)
	if err != nil {
		tb.Fatalf("call %s%v: %v", name, args, err)
	}
	return v
}

// rawSection is a section as rawModule writes it, unchecked.
type rawSection struct {
	id   byte
	body []byte
}

func rawModule(secs ...rawSection) []byte {
	out := []byte(header)
	for _, s := range secs {
		out = appendSection(out, s.id, s.body)
	}
	return out
}

// vec encodes a vector of encoded entries.
func vec(entries ...[]byte) []byte {
	out := appendU32(nil, uint32(len(entries)))
	for _, e := range entries {
		out = append(out, e...)
	}
	return out
}

// body encodes a function body without locals.
func body(ops ...byte) []byte {
	return appendSized(nil, append(append([]byte{0}, ops...), opEnd))
}

// importEntry encodes an import; desc is its kind and type.
func importEntry(module, name string, desc ...byte) []byte {
	return append(appendName(appendName(nil, module), name), desc...)
}

// fillModule imports env.memory of pages..max pages and has one function "fill" that holds a memory.fill among constants whose bytes look
// like one. The runtime refuses it as it is (nothing provides the memory); tests rewrite it, or definedFillModule gives it a memory.
func fillModule(pages, max byte) []byte {
	fill := []byte{
		opI32Const, 0xfc, 0x8b, 0x00, 0x1a, // i32.const with the bytes fc .. 00, drop
		opI64Const, 0xfc, 0x8b, 0x80, 0x00, 0x1a,
		opF64Const, 0xfc, 0x0b, 0x00, 0xfc, 0x0b, 0x00, 0xfc, 0x0b, 0x1a,
		opSIMD, simdV128Const, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0, 0x1a,
		opLocalGet, 0, opLocalGet, 1, opLocalGet, 2, opMisc, miscMemoryFill, 0,
	}
	return rawModule(
		rawSection{secType, vec(appendFuncType(nil, helperType()))},
		rawSection{secImport, vec(importEntry("env", "memory", byte(KindMemory), 1, pages, max))},
		rawSection{secFunction, vec([]byte{0})},
		rawSection{secExport, vec(appendExport(nil, Export{Name: "fill", Kind: KindFunc}))},
		rawSection{secCode, vec(body(fill...))},
	)
}

// definedFillModule is fillModule with a memory of its own and memory.fill unchanged: the reference.
func definedFillModule(tb testing.TB, pages, max byte) []byte {
	tb.Helper()
	m, err := Parse(fillModule(pages, max))
	if err != nil {
		tb.Fatal(err)
	}
	m.defineMemory()
	if err := m.exportState(); err != nil {
		tb.Fatal(err)
	}
	return m.sections.bytes()
}
