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
		fills   int
		exports int // added: the memory and the mutable globals without a name
		slots   int
	}{
		{set.PGliteWasm(), 603, 4, 6483},
		{set.InitdbWasm(), 17, 1, 122},
	} {
		original := readReal(t, tc.path)
		began := time.Now()
		bin, fills, err := rewriteMain(original)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: rewritten in %v", path.Base(tc.path), time.Since(began))
		if fills != tc.fills {
			t.Errorf("%d fills, want %d", fills, tc.fills)
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
		compareCode(t, original, bin)
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

func mustParse(t *testing.T, bin []byte) *Module {
	t.Helper()
	m, err := Parse(bin)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// compareCode checks that two modules differ in nothing but memory.fill against
// calls of the last function, which the second has more.
func compareCode(t *testing.T, before, after []byte) {
	t.Helper()
	old, now := mustParse(t, before), mustParse(t, after)
	helper := uint32(len(old.Funcs))
	call := appendU32([]byte{opCall}, helper)
	if !reflect.DeepEqual(now.Funcs[:helper], old.Funcs) || len(now.Funcs) != int(helper)+1 {
		t.Fatal("functions moved")
	}
	oldCode, _ := old.sections.reader(secCode)
	nowCode, _ := now.sections.reader(secCode)
	n := oldCode.count(maxVectorLen, "bodies")
	if nowCode.count(maxVectorLen, "bodies") != n+1 {
		t.Fatal("not one function more")
	}
	for i := range n {
		a, b := bodyOf(t, oldCode), bodyOf(t, nowCode)
		if len(a) != len(b) {
			t.Fatalf("function %d: %d instructions became %d", i, len(a), len(b))
		}
		for j, in := range a {
			want := before[in.start:in.end]
			if in.op == opMisc && in.misc == miscMemoryFill {
				want = call
			}
			if got := after[b[j].start:b[j].end]; !bytes.Equal(got, want) {
				t.Fatalf("function %d, instruction %d: % x became % x, want % x", i, j, before[in.start:in.end], got, want)
			}
		}
	}
}

func bodyOf(t *testing.T, r *reader) []instr {
	t.Helper()
	body := r.sub(r.u32("body size"), "body")
	var all []instr
	body.walkBody(func(in instr) { all = append(all, in) })
	if body.err != nil {
		t.Fatal(body.err)
	}
	return all
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
		mustParse(t, stripped)
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
