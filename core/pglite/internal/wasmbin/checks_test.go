package wasmbin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// oneFunction is a module with pages of memory, a mutable global, and f(i32, i32) i32 with the locals and the body of c; function 1 is
// leaf(i32) i32, which returns its argument, and is in slot 0 of the table.
func oneFunction(pages byte, c *code) []byte {
	i32 := []ValType{I32}
	leaf := &code{}
	leaf.locals()
	leaf.get(0).op(opEnd)
	return rawModule(
		rawSection{secType, vec(
			appendFuncType(nil, FuncType{Params: []ValType{I32, I32}, Results: i32}),
			appendFuncType(nil, FuncType{Params: i32, Results: i32}),
		)},
		rawSection{secFunction, vec([]byte{0}, []byte{1})},
		rawSection{secTable, vec([]byte{byte(FuncRef), 0, 1})},
		rawSection{secMemory, vec([]byte{1, pages, pages + 1})},
		rawSection{secGlobal, vec([]byte{byte(I32), 1, opI32Const, 16, opEnd})},
		rawSection{secExport, vec(
			appendExport(nil, Export{Name: "f", Kind: KindFunc}),
			appendExport(nil, Export{Name: "memory", Kind: KindMemory}),
		)},
		rawSection{secElement, vec([]byte{0, opI32Const, 0, opEnd, 1, 1})},
		rawSection{secCode, vec(appendSized(nil, c.out), appendSized(nil, leaf.out))},
	)
}

// access appends a load or a store with an offset.
func (c *code) access(op byte, offset uint32) *code {
	c.out = appendU32(append(c.out, op, 0), offset)
	return c
}

// checkPair is a module before and after the rewriting.
type checkPair struct {
	before, after api.Module
	stats         checkStats
}

func newCheckPair(t *testing.T, rt wazero.Runtime, bin []byte) checkPair {
	t.Helper()
	out, stats, err := rewriteMain(bin, arrangeChecks)
	if err != nil {
		t.Fatal(err)
	}
	if stats.checks.skipped > 0 {
		t.Fatalf("the pass gave up: %+v", stats.checks)
	}
	return checkPair{before: instantiate(t, rt, bin, ""), after: instantiate(t, rt, out, ""), stats: stats.checks}
}

