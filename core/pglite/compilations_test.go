package pglite

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/pglite/internal/codecache"
	"blobpglite/core/pglite/internal/wasmbin"
)

// smallCache is a cache in a folder, as one process sees it.
type smallCache struct {
	*compilations
	steps []string
	lock  sync.Mutex // between the processes; the system's lock is tested elsewhere
}

func openCache(t *testing.T, dir string) *smallCache {
	t.Helper()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err == nil {
		err = makeSums(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := codecache.Stand(cache)
	if err != nil {
		t.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	t.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := cache.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	c := &smallCache{}
	c.compilations = &compilations{
		dir: dir, files: files, runtime: rt, progress: func(step string, _, _ int64) { c.steps = append(c.steps, step) },
		lock: func(context.Context, string, string) (func() error, error) {
			c.lock.Lock()
			return func() error { c.lock.Unlock(); return nil }, nil
		},
	}
	return c
}

// use compiles or loads a module as a process of its own, and returns whether it was compiled and what was reported.
func use(t *testing.T, dir string, bin []byte) (fresh bool, told string) {
	t.Helper()
	c := openCache(t, dir)
	compiled, fresh, err := c.compile(t.Context(), "it", bin)
	if err != nil {
		t.Fatalf("compile: %v (%q)", err, c.steps)
	}
	mod, err := c.runtime.InstantiateModule(t.Context(), compiled, wazero.NewModuleConfig())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := mod.ExportedFunction("grow").Call(t.Context(), 0); err != nil || got[0] != 0 {
		t.Fatalf("it runs otherwise: %v, %v", got, err)
	}
	return fresh, strings.Join(c.steps, "; ")
}

// smallModule needs no imports: it has its own table.
func smallModule() []byte {
	// (table 0 funcref) (func (export "grow") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
	return []byte{
		0, 'a', 's', 'm', 1, 0, 0, 0,
		1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f,
		3, 2, 1, 0,
		4, 4, 1, 0x70, 0, 0,
		7, 8, 1, 4, 'g', 'r', 'o', 'w', 0, 0,
		10, 11, 1, 9, 0, 0xd0, 0x70, 0x20, 0, 0xfc, 15, 0, 0x0b,
	}
}

// entryOf returns the paths of a cache's only entry and of its sums.
func entryOf(t *testing.T, dir string) (entry, sums string) {
	t.Helper()
	find := func(pattern string) string {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("%s: %q, %v", pattern, paths, err)
		}
		return paths[0]
	}
	return find("wazero-*/*"), find("sums/*")
}

func put(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFolderOfOneVersion: a folder holds the compilations of one version of wazero, because a module's entries have the same name in each
// version, and a sum or a loan would be taken for another version's. Programs and tests that share a cache are of different versions.
func TestFolderOfOneVersion(t *testing.T) {
	c := testRuntime(t).compilations
	folders, err := filepath.Glob(filepath.Join(c.dir, "wazero-*"))
	if err != nil || len(folders) != 1 || !strings.HasPrefix(filepath.Base(folders[0]), "wazero-"+codecache.Version()+"-") {
		t.Errorf("%q, %v; this is %s", folders, err, codecache.Version())
	}
}

// TestCodeIsArranged: PostgreSQL's code in the cache is arranged if it is without checks, and otherwise as wazero wrote it.
func TestCodeIsArranged(t *testing.T) {
	rt := testRuntime(t)
	var code []byte
	each(t, rt.compilations.dir, strings.Repeat("[0-9a-f]", entryDigits), func(name string) {
		if code == nil { // the largest
			code = read(t, name)
		}
	})
	// push rbp, mov rbp, rsp, sub rsp, size: how functions begin, with sizes of 8 and of 32 bits
	begins := bytes.Count(code, []byte("\x55\x48\x89\xe5\x48\x83\xec")) + bytes.Count(code, []byte("\x55\x48\x89\xe5\x48\x81\xec"))
	if got := begins == 0; runtime.GOARCH == "amd64" && got != rt.unchecked() || len(code) < 1<<20 {
		t.Errorf("%d functions of %d bytes of code begin as wazero has them begin; checked: %v", begins, len(code), rt.Checked())
	}
	if rt.compilations.files.Arrange != rt.unchecked() {
		t.Error("what is compiled next will not be")
	}
}

// An entry that only another module's sums name, because its own process ended before it wrote any, is found to be damaged too.
func TestDamagedCompilationOfAnothersSums(t *testing.T) {
	dir, bin := t.TempDir(), smallModule()
	use(t, dir, bin)
	entry, sums := entryOf(t, dir)
	if err := os.Rename(sums, filepath.Join(filepath.Dir(sums), strings.Repeat("0", entryDigits))); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(entry, 20); err != nil {
		t.Fatal(err)
	}
	if fresh, told := use(t, dir, bin); !fresh || told != "compiling it; compiling again it" {
		t.Errorf("compiled %v, %q", fresh, told)
	}
	if fresh, told := use(t, dir, bin); fresh || told != "loading it" {
		t.Errorf("the next time: compiled %v, %q", fresh, told)
	}
}

// TestDamagedCompilation: an entry or a sum that is truncated anywhere, has any bit flipped, is empty, belongs to another module, or is
// missing, is made again once, and the next process loads it.
func TestDamagedCompilation(t *testing.T) {
	dir, bin := t.TempDir(), smallModule()
	if fresh, told := use(t, dir, bin); !fresh || told != "compiling it" {
		t.Fatalf("the first time: compiled %v, %q", fresh, told)
	}
	if fresh, told := use(t, dir, bin); fresh || told != "loading it" {
		t.Fatalf("the second time: compiled %v, %q", fresh, told)
	}
	entry, sums := entryOf(t, dir)
	whole, sum := read(t, entry), read(t, sums)
	t.Logf("an entry of %d bytes", len(whole))
	mend := func(what string, loud bool) {
		t.Helper()
		fresh, told := use(t, dir, bin)
		if !fresh || strings.Contains(told, "deleted and made again") != loud || !strings.HasSuffix(told, "compiling it") {
			t.Errorf("%s: compiled %v, %q", what, fresh, told)
		}
		if fresh, told := use(t, dir, bin); fresh || told != "loading it" {
			t.Errorf("%s, the next time: compiled %v, %q", what, fresh, told)
		}
		if again := read(t, entry); !bytes.Equal(again, whole) {
			t.Errorf("%s: the new entry is another", what)
		}
	}
	for keep := range whole { // truncated anywhere, and empty
		put(t, entry, whole[:keep])
		mend("cut off", true)
	}
	for at := range whole { // header, function offsets, code, sums, source map
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		put(t, entry, b)
		mend("a bit flipped", true)
	}
	version := bytes.Clone(whole)
	copy(version[7:], "9.9")
	put(t, entry, version)
	mend("another version", true)
	put(t, entry, append(bytes.Clone(whole), 0))
	mend("a byte more", true)
	for keep := range len(sum) - 1 { // the last newline may be missing
		put(t, sums, sum[:keep])
		mend("a sum cut off", true)
	}
	put(t, sums, bytes.Repeat([]byte("x"), maxSums+1))
	mend("a sum that is none", true)
	put(t, sums, []byte("../../x 1 00000000\n"))
	mend("a sum of something outside", true)
	for _, gone := range []string{entry, sums} { // a crash between the two
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		mend("gone: "+filepath.Base(gone), false)
	}
	if err := os.Remove(sums); err != nil {
		t.Fatal(err)
	}
	put(t, entry, whole[:40])
	mend("damaged, without a sum", false)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEntryOfAnother: an entry that holds another module's code is not run.
func TestEntryOfAnother(t *testing.T) {
	dir, other, bin := t.TempDir(), t.TempDir(), smallModule()
	use(t, dir, bin)
	c := openCache(t, other)
	if _, _, err := c.compile(t.Context(), "another", wasmbin.BuildLink([]wasmbin.Global{{Name: "x"}})); err != nil {
		t.Fatal(err)
	}
	entry, _ := entryOf(t, dir)
	strange, _ := entryOf(t, other)
	put(t, entry, read(t, strange))
	if fresh, told := use(t, dir, bin); !fresh || !strings.Contains(told, "deleted and made again") {
		t.Errorf("compiled %v, %q", fresh, told)
	}
}

// TestCompilationsShared: processes that find the same damage concurrently all get a module, and leave an intact entry.
func TestCompilationsShared(t *testing.T) {
	dir, bin := t.TempDir(), smallModule()
	use(t, dir, bin)
	entry, _ := entryOf(t, dir)
	whole := read(t, entry)
	var lock sync.Mutex // between the processes
	for round := range 20 {
		put(t, entry, whole[:round*7%len(whole)])
		var all sync.WaitGroup
		var compiled [4]bool
		for i := range compiled {
			c := openCache(t, dir)
			c.compilations.lock = func(context.Context, string, string) (func() error, error) {
				lock.Lock()
				return func() error { lock.Unlock(); return nil }, nil
			}
			all.Go(func() {
				_, fresh, err := c.compile(t.Context(), "it", bin)
				if err != nil {
					t.Error(err)
				}
				compiled[i] = fresh
			})
		}
		all.Wait()
		times := 0
		for _, fresh := range compiled {
			if fresh {
				times++
			}
		}
		if times != 1 {
			t.Errorf("compiled by %d of %d processes", times, len(compiled))
		}
		if fresh, told := use(t, dir, bin); fresh {
			t.Errorf("afterwards: %q", told)
		}
	}
}

// TestReadOnlyCache: if a folder cannot be written, or is gone, existing entries are loaded, and missing ones are compiled for this process
// alone.
func TestReadOnlyCache(t *testing.T) {
	for _, why := range []error{syscall.EROFS, syscall.EACCES, syscall.ENOENT} {
		dir := t.TempDir()
		use(t, dir, smallModule())
		before := listing(t, dir)
		c := openCache(t, dir)
		c.compilations.lock = func(context.Context, string, string) (func() error, error) {
			return nil, &os.PathError{Op: "open", Path: dir, Err: why}
		}
		if _, fresh, err := c.compile(t.Context(), "it", smallModule()); err != nil || fresh {
			t.Errorf("%v, what is there: compiled %v, %v", why, fresh, err)
		}
		other := wasmbin.BuildLink([]wasmbin.Global{{Name: "x"}})
		if _, fresh, err := c.compile(t.Context(), "another", other); err != nil || !fresh || !strings.Contains(strings.Join(c.steps, "; "), "compiling another, which cannot be kept: open "+dir) {
			t.Errorf("%v, what is not: compiled %v, %v, %q", why, fresh, err, c.steps)
		}
		if after := listing(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%v: the folder was %v and is %v", why, before, after)
		}
	}
}
