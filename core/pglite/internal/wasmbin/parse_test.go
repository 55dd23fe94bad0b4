package wasmbin

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
)

// sideModule is a hand-made side module that has one of everything Parse reads.
func sideModule() []byte {
	dylink := appendName(nil, "dylink.0")
	sub := func(kind byte, body []byte) { dylink = appendSized(append(dylink, kind), body) }
	sub(dylinkMemInfo, []byte{0x90, 0x01, 4, 3, 1})
	sub(dylinkNeeded, vec(appendName(nil, "libm.so")))
	sub(dylinkExportInfo, vec(append(appendName(nil, "tls"), 0x80, 0x02)))
	sub(dylinkImportInfo, vec(append(appendName(appendName(nil, "env"), "maybe"), 0x11)))
	sub(9, []byte("something new"))
	return rawModule(
		rawSection{secCustom, dylink},
		rawSection{secType, vec(appendFuncType(nil, FuncType{}), appendFuncType(nil, FuncType{[]ValType{I32, V128}, []ValType{F64}}))},
		rawSection{secImport, vec(
			importEntry("env", "memory", byte(KindMemory), 0, 0),
			importEntry("env", "__memory_base", byte(KindGlobal), byte(I32), 0),
			importEntry("env", "__table_base", byte(KindGlobal), byte(I32), 0),
			importEntry("env", "f", byte(KindFunc), 1),
			importEntry("env", "__indirect_function_table", byte(KindTable), byte(FuncRef), 1, 2, 200, 1),
			importEntry("GOT.mem", "x", byte(KindGlobal), byte(I32), 1),
		)},
		rawSection{secFunction, vec([]byte{0}, []byte{0})},
		rawSection{secGlobal, vec(
			[]byte{byte(I32), 0, opI32Const, 0x70, opEnd},                        // 3: -16
			[]byte{byte(I32), 1, opI32Const, 5, opEnd},                           // 4: mutable
			[]byte{byte(I32), 0, opGlobalGet, 0, opI32Const, 1, opI32Add, opEnd}, // 5: not constant
			[]byte{byte(I64), 0, opI64Const, 7, opEnd},                           // 6: not i32
			append(append([]byte{byte(V128), 0, opSIMD, simdV128Const}, make([]byte, 16)...), opEnd),
			[]byte{byte(FuncRef), 0, opRefFunc, 0, opEnd},
		)},
		rawSection{secExport, vec(
			appendExport(nil, Export{"data", KindGlobal, 3}),
			appendExport(nil, Export{"counter", KindGlobal, 4}),
			appendExport(nil, Export{"sum", KindGlobal, 5}),
			appendExport(nil, Export{"wide", KindGlobal, 6}),
			appendExport(nil, Export{"g", KindFunc, 2}),
		)},
		rawSection{secElement, vec(
			append([]byte{0, opGlobalGet, 1, opEnd}, 2, 1, 2),
			append([]byte{0, opGlobalGet, 1, opI32Const, 8, opI32Add, opEnd}, 2, 2, 0),
			append([]byte{4, opGlobalGet, 1, opI32Const, 20, opI32Add, opEnd}, 2, opRefNull, byte(FuncRef), opEnd, opRefFunc, 1, opEnd),
			append([]byte{1, 0}, 1, 1),                                   // passive
			append([]byte{3, 0}, 1, 1),                                   // declared
			append([]byte{5, byte(FuncRef)}, 1, opRefFunc, 1, opEnd),     // passive expressions
			append([]byte{2, 7, opI32Const, 0, opEnd}, 0, 1, 1),          // another table
			append([]byte{6, 7, opI32Const, 0, opEnd}, byte(FuncRef), 0), // another table, no entries
		)},
		rawSection{secCode, vec(body(), body())},
		rawSection{secData, vec(
			append([]byte{dataActive, opGlobalGet, 0, opI32Const, 16, opI32Add, opEnd}, appendName(nil, "abc")...),
			append([]byte{dataPassive}, appendName(nil, "def")...),
			append([]byte{dataExplicit, 0, opI32Const, 3, opEnd}, appendName(nil, "ghi")...),
		)},
	)
}

