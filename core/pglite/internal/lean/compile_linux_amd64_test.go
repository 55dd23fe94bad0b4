package lean

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
)

// entrySize returns the size of a module's entry in wazero's cache.
func entrySize(t *testing.T, bin []byte, compile func(func() error) error) (size int64) {
	t.Helper()
	dir, ctx := t.TempDir(), t.Context()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	defer func() {
		if err := rt.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := cache.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if err := compile(func() error {
		_, err := rt.CompileModule(ctx, bin)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	entries := 0
	if err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		entries++
		size += info.Size()
		return err
	}); err != nil || entries != 1 {
		t.Fatalf("%d entries, %v", entries, err)
	}
	return size
}

// TestCodeWithoutChecks: the code of many loads, each from an address of its own, is a fraction of its size with checks; code that is not
// marked, or not compiled within Compile, is unchanged.
func TestCodeWithoutChecks(t *testing.T) {
	needUnchecked(t)
	withLoads := func(n int) operation {
		return operation{"loads", []kind{k32}, nil, k32, func(w *wasm) {
			w.op(0x41, 0)
			for range n { // from the last one's address, plus what it returned
				w.op(0x20, 0, load32, 0).u(12).op(0x22, 0, 0x6a)
			}
		}}
	}
	const loads = 50
	for from, imported := range memories {
		// The cost of one more load, without the rest of the entry.
		perLoad := func(mark bool, compile func(func() error) error) float64 {
			size := func(n int) int64 {
				bin := smallModule(imported, withLoads(n))
				if mark {
					bin = marked(t, bin)
				}
				return entrySize(t, bin, compile)
			}
			return float64(size(2*loads)-size(loads)) / loads
		}
		checked, free := perLoad(false, alone), perLoad(true, within)
		t.Logf("%s memory: a load is %.1f bytes of code with its check, %.1f without", from, checked, free)
		if free > checked/2 {
			t.Errorf("%s memory: a load of %.1f bytes is not without the check that makes it %.1f", from, free, checked)
		}
		if free > 10 { // the load, and the addition that follows each load here
			t.Errorf("%s memory: %.1f bytes are more than a load and an addition", from, free)
		}
		for name, got := range map[string]float64{
			"not marked, within Compile": perLoad(false, within), "marked, nobody compiles": perLoad(true, alone),
		} {
			if got != checked {
				t.Errorf("%s memory, %s: %.1f bytes, want %.1f", from, name, got, checked)
			}
		}
	}
}

// TestComparisonsStayWithTheirBranches: a comparison and a branch over an edge that must be split, because it leads from a block with two
// successors into one with many predecessors, are two machine instructions, as over any other edge. The stock compiler turns the
// comparison's result into a number, and compares that with zero.
func TestComparisonsStayWithTheirBranches(t *testing.T) {
	needUnchecked(t)
	leaving := func(n int) operation { // of a block, by n ways
		return operation{"branches", []kind{k32, k32}, nil, k32, func(w *wasm) {
			w.op(0x02, 0x40)
			for i := range n {
				w.op(0x20, 0, 0x20, 1, 0x49, 0x0d, 0)             // i32.lt_u, br_if
				w.op(0x20, 0, 0x41).s(int64(i)).op(0x6a, 0x21, 0) // so that the next comparison differs
			}
			w.op(0x0b, 0x20, 0)
		}}
	}
	const branches = 50
	for from, imported := range memories {
		perBranch := func(mark bool, compile func(func() error) error) float64 {
			size := func(n int) int64 {
				bin := smallModule(imported, leaving(n))
				if mark {
					bin = marked(t, bin)
				}
				return entrySize(t, bin, compile)
			}
			return float64(size(2*branches)-size(branches)) / branches
		}
		stock, together := perBranch(false, alone), perBranch(true, within)
		t.Logf("%s memory: a branch is %.1f bytes of code, %.1f by the stock compiler", from, together, stock)
		const setAndTest = 8 // bytes of setcc, an extension and a test, at least
		if together > stock-setAndTest {
			t.Errorf("%s memory: a branch of %.1f bytes is not without what makes it %.1f", from, together, stock)
		}
	}
}

// TestConcurrentCompilations: modules compiled concurrently, marked and not, are the same as when compiled alone, and nothing about them is
// kept.
func TestConcurrentCompilations(t *testing.T) {
	needUnchecked(t)
	const goroutines, rounds = 8, 12
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for round := range rounds {
				// Every other one is marked; of the others, every other one is compiled by code that does not know of Compile.
				n := g + round
				mark, imported, compile := n%2 == 0, n%3 == 0, within
				if n%4 == 1 {
					compile = alone
				}
				if err := compileAndRun(t, mark, imported, compile, uint64(n)); err != nil {
					t.Errorf("goroutine %d, round %d (marked %v, imported memory %v): %v", g, round, mark, imported, err)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	if list := functions.Load(); list != nil || compiling != 0 {
		t.Errorf("%d compilations are left, and %v", compiling, list)
	}
}

// compileAndRun compiles a module of many functions, each with a constant of its own, and checks what they do.
func compileAndRun(t *testing.T, mark, imported bool, compile func(func() error) error, seed uint64) error {
	const funcs = 40
	s := newSparse(t, seed, 2*page)
	defer s.release()
	var ops []operation
	for i := range uint64(funcs) {
		ops = append(ops, operation{fmt.Sprint(i), []kind{k32}, nil, k32, func(w *wasm) {
			w.op(0x20, 0, load8u, 0).u(i).op(0x20, 0, load8u, 0).u(i + 1).op(0x6a).op(0x41).s(int64(i)).op(0x6a)
		}})
	}
	bin := smallModule(imported, ops...)
	if mark {
		bin = marked(t, bin)
	}
	m := instance(t, bin, imported, compile, s)
	defer func() { _ = m.Close(context.Background()) }()
	for i := range uint64(funcs) {
		name := fmt.Sprint(i)
		for _, at := range []uint64{0, 1000, page - funcs - 1} {
			want := uint32(s.b[at+i]) + uint32(s.b[at+i+1]) + uint32(i)
			if got, err := call(t, m, name, at); err != nil || uint32(got) != want {
				return fmt.Errorf("function %d at %d: %d, %v, want %d", i, at, uint32(got), err, want)
			}
		}
		if _, err := call(t, m, name, page); (err == nil) != mark {
			return fmt.Errorf("function %d behind the memory: %v", i, err)
		}
	}
	return nil
}