func (p checkPair) close(t *testing.T) {
	t.Helper()
	for _, m := range []api.Module{p.before, p.after} {
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// outcome of a call.
type outcome struct {
	result uint64
	trap   string
	memory []byte
}

func callOn(t *testing.T, m api.Module, image []byte, args ...uint64) outcome {
	t.Helper()
	mem := memoryOf(t, m)
	clear(mem)
	copy(mem, image)
	result, err := call1(t, m, "f", args...)
	if err != nil {
		trap, _, _ := bytes.Cut([]byte(err.Error()), []byte("\n"))
		return outcome{trap: string(trap)}
	}
	return outcome{result: result, memory: mem}
}

// run calls both and compares them. If lenient, a trap of the original by an address inside the guard page may be missing afterwards;
// nothing else may differ.
func (p checkPair) run(t *testing.T, image []byte, lenient bool, args ...uint64) {
	t.Helper()
	want, got := callOn(t, p.before, image, args...), callOn(t, p.after, image, args...)
	if lenient && want.trap != "" && got.trap == "" {
		return
	}
	if want.trap != got.trap || want.result != got.result {
		t.Fatalf("f%v: was %d, trap %q; is %d, trap %q", args, want.result, want.trap, got.result, got.trap)
	}
	if want.trap == "" {
		n := len(want.memory)
		if !bytes.Equal(want.memory, got.memory[:n]) {
			t.Fatalf("f%v: memories differ", args)
		}
		if len(bytes.Trim(got.memory[n:], "\x00")) > 0 {
			t.Fatalf("f%v: something was written to the guard page", args)
		}
	}
}

// checkCases are functions that show one thing each, with what the pass does to them.
func checkCases() map[string]struct {
	body func(c *code)
	want checkStats
} {
	type tc = struct {
		body func(c *code)
		want checkStats
	}
	return map[string]tc{
		"first access raised": {func(c *code) {
			c.get(0).access(opI32Load, 0).get(0).access(opI32Load, 40).op(opI32Add)
			c.get(0).access(opI32Load, 12).op(opI32Add)
		}, checkStats{accesses: 3, raised: 1}},
		"nothing to raise": {func(c *code) {
			c.get(0).access(opI32Load, 40).get(0).access(opI32Load, 0).op(opI32Add)
		}, checkStats{accesses: 2}},
		"another value in the local": {func(c *code) {
			c.get(0).access(opI32Load, 0).set(0).get(0).access(opI32Load, 40)
		}, checkStats{accesses: 2}},
		"a copy": {func(c *code) {
			c.get(0).op(opLocalTee, 1).access(opI32Load, 0).get(0).access(opI32Load, 40).op(opI32Add)
		}, checkStats{accesses: 2, raised: 1}},
		"a store raised behind its value": {func(c *code) {
			c.get(0).get(1).access(opI32Store, 4).get(0).access(opI32Load, 8)
		}, checkStats{accesses: 2, raised: 1}},
		"a store whose local changes under it": {func(c *code) {
			c.get(0).i32(64).set(0).get(1).access(opI32Store, 4).get(0).access(opI32Load, 8)
		}, checkStats{accesses: 2}},
		"if without else": {func(c *code) {
			c.get(0).access(opI32Load, 8).op(opIf, blockEmpty).i32(4).set(1).op(opEnd)
			c.get(0).access(opI32Load, 0)
		}, checkStats{accesses: 2, elses: 1, kept: 1}},
		"known on one way only": {func(c *code) {
			c.get(1).op(opIf, blockEmpty).get(0).access(opI32Load, 8).set(1).op(opEnd)
			c.get(0).access(opI32Load, 0).get(1).op(opI32Add)
		}, checkStats{accesses: 2, elses: 1}},
		"changed on one way": {func(c *code) {
			c.get(0).access(opI32Load, 8).op(opIf, blockEmpty).get(1).set(0).op(opEnd)
			c.get(0).access(opI32Load, 0)
		}, checkStats{accesses: 2, elses: 1}},
		"both arms raised": {func(c *code) {
			c.get(1).op(opIf, blockEmpty).get(0).access(opI32Load, 8).set(1)
			c.op(opElse).get(0).access(opI32Load, 4).set(1).op(opEnd)
			c.get(0).access(opI32Load, 20).get(1).op(opI32Add)
		}, checkStats{accesses: 3, raised: 2, kept: 1}},
		"a loop forgets": {func(c *code) {
			c.get(0).access(opI32Load, 8).set(1).op(opLoop, blockEmpty)
			c.get(0).access(opI32Load, 0).set(1).op(opEnd)
			c.get(0).access(opI32Load, 4).get(1).op(opI32Add)
		}, checkStats{accesses: 3, raised: 1}},
		"out of a block by br_table": {func(c *code) {
			c.get(0).access(opI32Load, 8).set(1)
			c.op(opBlock, blockEmpty, opBlock, blockEmpty).get(1).op(opBrTable, 1, 0, 1, opEnd, opEnd)
			c.get(0).access(opI32Load, 0)
		}, checkStats{accesses: 2}},
		"behind code that is never reached": {func(c *code) {
			c.get(0).access(opI32Load, 0).set(1)
			c.op(opBlock, blockEmpty, opBr, 0, opBlock, blockEmpty).get(0).access(opI32Load, 90).op(opDrop, opEnd, opEnd)
			c.get(0).access(opI32Load, 4).get(1).op(opI32Add)
		}, checkStats{accesses: 2, raised: 1}},
		"across a call": {func(c *code) {
			c.get(0).access(opI32Load, 0).call(1).get(0).access(opI32Load, 4).op(opI32Add)
		}, checkStats{accesses: 2, raised: 1}},
		"constants": {func(c *code) {
			c.i32(100).access(opI32Load, 4).i32(200).access(opI32Load, 0).op(opI32Add).set(1)
			c.i32(300).get(1).access(opI32Store, 8)
		}, checkStats{accesses: 3, raised: 1, zeroed: 3}},
		"one constant": {func(c *code) {
			c.i32(100).access(opI32Load, 4)
		}, checkStats{accesses: 1}},
		"constants beyond the memory": {func(c *code) {
			c.i32(100).access(opI32Load, 4).i32(1<<17).access(opI32Load, 0).op(opI32Add)
			c.i32(-1).access(opI32Load, 8).op(opI32Add)
		}, checkStats{accesses: 3}},
		"too far to raise": {func(c *code) {
			c.get(0).access(opI32Load, 0).get(0).access(opI32Load, GuardBytes+1).op(opI32Add)
		}, checkStats{accesses: 2}},
		"as far as possible": {func(c *code) {
			c.get(0).access(opI32Load, 0).get(0).access(opI32Load, GuardBytes).op(opI32Add)
		}, checkStats{accesses: 2, raised: 1}},
	}
}

func TestChecks(t *testing.T) {
	rt := newRuntime(t)
	const size = 2 * pageBytes
	image := bytes.Repeat([]byte{8, 0, 0, 0}, size/4)
	for name, tc := range checkCases() {
		t.Run(name, func(t *testing.T) {
			c := &code{}
			c.locals()
			tc.body(c)
			c.op(opEnd)
			p := newCheckPair(t, rt, oneFunction(2, resultful(c)))
			defer p.close(t)
			if p.stats != tc.want {
				t.Errorf("%+v, want %+v", p.stats, tc.want)
			}
			for _, b := range []uint64{0, 1, 200} {
				for _, a := range []uint64{0, 16, 1 << 30, 0xffff_fff0} {
					p.run(t, image, false, a, b)
				}
				for d := range uint64(120) { // the last bytes: a raised check reaches into the guard page
					p.run(t, image, true, size-d, b)
				}
			}
		})
	}
}

// resultful makes a body that ends with a store return 0.
func resultful(c *code) *code {
	body := &reader{buf: c.out, end: len(c.out)}
	var last []instr
	body.walkBody(func(in instr) { last = append(last, in) })
	if n := len(last); n > 1 && last[n-2].op == opI32Store {
		c.out = append(c.out[:len(c.out)-1], opI32Const, 0, opEnd)
	}
	return c
}

// A pointer whose last bytes are read close to the end of memory must not trap because of a check that was raised for a path not taken.
func TestRaisedCheckUsesTheGuardPage(t *testing.T) {
	c := &code{}
	c.locals()
	c.get(0).access(opI32Load, 0).op(opIf, byte(I32)).get(0).access(opI32Load, 1000).op(opElse).i32(7).op(opEnd, opEnd)
	p := newCheckPair(t, newRuntime(t), oneFunction(1, c))
	if p.stats.raised != 1 {
		t.Fatalf("nothing was raised: %+v", p.stats)
	}
	if got := callOn(t, p.after, nil, pageBytes-4, 0); got.trap != "" || got.result != 7 {
		t.Errorf("%d, trap %q, want 7", got.result, got.trap)
	}
	if got := callOn(t, p.after, nil, 2*pageBytes-4, 0); got.trap == "" {
		t.Error("an address behind the program's memory and the raised offset did not trap")
	}
}

// The program must see neither the guard page nor the growth of its memory by it.
func TestGuardPageIsHidden(t *testing.T) {
	c := &code{}
	c.locals()
	c.op(opMemorySize, 0, opEnd)
	p := newCheckPair(t, newRuntime(t), oneFunction(1, c))
	if was, is := mustCall1(t, p.before, "f", 0, 0), mustCall1(t, p.after, "f", 0, 0); was != 1 || is != 1 {
		t.Errorf("memory.size was %d, is %d, want 1", was, is)
	}
	c = &code{}
	c.locals()
	c.i32(1).op(opMemoryGrow, 0, opEnd)
	if _, err := RewriteMain(oneFunction(1, c)); err == nil {
		t.Error("a module that grows its memory itself was accepted")
	}
}

// The rewriting is worthwhile only if wazero forgets what the pass says it forgets: compiled code shrinks by far more than the few added
// instructions.
func TestChecksShrinkCompiledCode(t *testing.T) {
	for name, body := range map[string]func(c *code){
		"raised": func(c *code) {
			for i := range uint32(40) {
				c.get(0).access(opI32Load, 4*i).set(1)
			}
		},
		"else": func(c *code) {
			c.get(0).access(opI32Load, 80).set(1)
			for i := range uint32(20) {
				c.get(1).op(opIf, blockEmpty).i32(4).set(1).op(opEnd)
				c.get(0).access(opI32Load, 4*i).set(1)
			}
		},
		"merge": func(c *code) {
			c.get(0).access(opI32Load, 160).set(1)
			for i := range uint32(20) {
				c.op(opBlock, blockEmpty).get(1).op(opBrIf, 0).i32(4).set(1).op(opEnd)
				c.get(0).access(opI32Load, 4*i).get(0).access(opI32Load, 4*i+80).op(opI32Add).set(1)
			}
		},
		"constants": func(c *code) {
			for i := range int32(40) {
				c.i32(1000*i).access(opI32Load, 4).set(1)
			}
		},
	} {
		c := &code{}
		c.locals()
		body(c)
		c.get(1).op(opEnd)
		before := oneFunction(1, c)
		after, err := RewriteMain(before)
		if err != nil {
			t.Fatal(err)
		}
		was, is := compiledSize(t, before), compiledSize(t, after)
		t.Logf("%s: %d bytes compiled, %d before", name, is, was)
		if is > was-15*40 {
			t.Errorf("%s: compiled to %d bytes, %d before: wazero's bookkeeping is not what it was", name, is, was)
		}
	}
}

// compiledSize returns the size of a module in wazero's compilation cache.
func compiledSize(t *testing.T, bin []byte) (size int64) {
	t.Helper()
	dir := t.TempDir()
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache))
	if _, err := rt.CompileModule(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	if err := rt.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cache.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size += info.Size()
		return err
	})
	if err != nil || size == 0 {
		t.Fatal(size, err)
	}
	return size
}