func TestParse(t *testing.T) {
	m, err := Parse(sideModule())
	if err != nil {
		t.Fatal(err)
	}
	f := FuncType{[]ValType{I32, V128}, []ValType{F64}}
	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
		}
	}
	check("imports", m.Imports, []Import{
		{Module: "env", Name: "memory", Kind: KindMemory},
		{Module: "env", Name: "__memory_base", Kind: KindGlobal, Type: I32},
		{Module: "env", Name: "__table_base", Kind: KindGlobal, Type: I32},
		{Module: "env", Name: "f", Kind: KindFunc, Func: f},
		{Module: "env", Name: "__indirect_function_table", Kind: KindTable, Type: FuncRef, Limits: Limits{2, 200, true}},
		{Module: "GOT.mem", Name: "x", Kind: KindGlobal, Type: I32, Mutable: true},
	})
	check("functions", m.Funcs, []FuncType{f, {}, {}})
	check("export", m.Exports[4], Export{"g", KindFunc, 2})
	check("global 3", m.Globals[3], GlobalDef{Type: I32, HasConst: true, Const: -16})
	check("global 5", m.Globals[5], GlobalDef{Type: I32})
	check("constants", m.Consts(), map[string]int32{"data": -16})
	check("segments", m.Elems, []Elem{{1, 0, []uint32{1, 2}}, {1, 8, []uint32{2, 0}}, {1, 20, []uint32{NullFunc, 1}}})
	check("slots", m.ElemFuncs(), map[uint32]uint32{1: 0, 2: 1, 0: 9})
	check("dylink", m.Dylink, &Dylink{
		MemorySize: 0x90, MemoryAlign: 4, TableSize: 3, TableAlign: 1, Needed: []string{"libm.so"},
		Exports: []DylinkExport{{"tls", 0x100}}, Imports: []DylinkImport{{"env", "maybe", 0x11}},
	})
	if !m.Dylink.Imports[0].Flags.Weak() || m.Dylink.Imports[0].Flags.TLS() || !m.Dylink.Exports[0].Flags.TLS() {
		t.Errorf("flags of %+v are misread", m.Dylink)
	}
	data, err := m.DataSegments()
	if err != nil {
		t.Fatal(err)
	}
	check("data", data, []Segment{{0, 16, []byte("abc")}, {-1, 3, []byte("ghi")}})
}

func TestDataSegmentsRefuse(t *testing.T) {
	for name, segment := range map[string][]byte{
		"start not known": {dataActive, opI32Const, 1, opI32Const, 2, opI32Mul, opEnd, 0},
		"mode":            {3, 0},
		"contents":        {dataPassive, 5, 'a'},
		"second memory":   {dataExplicit, 1, opI32Const, 0, opEnd, 0},
	} {
		m, err := Parse(rawModule(rawSection{secData, vec(segment)}))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.DataSegments(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, ErrFormat)
		}
	}
}

// Truncated anywhere, the module is an error, or complete up to a section's end.
func TestParseTruncated(t *testing.T) {
	whole := sideModule()
	ends := map[int]bool{8: true}
	s, err := split(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, sec := range s.list {
		ends[sec.end] = true
	}
	for n := range len(whole) {
		m, err := Parse(whole[:n])
		switch {
		case err == nil && !ends[n]:
			t.Errorf("cut to %d bytes it was accepted: %+v", n, m)
		case err != nil && !errors.Is(err, ErrFormat):
			t.Errorf("cut to %d bytes: %v does not match ErrFormat", n, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	funcs := []rawSection{{secType, vec(appendFuncType(nil, FuncType{}))}, {secFunction, vec([]byte{0})}}
	with := func(secs ...rawSection) []byte { return rawModule(append(slices.Clone(funcs), secs...)...) }
	tests := map[string]struct {
		bin     []byte
		section string
	}{
		"empty":              {nil, "header"},
		"text":               {[]byte("<!doctype html>"), "header"},
		"component":          {[]byte("\x00asm\x0d\x00\x01\x00"), "header"},
		"unknown section":    {rawModule(rawSection{13, nil}), "unknown"},
		"repeated":           {rawModule(rawSection{secType, vec()}, rawSection{secType, vec()}), "type"},
		"out of order":       {rawModule(rawSection{secCode, vec()}, rawSection{secType, vec()}), "type"},
		"section too long":   {append([]byte(header), secType, 5, 0), "type"},
		"left over":          {rawModule(rawSection{secType, []byte{0, 0}}), "type"},
		"count too large":    {rawModule(rawSection{secType, []byte{0xff, 0xff, 0x3f}}), "type"},
		"count over 32 bits": {rawModule(rawSection{secType, []byte{0xff, 0xff, 0xff, 0xff, 0x1f}}), "type"},
		"no function type":   {rawModule(rawSection{secType, vec([]byte{0x5f, 0, 0})}), "type"},
		"bad value type":     {rawModule(rawSection{secType, vec([]byte{0x60, 1, 0x40, 0})}), "type"},
		"type index":         {rawModule(rawSection{secFunction, vec([]byte{0})}), "function"},
		"import kind":        {rawModule(rawSection{secImport, vec(importEntry("a", "b", 4, 0, 0))}), "import"},
		"name not UTF-8":     {rawModule(rawSection{secImport, vec(importEntry("\xff", "b", 2, 0, 0))}), "import"},
		"shared memory":      {rawModule(rawSection{secMemory, vec([]byte{3, 1, 1})}), "memory"},
		"memory over 4 GiB":  {rawModule(rawSection{secMemory, vec([]byte{0, 0x81, 0x80, 0x04})}), "memory"},
		"memory max < min":   {rawModule(rawSection{secMemory, vec([]byte{1, 2, 1})}), "memory"},
		"two memories":       {rawModule(rawSection{secMemory, vec([]byte{0, 1}, []byte{0, 1})}), "memory"},
		"mutability":         {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 2, opI32Const, 0, opEnd})}), "global"},
		"no value":           {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 0, opEnd})}), "global"},
		"two values":         {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 0, opI32Const, 0, opI32Const, 0, opEnd})}), "global"},
		"sum of one":         {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 0, opI32Const, 0, opI32Add, opEnd})}), "global"},
		"call in constant":   {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 0, opCall, 0, opEnd})}), "global"},
		"later global":       {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 0, opGlobalGet, 0, opEnd})}), "global"},
		"i32 too long":       {rawModule(rawSection{secGlobal, vec([]byte{byte(I32), 0, opI32Const, 0x80, 0x80, 0x80, 0x80, 0x10, opEnd})}), "global"},
		"export repeated":    {with(rawSection{secExport, vec(appendExport(nil, Export{"a", 0, 0}), appendExport(nil, Export{"a", 0, 0}))}), "export"},
		"export index":       {with(rawSection{secExport, vec(appendExport(nil, Export{"a", KindFunc, 1}))}), "export"},
		"export global":      {with(rawSection{secExport, vec(appendExport(nil, Export{"a", KindGlobal, 0}))}), "export"},
		"export kind":        {with(rawSection{secExport, vec(appendExport(nil, Export{"a", 4, 0}))}), "export"},
		"element flags":      {with(rawSection{secElement, vec([]byte{8})}), "element"},
		"element kind":       {with(rawSection{secElement, vec([]byte{1, 1, 1, 0})}), "element"},
		"element function":   {with(rawSection{secElement, vec([]byte{0, opI32Const, 0, opEnd, 1, 1})}), "element"},
		"element start":      {with(rawSection{secElement, vec([]byte{0, opI32Const, 0, opI32Const, 2, opI32Mul, opEnd, 1, 0})}), "element"},
		"element entry":      {with(rawSection{secElement, vec([]byte{4, opI32Const, 0, opEnd, 1, opI32Const, 0, opEnd})}), "element"},
		"dylink subsection":  {rawModule(rawSection{secCustom, append(appendName(nil, "dylink.0"), 1, 4, 0, 0, 0)}), "custom dylink.0"},
		"dylink left over":   {rawModule(rawSection{secCustom, append(appendName(nil, "dylink.0"), 1, 5, 0, 0, 0, 0, 0)}), "custom dylink.0"},
		"dylink alignment":   {rawModule(rawSection{secCustom, append(appendName(nil, "dylink.0"), 1, 4, 0, 32, 0, 0)}), "custom dylink.0"},
	}
	for name, tc := range tests {
		_, err := Parse(tc.bin)
		var where *Error
		if !errors.As(err, &where) || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want an *Error", name, err)
			continue
		}
		if where.Section != tc.section || where.Offset < 0 || where.Offset > len(tc.bin) {
			t.Errorf("%s: %v, want section %q", name, err, tc.section)
		}
	}
}

