package wasmbin

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// mainModule imports a memory between two functions, has a mutable global of each kind of visibility, and a function "run" that adds to the
// hidden one, fills, and calls both imports.
func mainModule() []byte {
	run := slices.Concat(
		[]byte{opGlobalGet, 1, opLocalGet, 0, opI32Add, 0x24, 1},
		[]byte{opI32Const, 8, opI32Const, 0x2a, opI32Const, 4, opMisc, miscMemoryFill, 0},
		[]byte{opI32Const, 20, opI32Const, 0x2b, opI32Const, 2, opMisc, 0x8b, 0x00, 0},
		[]byte{opCall, 0, opCall, 1, opGlobalGet, 1},
	)
	return rawModule(
		rawSection{secType, vec(appendFuncType(nil, FuncType{}), appendFuncType(nil, FuncType{[]ValType{I32}, []ValType{I32}}))},
		rawSection{secImport, vec(
			importEntry("env", "first", byte(KindFunc), 0),
			importEntry("env", "memory", byte(KindMemory), 1, 1, 3),
			importEntry("env", "second", byte(KindFunc), 0),
		)},
		rawSection{secFunction, vec([]byte{1})},
		rawSection{4, vec([]byte{byte(FuncRef), 0, 2})},
		rawSection{secCustom, appendName(nil, "in the middle")},
		rawSection{secGlobal, vec(
			[]byte{byte(I32), 1, opI32Const, 1, opEnd},
			[]byte{byte(I32), 1, opI32Const, 2, opEnd},
			[]byte{byte(I32), 0, opI32Const, 3, opEnd},
			[]byte{byte(I64), 1, opI64Const, 4, opEnd},
		)},
		rawSection{secExport, vec(
			appendExport(nil, Export{"run", KindFunc, 2}),
			appendExport(nil, Export{"shown", KindGlobal, 0}),
		)},
		rawSection{secStart, []byte{0}},
		rawSection{secElement, vec([]byte{0, opI32Const, 1, opEnd, 1, 2})},
		rawSection{secDataCount, []byte{1}},
		rawSection{secCode, vec(body(run...))},
		rawSection{secData, vec(append([]byte{dataActive, opI32Const, 7, opEnd}, appendName(nil, "......")...))},
		rawSection{secCustom, append(appendName(nil, "behind"), "contents"...)},
	)
}

// hostEnv provides "env" with first and second, which record their calls.
func hostEnv(t *testing.T, rt wazero.Runtime) (calls *[]string) {
	t.Helper()
	calls = new([]string)
	b := rt.NewHostModuleBuilder("env")
	for _, name := range []string{"first", "second"} {
		b = b.NewFunctionBuilder().WithFunc(func() { *calls = append(*calls, name) }).Export(name)
	}
	if _, err := b.Instantiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return calls
}

func TestRewriteMain(t *testing.T) {
	for name, checks := range map[string]checkMode{"checked": arrangeChecks, "unchecked": leaveChecks} {
		t.Run(name, func(t *testing.T) { testRewriteMain(t, checks) })
	}
}

func testRewriteMain(t *testing.T, checks checkMode) {
	bin, stats, err := rewriteMain(mainModule(), checks)
	if err != nil {
		t.Fatal(err)
	}
	if checks == leaveChecks {
		if bin, err = Mark(bin); err != nil {
			t.Fatal(err)
		}
	}
	if stats.fills != 2 {
		t.Errorf("%d fills replaced, want 2", stats.fills)
	}
	rt := newRuntime(t)
	calls := hostEnv(t, rt)
	m := instantiate(t, rt, bin, "main")
	if got := mustCall1(t, m, "run", 5); got != 7 {
		t.Errorf("run(5) = %d, want 7", got)
	}
	if want := []string{"first", "first", "second"}; !slices.Equal(*calls, want) {
		t.Errorf("host functions called: %q, want %q (start function, then run)", *calls, want)
	}
	mem := m.ExportedMemory("memory")
	if mem == nil {
		t.Fatal("memory is not exported")
	}
	if got, _ := mem.Read(6, 16); string(got) != "\x00.****.\x00\x00\x00\x00\x00\x00\x00++" {
		t.Errorf("memory %q", got)
	}
	if max, ok := mem.Definition().Max(); mem.Definition().Min() != 2 || max != 3 || !ok {
		t.Errorf("memory of %d..%d pages, want 2..3 (one is the guard)", mem.Definition().Min(), max)
	}
	for name, want := range map[string]uint64{"shown": 1, GlobalExportPrefix + "1": 7, GlobalExportPrefix + "3": 4} {
		if g, ok := m.ExportedGlobal(name).(api.MutableGlobal); !ok || g.Get() != want {
			t.Errorf("global %s: %v, want %d", name, m.ExportedGlobal(name), want)
		}
	}
	for _, name := range []string{GlobalExportPrefix + "0", GlobalExportPrefix + "2"} {
		if m.ExportedGlobal(name) != nil {
			t.Errorf("global %s is exported without need", name)
		}
	}
	if !bytes.Contains(bin, []byte("in the middle")) || !bytes.HasSuffix(bin, []byte("behindcontents")) {
		t.Error("custom sections were lost")
	}
}

