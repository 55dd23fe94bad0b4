package postlink

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/pglite/internal/assets"
	"blobpglite/core/pglite/internal/lean"
	"blobpglite/core/pglite/internal/wasmbin"
)

// compiled returns wazero's compilation of a module, from its cache.
func compiled(t testing.TB, bin []byte) *unit {
	t.Helper()
	dir, ctx := t.TempDir(), t.Context()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	if err := lean.Compile(func() error {
		_, err := rt.CompileModule(ctx, bin)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := rt.Close(ctx); err != nil {
		t.Fatal(err)
	}
	var entry []byte
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			entry, err = os.ReadFile(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return unitOf(entry)
}

// unitOf reads an entry: a magic word, a version with its length, the number of functions, where each begins, the code's size, the code.
func unitOf(entry []byte) *unit {
	at := 7 + int(entry[6])
	n := int(binary.LittleEndian.Uint32(entry[at:]))
	u, at := &unit{}, at+4
	for range n {
		u.begins = append(u.begins, binary.LittleEndian.Uint64(entry[at:]))
		at += 8
	}
	size := int(binary.LittleEndian.Uint64(entry[at:]))
	u.code = entry[at+8:][:size]
	return u
}

// TestProgramsAreTheSame: in the programs that contain PostgreSQL every function is understood, and afterwards does the same as before,
// along every path through it, as another decoder reads both.
func TestProgramsAreTheSame(t *testing.T) {
	set, err := assets.Ensure(t.Context(), assets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, every := range map[string]int{set.InitdbWasm(): 1, set.PGliteWasm(): 5} { // all of them take twenty seconds
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			bin, err := set.Original(name)
			if err == nil {
				bin, err = wasmbin.RewriteUnchecked(bin)
			}
			if err == nil {
				bin, err = wasmbin.Mark(bin)
			}
			if err != nil {
				t.Fatal(err)
			}
			old := compiled(t, bin)
			compareUnits(t, old, old.rearranged(t), every)
		})
	}
}
