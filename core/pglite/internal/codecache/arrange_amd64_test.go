package codecache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/pglite/internal/postlink"
)

// branching exports abs, which has a branch.
func branching() []byte {
	return []byte{
		0, 'a', 's', 'm', 1, 0, 0, 0,
		1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f,
		3, 2, 1, 0,
		7, 7, 1, 3, 'a', 'b', 's', 0, 0,
		10, 20, 1, 18, 0, 0x20, 0, 0x41, 0, 0x48, 0x04, 0x7f, 0x41, 0, 0x20, 0, 0x6b, 0x05, 0x20, 0, 0x0b, 0x0b,
	}
}

// entryOf compiles a module as a process of its own, and returns the resulting entry.
func entryOf(t testing.TB, dir string, arrange bool) []byte {
	t.Helper()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Stand(cache)
	if err != nil {
		t.Fatal(err)
	}
	files.Arrange = arrange
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	_, err = rt.CompileModule(t.Context(), branching())
	if err = errors.Join(err, rt.Close(t.Context()), cache.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	entry, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// TestArrange: compiled code is written arranged, if requested, and runs in the next process.
func TestArrange(t *testing.T) {
	dir := t.TempDir()
	plain, entry := entryOf(t, t.TempDir(), false), entryOf(t, dir, true)
	want, err := arranged(plain)
	if err != nil || !bytes.Equal(entry, want) || bytes.Equal(entry, plain) {
		t.Fatalf("%d bytes, %d when it was not arranged; %v", len(entry), len(plain), err)
	}
	p := open(t, dir)
	compiled, err := p.runtime.CompileModule(t.Context(), branching())
	if err != nil {
		t.Fatal(err)
	}
	mod, err := p.runtime.InstantiateModule(t.Context(), compiled, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	for of, want := range map[int32]uint64{5: 5, -7: 7, 0: 0} {
		if got, err := mod.ExportedFunction("abs").Call(t.Context(), uint64(uint32(of))); err != nil || got[0] != want {
			t.Errorf("abs(%d) = %d, %v", of, got, err)
		}
	}
	if again := entryOf(t, dir, true); !bytes.Equal(again, entry) { // read, not compiled
		t.Error("the entry has changed")
	}
}

// TestNotArranged: an entry that is not understood stays as it is.
func TestNotArranged(t *testing.T) {
	plain := entryOf(t, t.TempDir(), false)
	before, _, size, err := head(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	edited := func(edit func(b []byte) []byte) []byte { return edit(bytes.Clone(plain)) }
	for name, c := range map[string]struct {
		entry []byte
		want  error
	}{
		"cut off in its head":    {plain[:20], ErrRefused},
		"cut off in its code":    {plain[:len(before)+10], ErrRefused},
		"cut off after its code": {plain[:len(before)+int(size)+3], ErrRefused},
		"no entry":               {[]byte("something else"), ErrRefused},
		"a size that is too large": {edited(func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b[len(before)-8:], 1<<63+100)
			return b
		}), ErrRefused},
		"places in the source": {edited(func(b []byte) []byte {
			b[len(before)+int(size)+4] = 1
			return b
		}), postlink.ErrUnknown},
		"an instruction that is not known": {edited(func(b []byte) []byte {
			b[len(before)] = 0xc5
			return b
		}), postlink.ErrUnknown},
		"a function that begins elsewhere": {edited(func(b []byte) []byte {
			b[len(before)-16]++
			return b
		}), postlink.ErrUnknown},
	} {
		got, err := arranged(c.entry)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
			continue
		}
		f := &Files{Arrange: true, behind: &folder{}}
		if err := f.Add(Key{}, bytes.NewReader(c.entry)); err != nil || !bytes.Equal(f.behind.(*folder).added, c.entry) {
			t.Errorf("%s: it was written otherwise, %v", name, err)
		}
	}
}

// folder keeps what is added.
type folder struct {
	store
	added []byte
}

func (f *folder) Add(_ Key, content io.Reader) (err error) {
	f.added, err = io.ReadAll(content)
	return err
}
