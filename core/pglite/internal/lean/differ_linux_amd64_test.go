package lean

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"

	"blobpglite/core/pglite/internal/codecache"
	"blobpglite/core/pglite/internal/wasmbin"
)

const page = 64 << 10

// sparse is a guarded memory backed by a file, so that the touched parts of 4 GiB can be found.
type sparse struct {
	all, b []byte
	file   *os.File
}

func newSparse(t testing.TB, seed uint64, size int) *sparse {
	t.Helper()
	fd, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	s := &sparse{file: os.NewFile(uintptr(fd), "memory")}
	if err := s.file.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	if s.all, err = unix.Mmap(-1, 0, GuardBefore+Reach, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE); err != nil {
		t.Fatal(err)
	}
	s.b = s.all[GuardBefore:][:size:size]
	if _, err := unix.MmapPtr(fd, 0, ptr(s.b), uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 15))
	for i := range min(4*page, size) {
		s.b[i] = byte(rng.Uint32())
	}
	return s
}

func (s *sparse) Reallocate(size uint64) []byte {
	if size > uint64(len(s.b)) {
		return nil
	}
	return s.b[:size:size]
}

func (s *sparse) Free() {}

func (s *sparse) release() {
	_ = unix.Munmap(s.all)
	_ = s.file.Close()
}

// content returns the non-zero 4 KiB units.
func (s *sparse) content() map[int64][]byte {
	const unit = 4096
	out, zero := map[int64][]byte{}, make([]byte, unit)
	for off := int64(0); ; {
		from, err := unix.Seek(int(s.file.Fd()), off, unix.SEEK_DATA)
		if err != nil {
			return out
		}
		for off = from; off < int64(len(s.b)); off += unit {
			if next, err := unix.Seek(int(s.file.Fd()), off, unix.SEEK_DATA); err != nil || next != off {
				break
			}
			if part := s.b[off:][:unit]; !bytes.Equal(part, zero) {
				out[off] = bytes.Clone(part)
			}
		}
	}
}

// way is one way to run a module.
type way struct {
	name     string
	config   func() wazero.RuntimeConfig
	compiles bool
	marked   bool
	arranged bool // the code that runs was written to a cache and read from it
}

var (
	byInterpreter = way{"interpreter", wazero.NewRuntimeConfigInterpreter, false, false, false}
	stockCompiled = way{"stock", wazero.NewRuntimeConfigCompiler, true, false, false}
	unchecked     = way{"unchecked", wazero.NewRuntimeConfigCompiler, true, true, false}
	arranged      = way{"arranged", wazero.NewRuntimeConfigCompiler, true, true, true}
)

// compiledBefore returns a cache in which another runtime has left its compilation of a module, arranged.
func compiledBefore(ctx context.Context, t testing.TB, w way, bin []byte) wazero.CompilationCache {
	t.Helper()
	dir := t.TempDir()
	open := func() wazero.CompilationCache {
		cache, err := wazero.NewCompilationCacheWithDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		files, err := codecache.Stand(cache)
		if err != nil {
			t.Fatal(err)
		}
		files.Arrange = true
		return cache
	}
	cache := open()
	rt := wazero.NewRuntimeWithConfig(ctx, w.config().WithCoreFeatures(api.CoreFeaturesV2).WithCompilationCache(cache))
	err := Compile(func() error {
		_, err := rt.CompileModule(ctx, bin)
		return err
	})
	if err = errors.Join(err, rt.Close(ctx), cache.Close(ctx)); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("%q, %v", entries, err)
	}
	if entry, err := os.ReadFile(entries[0]); err != nil || !bytes.Contains(entry, []byte("\x55\x48\x8d")) { // push rbp, lea rbp, [rsp-size]
		t.Fatalf("it was not arranged: %v", err)
	}
	return open()
}

// prepared returns the module as it is compiled.
func (w way) prepared(bin []byte) (_ []byte, err error) {
	if w.compiles { // its compilation is only right for a mended module
		bin, err = wasmbin.Mend(bin)
	}
	if w.marked && err == nil {
		if bin, err = wasmbin.ArrangeBranches(bin); err == nil { // like PostgreSQL's code
			bin, err = wasmbin.Mark(bin)
		}
	}
	return bin, err
}

