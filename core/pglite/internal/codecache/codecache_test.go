package codecache

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/pglite/internal/wasmbin"
)

// module exports two functions, sum and double.
func module() []byte {
	return []byte{
		0, 'a', 's', 'm', 1, 0, 0, 0,
		1, 12, 2, 0x60, 2, 0x7f, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 1, 0x7f,
		3, 3, 2, 0, 1,
		7, 16, 2, 3, 's', 'u', 'm', 0, 0, 6, 'd', 'o', 'u', 'b', 'l', 'e', 0, 1,
		10, 17, 2, 7, 0, 0x20, 0, 0x20, 1, 0x6a, 0x0b, 7, 0, 0x20, 0, 0x20, 0, 0x6a, 0x0b,
	}
}

// process is a runtime with a cache, as a process has.
type process struct {
	runtime wazero.Runtime
	files   *Files
}

func open(t *testing.T, dir string) *process {
	t.Helper()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{}
	if p.files, err = Stand(cache); err != nil {
		t.Fatal(err)
	}
	p.runtime = wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	t.Cleanup(func() {
		if err := errors.Join(p.runtime.Close(context.Background()), cache.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return p
}

// borrow loads the outline as a process of its own, and runs it.
func borrow(t *testing.T, dir string, outline []byte, loans ...Loan) (Key, error) {
	t.Helper()
	p := open(t, dir)
	var compiled wazero.CompiledModule
	key, err := p.files.Lend(loans, func() (err error) {
		compiled, err = p.runtime.CompileModule(t.Context(), outline)
		return err
	})
	if err != nil {
		return key, err
	}
	if err := DescribeFunctions(compiled); err != nil {
		t.Error(err)
	}
	mod, err := p.runtime.InstantiateModule(t.Context(), compiled, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]uint64{"sum": {3, 4}, "double": {21}} {
		got, err := mod.ExportedFunction(name).Call(t.Context(), args...)
		if want := map[string]uint64{"sum": 7, "double": 42}[name]; err != nil || got[0] != want {
			t.Errorf("%s%v = %v, %v", name, args, got, err)
		}
	}
	return key, nil
}

// compiled makes a folder with the module's entry, and returns it with the loan for the outline, and the outline.
func compiled(t *testing.T) (dir string, l Loan, outline []byte) {
	t.Helper()
	dir = t.TempDir()
	p := open(t, dir)
	if _, err := p.runtime.CompileModule(t.Context(), module()); err != nil {
		t.Fatal(err)
	}
	last := p.files.Last()
	paths, err := filepath.Glob(filepath.Join(dir, "wazero-*", hex.EncodeToString(last[:])))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	l.Path = paths[0]
	if l.Entry, err = Describe(l.Path); err != nil {
		t.Fatal(err)
	}
	if outline, err = wasmbin.Outline(module()); err != nil {
		t.Fatal(err)
	}
	if l.Key, err = borrow(t, dir, outline, l); err != nil || l.Key == (Key{}) || l.Functions != 2 {
		t.Fatal(l, err)
	}
	return dir, l, outline
}

// only fails if a folder holds anything but one entry, unchanged.
func only(t *testing.T, l Loan, what string, want []byte) {
	t.Helper()
	names, err := os.ReadDir(filepath.Dir(l.Path))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v, %v: something was compiled", what, names, err)
	}
	if got, err := os.ReadFile(l.Path); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: the entry was touched: %v", what, err)
	}
}

// TestLend: an outline runs the module's code, in any process.
func TestLend(t *testing.T) {
	dir, l, outline := compiled(t)
	other := l
	other.Key[0] ^= 1
	other.Path = "another processor's"
	for _, loans := range [][]Loan{{l}, {other, l}} {
		if key, err := borrow(t, dir, outline, loans...); err != nil || key != l.Key {
			t.Errorf("%x, %v", key, err)
		}
	}
}

// TestNeverCompiled: whatever is wrong with an entry or a loan, the outline is refused, not compiled, and the folder does not change.
func TestNeverCompiled(t *testing.T) {
	dir, l, outline := compiled(t)
	whole, err := os.ReadFile(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, b []byte, match error, loans ...Loan) {
		t.Helper()
		if err := os.WriteFile(l.Path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := borrow(t, dir, outline, loans...)
		if err == nil || match != nil && !errors.Is(err, match) {
			t.Errorf("%s: %v", what, err)
		}
		only(t, l, what, b)
	}
	for keep := range whole {
		refuse("cut off", whole[:keep], ErrRefused, l)
	}
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		refuse("a bit flipped", b, nil, l) // wazero itself sees what is wrong with the code
	}
	refuse("a byte more", append(bytes.Clone(whole), 0), ErrRefused, l)
	refuse("no loan", whole, ErrRefused)
	cpu := l
	cpu.Key[31] ^= 1
	refuse("of another processor", whole, ErrRefused, cpu)
	version := bytes.Clone(whole)
	copy(version[7:], "9.9")
	refuse("another version where this one's is noted", version, ErrRefused, l)
	noted := l
	if err := os.WriteFile(l.Path, version, 0o600); err != nil {
		t.Fatal(err)
	}
	if noted.Entry, err = Describe(l.Path); err != nil {
		t.Fatal(err)
	}
	refuse("another version, and noted so", version, ErrRefused, noted)
	huge := bytes.Clone(whole)
	copy(huge[len(magic)+1+int(whole[len(magic)]):], "\xff\xff\xff\xff")
	refuse("four thousand million functions", huge, ErrRefused, l)
	if err := os.Remove(l.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := borrow(t, dir, outline, l); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
}

// TestNotAsked: wazero does not ask for a module that it has already compiled, and a loan is not for two.
func TestNotAsked(t *testing.T) {
	dir, l, outline := compiled(t)
	p := open(t, dir)
	if _, err := p.files.Lend([]Loan{l}, func() error { return nil }); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	_, err := p.files.Lend([]Loan{l}, func() error {
		_, err := p.files.Lend([]Loan{l}, func() error { return nil })
		return err
	})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "being lent") {
		t.Error(err)
	}
	if _, err := p.runtime.CompileModule(t.Context(), outline); err != nil { // without a loan it is a module like any other
		t.Error(err)
	}
}

// TestStandRefuses: anything other than wazero's cache as in version 1.12 is an error, and does not panic.
func TestStandRefuses(t *testing.T) {
	type other struct{ wazero.CompilationCache }
	if _, err := Stand(&other{}); err == nil {
		t.Error("a cache without a place for files was taken")
	}
	type another struct {
		wazero.CompilationCache
		fileCache int
	}
	if _, err := Stand(&another{fileCache: 1}); err == nil {
		t.Error("a number was taken for files")
	}
	if err := DescribeFunctions(nil); err == nil {
		t.Error("nothing was taken for a module")
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add([]byte("WAZEVO\x031.0\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x90sum!"))
	f.Add([]byte("WAZEVO"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "entry")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := Describe(path); err == nil && (e.Size != int64(len(b)) || int64(e.Functions)*8 > e.Size) {
			t.Errorf("%+v of %d bytes", e, len(b))
		}
	})
}
