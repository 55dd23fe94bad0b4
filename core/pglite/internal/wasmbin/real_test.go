package wasmbin

import (
	"bytes"
	"os"
	"path"
	"reflect"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/pglite/internal/assets"
)

func realSet(tb testing.TB) *assets.Set {
	tb.Helper()
	set, err := assets.Ensure(tb.Context(), assets.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func readReal(tb testing.TB, path string) []byte {
	tb.Helper()
	bin, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

// The modules of PGlite 0.5.16. The numbers change with the version.
func TestRealMainModules(t *testing.T) {
	set := realSet(t)
	for _, tc := range []struct {
		path    string
		stats   rewriteStats
		exports int // added: the memory and the unexported mutable globals
		slots   int
	}{
		{set.PGliteWasm(), rewriteStats{603, 1669, 12, 1, 1, mendStats{756, 71}, branchStats{}, checkStats{374195, 32700, 62875, 49935, 36617, 0}}, 4, 6483},
		{set.InitdbWasm(), rewriteStats{17, 75, 1, 1, 0, mendStats{3, 1}, branchStats{}, checkStats{10337, 790, 2043, 2161, 1018, 0}}, 1, 122},
	} {
		original := readReal(t, tc.path)
		began := time.Now()
		bin, stats, err := rewriteMain(original, arrangeChecks)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: rewritten in %v", path.Base(tc.path), time.Since(began))
		if stats != tc.stats {
			t.Errorf("rewritten: %+v, want %+v", stats, tc.stats)
		}
		m, err := Parse(bin)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(m.ElemFuncs()); got != tc.slots {
			t.Errorf("%d functions in the table, want %d", got, tc.slots)
		}
		if got := len(m.Exports) - len(mustParse(t, original).Exports); got != tc.exports {
			t.Errorf("%d exports were added, want %d", got, tc.exports)
		}
		hosted, _, _, err := rewriteHosted(original, arrangeChecks)
		if err != nil {
			t.Fatal(err)
		}
		compareCode(t, original, hosted)
		if again, left, err := mend(bin); err != nil || left != (mendStats{}) || len(again) != len(bin) {
			t.Errorf("%+v are left to be mended (%v)", left, err)
		}
		stripped, err := StripInit(bin)
		if err != nil {
			t.Fatal(err)
		}
		// The interpreter validates like the compiler, in a seventh of the time.
		rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
		if _, err := rt.CompileModule(t.Context(), stripped); err != nil {
			t.Errorf("%s is not valid any more: %v", tc.path, err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// The same modules, rewritten for code without bounds checks and marked: their code is unchanged except for what Mend and the host need and
// for how branches are arranged, and each function begins with the mark.
func TestRealUncheckedModules(t *testing.T) {
	set := realSet(t)
	for _, tc := range []struct {
		path  string
		stats rewriteStats
	}{
		{set.PGliteWasm(), rewriteStats{603, 1669, 12, 1, 1, mendStats{756, 71}, branchStats{15846, 27734, 1869}, checkStats{}}},
		{set.InitdbWasm(), rewriteStats{17, 75, 1, 1, 0, mendStats{3, 1}, branchStats{644, 874, 46}, checkStats{}}},
	} {
		original := readReal(t, tc.path)
		bin, stats, err := rewriteMain(original, leaveChecks)
		if err != nil {
			t.Fatal(err)
		}
		if stats != tc.stats {
			t.Errorf("rewritten: %+v, want %+v", stats, tc.stats)
		}
		hosted, _, _, err := rewriteHosted(original, leaveChecks)
		if err != nil {
			t.Fatal(err)
		}
		compareCode(t, original, hosted)
		mended, _, err := mend(hosted)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(undoBranches(t, bin), undoBranches(t, mended)) {
			t.Errorf("%s: with its branches as they were it is something else", tc.path)
		}
		checked, err := RewriteMain(original)
		if err != nil {
			t.Fatal(err)
		}
		stripped, err := StripInit(bin)
		if err != nil {
			t.Fatal(err)
		}
		marked, err := Mark(stripped)
		if err != nil {
			t.Fatal(err)
		}
		m, want := mustParse(t, marked), mustParse(t, checked)
		if !reflect.DeepEqual(m.Exports, want.Exports) || !reflect.DeepEqual(m.Globals, want.Globals) || !reflect.DeepEqual(m.Imports, want.Imports) ||
			!reflect.DeepEqual(m.Funcs, want.Funcs) || !reflect.DeepEqual(m.Elems, want.Elems) || m.Memory() != want.Memory() {
			t.Errorf("%s: it declares something else than it does with checks", tc.path)
		}
		functions := len(m.Funcs) - m.imported[KindFunc]
		if got := bytes.Count(m.sections.body(secCode), localMark); got != functions {
			t.Errorf("%d marks for %d functions", got, functions)
		}
		t.Logf("%s: %d functions", path.Base(tc.path), functions)
		rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
		if _, err := rt.CompileModule(t.Context(), marked); err != nil {
			t.Errorf("%s is not valid any more: %v", tc.path, err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func mustParse(t *testing.T, bin []byte) *Module {
	t.Helper()
	m, err := Parse(bin)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// bodyOf returns the instructions of the next body and the number of its locals without the parameters.
func bodyOf(t *testing.T, r *reader) (all []instr, locals uint32) {
	t.Helper()
	body := r.sub(r.u32("body size"), "body")
	decls := *body
	for range decls.count(maxVectorLen, "local declarations") {
		locals += decls.u32("number of locals")
		decls.valType("local type")
	}
	body.walkBody(func(in instr) { all = append(all, in) })
	if body.err != nil {
		t.Fatal(body.err)
	}
	return all, locals
}

// Each side module of the installation and of the extensions can be linked.
func TestRealSideModules(t *testing.T) {
	set := realSet(t)
	files, err := set.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range set.Extensions() {
		more, err := set.ExtensionFiles(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	sides := 0
	for _, f := range files {
		if path.Ext(f.Path) != ".so" {
			continue
		}
		sides++
		m := mustParse(t, f.Data)
		if m.Dylink == nil || m.Dylink.MemorySize == 0 {
			t.Errorf("%s: dylink %+v", f.Path, m.Dylink)
			continue
		}
		for fn, slot := range m.ElemFuncs() {
			if slot >= m.Dylink.TableSize {
				t.Errorf("%s: function %d in slot %d of %d", f.Path, fn, slot, m.Dylink.TableSize)
			}
		}
		for name, offset := range m.Consts() {
			if uint32(offset) > m.Dylink.MemorySize {
				t.Errorf("%s: %s at %d of %d bytes", f.Path, name, offset, m.Dylink.MemorySize)
			}
		}
		same, err := RenameImports(f.Data, func(i Import) (string, string) { return i.Module, i.Name })
		if err != nil || !reflect.DeepEqual(mustParse(t, same).Imports, m.Imports) {
			t.Errorf("%s: imports changed, %v", f.Path, err)
		}
		stripped, err := StripInit(f.Data)
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		marked, err := Mark(stripped)
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		functions := len(m.Funcs) - m.imported[KindFunc]
		if got := bytes.Count(marked, importedMark); got != functions || len(marked) < len(stripped)+functions*len(importedMark) {
			t.Errorf("%s: %d marks for %d functions", f.Path, got, functions)
		}
		mustParse(t, marked)
	}
	if sides < 60 {
		t.Errorf("only %d side modules were found", sides)
	}
	t.Logf("%d side modules", sides)
}

func BenchmarkRewriteMain(b *testing.B) {
	bin := readReal(b, realSet(b).PGliteWasm())
	for b.Loop() {
		if _, err := RewriteMain(bin); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	bin := readReal(b, realSet(b).PGliteWasm())
	for b.Loop() {
		if _, err := Parse(bin); err != nil {
			b.Fatal(err)
		}
	}
}