// outcome is the result of a run.
type outcome struct {
	result, global uint64
	memory         map[int64][]byte
}

// run runs a module three times on one memory; an error is a trap.
func (w way) run(t testing.TB, bin []byte, seed uint64, pages uint32, imported bool) (o outcome, trap error) {
	t.Helper()
	s := newSparse(t, seed, int(pages)*page)
	defer s.release()
	ctx := experimental.WithMemoryAllocator(context.Background(),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return s }))
	bin, err := w.prepared(bin)
	if err != nil {
		t.Fatal(err)
	}
	config := w.config().WithCoreFeatures(api.CoreFeaturesV2)
	if w.arranged {
		cache := compiledBefore(ctx, t, w, bin)
		defer func() { _ = cache.Close(ctx) }()
		config = config.WithCompilationCache(cache)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, config)
	defer func() { _ = rt.Close(ctx) }()
	calls := uint32(0)
	host := func(_ context.Context, stack []uint64) {
		calls++
		stack[0] = uint64(uint32(stack[0]) ^ uint32(stack[1]>>7) ^ calls<<20)
	}
	if _, err := rt.NewHostModuleBuilder("host").NewFunctionBuilder().WithGoFunction(api.GoFunc(host),
		[]api.ValueType{api.ValueTypeI32, api.ValueTypeI64}, []api.ValueType{api.ValueTypeI32}).Export("f").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	if imported {
		if _, err := rt.InstantiateWithConfig(ctx, memoryModule(pages), wazero.NewModuleConfig().WithName("memory")); err != nil {
			t.Fatal(err)
		}
	}
	var compiled wazero.CompiledModule
	if err := Compile(func() (err error) {
		compiled, err = rt.CompileModule(ctx, bin)
		return err
	}); err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	m, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig())
	if err != nil {
		t.Fatalf("%s: %v", w.name, err)
	}
	for i := range uint64(3) {
		r, err := m.ExportedFunction("run").Call(ctx, uint64(uint32(seed*2654435761+i*77)), seed*0x9e3779b97f4a7c15^i<<33)
		if err != nil {
			return o, err
		}
		o.result = o.result<<7 ^ o.result>>57 ^ r[0]
	}
	o.global = m.ExportedGlobal("g").Get()
	o.memory = s.content()
	return o, nil
}

func (o outcome) differs(from outcome) string {
	if o.result != from.result || o.global != from.global {
		return fmt.Sprintf("result %#x, global %#x; %#x, %#x", o.result, o.global, from.result, from.global)
	}
	for at, b := range from.memory {
		if !bytes.Equal(o.memory[at], b) {
			return fmt.Sprintf("memory differs at %#x", at)
		}
	}
	if len(o.memory) != len(from.memory) {
		return "memory is written elsewhere"
	}
	return ""
}

// compare runs a random module in each possible way; ran: none trapped.
func compare(t testing.TB, seed uint64) (ran bool) {
	t.Helper()
	// Memories like PostgreSQL's, and one with all 32-bit addresses, which the stock compiler does not handle correctly.
	pages := []uint32{1 << 15, 1 << 16, 1 << 10, 1 << 16}[seed%4]
	imported := seed%3 == 1
	bin := randomModule(seed, pages, imported)
	want, trap := byInterpreter.run(t, bin, seed, pages, imported)
	if trap != nil {
		return false // unchecked code is only right if it does not trap
	}
	ways := []way{stockCompiled, unchecked}
	if seed/4%2 == 0 { // it takes as long as all the others
		ways = append(ways, arranged)
	}
	if pages == 1<<16 {
		ways = ways[1:]
	}
	for _, w := range ways {
		got, trap := w.run(t, bin, seed, pages, imported)
		if trap != nil {
			t.Fatalf("seed %d: %s traps: %v", seed, w.name, trap)
		}
		if d := got.differs(want); d != "" {
			t.Fatalf("seed %d: %s: %s", seed, w.name, d)
		}
	}
	return true
}