func TestRandomFunctionsBehaveAsBefore(t *testing.T) {
	const seeds, size = 400, 2 * pageBytes
	rt := newRuntime(t)
	var total checkStats
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := randomFunction(rng)
		p := newCheckPair(t, rt, oneFunction(2, c))
		total.add(p.stats)
		image := make([]byte, size)
		for i := range image {
			image[i] = byte(rng.Uint32())
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			for range 12 {
				in := []uint64{rng.Uint64N(size / 2), rng.Uint64N(size / 2)}
				p.run(t, image, false, in...)
				in[rng.IntN(2)] = 1<<30 + rng.Uint64N(1<<20)
				p.run(t, image, false, in...)
				in[rng.IntN(2)] = size - rng.Uint64N(300)
				p.run(t, image, true, in...)
			}
		})
		p.close(t)
	}
	t.Logf("%d seeds: %+v", seeds, total)
	if total.raised < seeds || total.kept < seeds || total.zeroed < seeds || total.elses < seeds {
		t.Errorf("the functions exercise too little: %+v", total)
	}
}

func TestRewriteIsDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		bin := oneFunction(2, randomFunction(rand.New(rand.NewPCG(seed, 1))))
		a, err1 := RewriteMain(bin)
		b, err2 := RewriteMain(slices.Clone(bin))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("seed %d: two results, %v, %v", seed, err1, err2)
		}
	}
}