// A second pass finds nothing to do in the program's own code, only the memory.fill of the first pass's helper: all sections are the same,
// byte for byte, except those that contain helpers and the size of the memory, and so is each function that is not a helper.
func TestRewriteMainTwice(t *testing.T) {
	once, err := RewriteMain(mainModule())
	if err != nil {
		t.Fatal(err)
	}
	twice, stats, err := rewriteMain(once, arrangeChecks)
	if err != nil || stats.fills != 1 {
		t.Fatalf("second pass: %d fills, %v, want the one of the helper", stats.fills, err)
	}
	before, after := mustSplit(t, once), mustSplit(t, twice)
	if len(before.list) != len(after.list) {
		t.Fatalf("%d sections became %d", len(before.list), len(after.list))
	}
	compared := 0
	for i, was := range before.list {
		if is := after.list[i]; slices.Contains([]byte{secType, secFunction, secMemory, secCode}, was.id) {
			continue
		} else if is.id != was.id || !bytes.Equal(is.body, was.body) {
			t.Errorf("section %d (id %d) became id %d, % x, was % x", i, was.id, is.id, is.body, was.body)
		}
		compared++
	}
	if compared < 8 {
		t.Errorf("only %d sections were compared", compared)
	}
	if was, is := originalBody(t, once, "run"), originalBody(t, twice, "run"); len(was) == 0 || !bytes.Equal(was, is) {
		t.Errorf("run became % x, was % x", is, was)
	}
	for _, s := range []*sections{before, after} {
		if !bytes.Contains(s.body(secImport), []byte("second")) || bytes.Contains(s.body(secImport), []byte("memory")) {
			t.Error("memory is still imported, or a function no more")
		}
	}
}