// Segments that start at a base and segments that do not are indistinguishable in the result of ElemFuncs.
func TestParseRefusesMixedBases(t *testing.T) {
	bin := rawModule(
		rawSection{secImport, vec(importEntry("env", "__table_base", byte(KindGlobal), byte(I32), 0))},
		rawSection{secElement, vec([]byte{0, opI32Const, 1, opEnd, 0}, []byte{0, opGlobalGet, 0, opEnd, 0})},
	)
	if _, err := Parse(bin); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v, want %v", err, ErrFormat)
	}
}

func TestSignedNumbers(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, -65, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		for _, bits := range []int{32, 33, 64} {
			enc := appendS64(nil, v)
			r := &reader{buf: enc, end: len(enc)}
			got := r.signed(bits, "number")
			fits := v >= -1<<(bits-1) && v <= 1<<(bits-1)-1
			if fits && (got != v || r.finish() != nil) || !fits && r.err == nil {
				t.Errorf("%d in %d bits: got %d, %v", v, bits, got, r.err)
			}
		}
	}
	long := []byte{0xff, 0xff, 0xff, 0xff, 0x7f} // -1, padded
	r := &reader{buf: long, end: len(long)}
	if got := r.signed(32, "number"); got != -1 || r.err != nil {
		t.Errorf("padded -1: %d, %v", got, r.err)
	}
}

func TestUnsignedNumbers(t *testing.T) {
	for _, v := range []uint32{0, 1, 127, 128, 1<<28 - 1, 1 << 28, math.MaxUint32} {
		enc := appendU32(nil, v)
		r := &reader{buf: enc, end: len(enc)}
		if got := r.u32("number"); got != v || r.finish() != nil {
			t.Errorf("%d: got %d, %v", v, got, r.err)
		}
	}
	for _, bad := range [][]byte{{}, {0x80}, {0xff, 0xff, 0xff, 0xff, 0x10}, {0x80, 0x80, 0x80, 0x80, 0x80, 0x00}} {
		r := &reader{buf: bad, end: len(bad)}
		if got := r.u32("number"); r.err == nil {
			t.Errorf("% x was read as %d", bad, got)
		}
	}
}

func TestNamesOfTypes(t *testing.T) {
	got := fmt.Sprint(I32, I64, F32, F64, V128, FuncRef, ExternRef, ValType(1), KindFunc, KindTable, KindMemory, KindGlobal, Kind(9))
	if want := "i32 i64 f32 f64 v128 funcref externref valtype(0x1) func table memory global kind(9)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