func mustSplit(t *testing.T, bin []byte) *sections {
	t.Helper()
	s, err := split(bin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRewriteMainKeepsADefinedMemory(t *testing.T) {
	bin := rawModule(rawSection{secMemory, vec([]byte{0, 2})})
	out, stats, err := rewriteMain(bin, arrangeChecks)
	if err != nil || stats.fills != 0 {
		t.Fatal(stats, err)
	}
	m := instantiate(t, newRuntime(t), out, "")
	if mem := m.ExportedMemory("memory"); mem == nil || mem.Size() != 3<<16 {
		t.Errorf("memory %v, want 2 pages and the guard exported", mem)
	}
}

func TestRewriteMainRefuses(t *testing.T) {
	memory := rawSection{secMemory, vec([]byte{0, 1})}
	funcs := []rawSection{{secType, vec(appendFuncType(nil, FuncType{}))}, {secFunction, vec([]byte{0})}, memory}
	for name, bin := range map[string][]byte{
		"no memory": rawModule(),
		"name taken": rawModule(memory, rawSection{secGlobal, vec([]byte{byte(I32), 1, opI32Const, 0, opEnd}, []byte{byte(I32), 0, opI32Const, 0, opEnd})},
			rawSection{secExport, vec(appendExport(nil, Export{GlobalExportPrefix + "0", KindGlobal, 1}))}),
		"memory's name taken": rawModule(memory, rawSection{secGlobal, vec([]byte{byte(I32), 0, opI32Const, 0, opEnd})},
			rawSection{secExport, vec(appendExport(nil, Export{"memory", KindGlobal, 0}))}),
		"bodies missing": rawModule(append(slices.Clone(funcs), rawSection{secCode, vec()})...),
		"body too long":  rawModule(append(slices.Clone(funcs), rawSection{secCode, vec([]byte{9, 0, opEnd})})...),
		"body too short": rawModule(append(slices.Clone(funcs), rawSection{secCode, vec([]byte{1, 0, opEnd})})...),
		"bad opcode":     rawModule(append(slices.Clone(funcs), rawSection{secCode, vec(body(0xff))})...),
	} {
		for _, rewrite := range []func([]byte) ([]byte, error){RewriteMain, RewriteUnchecked} {
			if _, err := rewrite(bin); !errors.Is(err, ErrFormat) {
				t.Errorf("%s: got %v, want %v", name, err, ErrFormat)
			}
		}
	}
}

func TestStripInit(t *testing.T) {
	bin, err := RewriteMain(mainModule())
	if err != nil {
		t.Fatal(err)
	}
	if bin, err = StripInit(bin); err != nil {
		t.Fatal(err)
	}
	rt := newRuntime(t)
	calls := hostEnv(t, rt)
	m := instantiate(t, rt, bin, "main")
	if len(*calls) != 0 {
		t.Errorf("the start function ran: %q", *calls)
	}
	if got := memoryOf(t, m); !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("memory was written")
	}
	if got := mustCall1(t, m, "run", 5); got != 7 {
		t.Errorf("run(5) = %d, want 7", got)
	}
	s, err := split(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []byte{secStart, secData, secDataCount} {
		if s.body(id) != nil {
			t.Errorf("the %s section is still there", sectionName(id))
		}
	}
}

// segmentModule has an active and a passive segment, and init(segment, dst, n) and drop() for the latter.
func segmentModule() []byte {
	initFunc := func(segment byte) []byte {
		return body(opLocalGet, 0, opI32Const, 0, opLocalGet, 1, opMisc, miscMemoryInit, segment, 0)
	}
	return rawModule(
		rawSection{secType, vec(appendFuncType(nil, FuncType{Params: []ValType{I32, I32}}), appendFuncType(nil, FuncType{}))},
		rawSection{secFunction, vec([]byte{0}, []byte{0}, []byte{1})},
		rawSection{secMemory, vec([]byte{0, 1})},
		rawSection{secExport, vec(
			appendExport(nil, Export{"active", KindFunc, 0}),
			appendExport(nil, Export{"passive", KindFunc, 1}),
			appendExport(nil, Export{"drop", KindFunc, 2}),
			appendExport(nil, Export{"memory", KindMemory, 0}),
		)},
		rawSection{secDataCount, []byte{2}},
		rawSection{secCode, vec(initFunc(0), initFunc(1), body(opMisc, miscDataDrop, 1))},
		rawSection{secData, vec(
			append([]byte{dataActive, opI32Const, 0, opEnd}, appendName(nil, "active")...),
			append([]byte{dataPassive}, appendName(nil, "passive")...),
		)},
	)
}

// Code that refers to segments behaves as specified for a module whose active segments were dropped at instantiation.
func TestStripInitKeepsReferredSegments(t *testing.T) {
	stripped, err := StripInit(segmentModule())
	if err != nil {
		t.Fatal(err)
	}
	m := instantiate(t, newRuntime(t), stripped, "")
	if got := memoryOf(t, m); !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("memory was written")
	}
	for _, step := range []struct {
		name  string
		args  []uint64
		traps bool
	}{
		{"active", []uint64{0, 0}, false}, {"active", []uint64{0, 1}, true},
		{"passive", []uint64{16, 7}, false}, {"passive", []uint64{16, 8}, true},
		{"drop", nil, false}, {"passive", []uint64{32, 1}, true},
	} {
		if _, err := call1(t, m, step.name, step.args...); (err != nil) != step.traps {
			t.Errorf("%s%v: %v, want a trap: %v", step.name, step.args, err, step.traps)
		}
	}
	if got, _ := m.Memory().Read(16, 7); string(got) != "passive" {
		t.Errorf("passive segment gave %q", got)
	}
}

// TestOutline: an outline declares what the module does, is valid, has no code, and belongs to that module alone.
func TestOutline(t *testing.T) {
	for name, bin := range map[string][]byte{"segments": segmentModule(), "a table grower": BuildTableGrower("m", "t"), "no code": BuildLink([]Global{{Name: "x"}})} {
		outline, err := Outline(bin)
		if err != nil {
			t.Fatal(err)
		}
		was, err := Parse(bin)
		if err != nil {
			t.Fatal(err)
		}
		is, err := Parse(outline)
		if err != nil {
			t.Fatal(err)
		}
		was.sections, is.sections = nil, nil
		if !reflect.DeepEqual(was, is) {
			t.Errorf("%s: %+v, want %+v", name, is, was)
		}
		if _, err := newRuntime(t).CompileModule(t.Context(), outline); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		other := append(bytes.Clone(bin), 0, 2, 1, 'x') // the same with one more section
		if !IsOutline(outline, bin) || IsOutline(outline, other) {
			t.Errorf("%s: it is not the module's alone", name)
		}
		if _, err := Outline(bin[:len(bin)-1]); !errors.Is(err, ErrFormat) && name != "no code" {
			t.Errorf("%s, cut off: %v", name, err)
		}
	}
}

// TestDataOnly: the reduced module has the same data segments.
func TestDataOnly(t *testing.T) {
	bin := segmentModule()
	data, err := DataOnly(bin)
	if err != nil || len(data) >= len(bin) {
		t.Fatal(len(data), err)
	}
	segments := func(bin []byte) []Segment {
		m, err := Parse(bin)
		if err != nil {
			t.Fatal(err)
		}
		all, err := m.DataSegments()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got, want := segments(data), segments(bin); len(want) == 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestStripInitRefuses(t *testing.T) {
	for name, bin := range map[string][]byte{
		"text":         []byte("text"),
		"segment mode": rawModule(rawSection{secType, vec(appendFuncType(nil, FuncType{}))}, rawSection{secFunction, vec([]byte{0})}, rawSection{secCode, vec(body(opMisc, miscDataDrop, 0))}, rawSection{secData, vec([]byte{3, 0})}),
		"code":         rawModule(rawSection{secCode, vec(body(0xff))}),
	} {
		if _, err := StripInit(bin); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v, want %v", name, err, ErrFormat)
		}
	}
}

func TestRenameImports(t *testing.T) {
	out, err := RenameImports(sideModule(), func(i Import) (string, string) {
		if i.Kind == KindFunc {
			return "a much longer module name", i.Name + i.Func.Results[0].String()
		}
		return "m", ""
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := Parse(sideModule())
	if err != nil {
		t.Fatal(err)
	}
	after, err := Parse(out)
	if err != nil {
		t.Fatal(err)
	}
	for i, imp := range after.Imports {
		want := before.Imports[i]
		want.Module, want.Name = "m", ""
		if imp.Kind == KindFunc {
			want.Module, want.Name = "a much longer module name", "ff64"
		}
		if !slices.Equal(imp.Func.Params, want.Func.Params) || imp.Module != want.Module || imp.Name != want.Name ||
			imp.Kind != want.Kind || imp.Limits != want.Limits || imp.Type != want.Type || imp.Mutable != want.Mutable {
			t.Errorf("import %d: %+v, want %+v", i, imp, want)
		}
	}
	same := func(Import) (string, string) { return "", "" }
	if out, err := RenameImports(rawModule(), same); err != nil || !bytes.Equal(out, rawModule()) {
		t.Errorf("module without imports: % x, %v", out, err)
	}
	if _, err := RenameImports(nil, same); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v, want %v", err, ErrFormat)
	}
}

// FuzzModule: no bytes cause a panic, and the output can be read again.
func FuzzModule(f *testing.F) {
	for _, seed := range [][]byte{mainModule(), sideModule(), segmentModule(), fillModule(1, 2), BuildTableGrower("m", "t")} {
		f.Add(seed)
	}
	for seed := range uint64(4) {
		f.Add(oneFunction(2, randomFunction(rand.New(rand.NewPCG(seed, 1)))))
	}
	f.Fuzz(func(t *testing.T, bin []byte) {
		m, err := Parse(bin)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("%v does not match ErrFormat", err)
			}
			return
		}
		m.ElemFuncs()
		m.Consts()
		_, _ = m.DataSegments()
		rewrites := []func([]byte) ([]byte, error){RewriteMain, RewriteUnchecked, ArrangeBranches, StripInit, Mark, func(b []byte) ([]byte, error) {
			return RenameImports(b, func(i Import) (string, string) { return i.Name, i.Module })
		}}
		for i, rewrite := range rewrites {
			out, err := rewrite(bin)
			if err != nil {
				continue
			}
			if _, err := Parse(out); err != nil {
				t.Errorf("rewrite %d gives a module that cannot be read: %v", i, err)
			}
		}
	})
}
