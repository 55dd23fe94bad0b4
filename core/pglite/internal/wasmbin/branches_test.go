package wasmbin

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is arranged, and what is not.
func TestArrangeBranches(t *testing.T) {
	call := []byte{opCall, 0}
	seq := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	x, y := []byte{opLocalGet, 0}, []byte{opLocalGet, 1}
	when := func(parts ...[]byte) []byte { return seq([]byte{opIf, blockEmpty}, seq(parts...), []byte{opEnd}) }
	unless := func(parts ...[]byte) []byte {
		return seq([]byte{opIf, blockEmpty, opElse}, seq(parts...), []byte{opEnd})
	}
	block := func(parts ...[]byte) []byte {
		return seq([]byte{opBlock, blockEmpty}, seq(parts...), []byte{opEnd})
	}
	loop := func(parts ...[]byte) []byte {
		return seq([]byte{opLoop, blockEmpty}, seq(parts...), []byte{opEnd})
	}
	brIf := func(n byte) []byte { return []byte{opBrIf, n} }
	br := func(n byte) []byte { return []byte{opBr, n} }
	way := func(n byte) []byte { return when(br(n + 1)) }
	op := func(ops ...byte) []byte { return ops }
	table := func(labels ...byte) []byte { return seq([]byte{opBrTable, byte(len(labels) - 1)}, labels) }
	const local = 2 // after the parameters
	is := func(n byte) []byte { return []byte{opLocalGet, local, opI32Const, n, opI32Eq} }
	for _, tc := range []struct {
		name         string
		before, want []byte
	}{
		{"an if with a call", seq(x, when(call)), seq(x, op(opI32Eqz), unless(call))},
		{"an if of a comparison", seq(x, y, op(opI32LtS), when(call)), seq(x, y, op(0x4e), unless(call))},
		{"an if of a negation", seq(x, op(opI32Eqz), when(call)), seq(x, unless(call))},
		{"an if of floats: not a number is neither less nor greater or equal", seq(op(opF32Const, 0, 0, 0, 0, opF32Const, 0, 0, 0, 0, 0x5d), when(call)),
			seq(op(opF32Const, 0, 0, 0, 0, opF32Const, 0, 0, 0, 0, 0x5d, opI32Eqz), unless(call))},
		{"an if without a call", seq(x, when(y, op(opDrop))), nil},
		{"an if that leaves", block(x, when(call, br(1)), y, op(opDrop)), nil},
		{"an if with an else", seq(x, op(opIf, blockEmpty), call, op(opElse), y, op(opDrop, opEnd)), nil},
		{"an if in an if", seq(x, when(y, when(call), x, op(opDrop))), seq(x, op(opI32Eqz), unless(y, op(opI32Eqz), unless(call), x, op(opDrop)))},
		{"a branch over a call", block(x, brIf(0), call), block(x, way(0), call)},
		{"a branch over none", block(x, brIf(0), y, op(opDrop)), nil},
		{"only the first", block(x, brIf(0), call, y, brIf(0), call), block(x, way(0), call, y, brIf(0), call)},
		{"none behind another way", block(x, when(br(1)), call, y, brIf(0), call), nil},
		{"out of two blocks", block(block(x, brIf(1), call), call), block(block(x, way(1), call), call)},
		{"back to the head of a loop", loop(call, x, brIf(0), call), nil},
		{"out of the function", seq(x, brIf(0), call), nil},
		{"a br_table of few ways", block(block(x, table(0, 1, 0, 1))),
			block(block(x, op(opLocalSet, local, opLocalGet, local, opI32Eqz), brIf(0), is(2), brIf(0), br(1)))},
		{"a br_table of one way", block(x, table(0)), block(x, op(opLocalSet, local), br(0))},
		{"a br_table of too many ways", block(x, table(0, 0, 0, 0, 0, 0)), nil},
		{"a br_table that returns", block(x, table(0, 1)), nil},
		{"out of an if that is turned", seq(x, when(y, brIf(0), call)), seq(x, op(opI32Eqz), unless(y, way(0), call))},
	} {
		module := func(ops []byte) []byte {
			declared := appendSized(nil, append(append([]byte{0}, ops...), opEnd))
			if bytes.Contains(ops, []byte{opLocalSet, local}) {
				declared = appendSized(nil, append(append([]byte{1, 1, byte(I32)}, ops...), opEnd))
			}
			return rawModule(
				rawSection{secType, vec(appendFuncType(nil, FuncType{Params: []ValType{I32, I32}}), appendFuncType(nil, FuncType{}))},
				rawSection{secFunction, vec([]byte{1}, []byte{0})},
				rawSection{secCode, vec(body(), declared)},
			)
		}
		if tc.want == nil {
			tc.want = tc.before
		}
		got, err := ArrangeBranches(module(tc.before))
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if want := module(tc.want); !bytes.Equal(got, want) {
			t.Errorf("%s: % x became % x, want % x", tc.name, module(tc.before), got, want)
		}
		if _, err := newRuntime(t).CompileModule(t.Context(), got); err != nil {
			t.Errorf("%s: not valid any more: %v", tc.name, err)
		}
	}
}

// A comparison and its opposite: for any numbers, exactly one of them is true.
func TestOpposite(t *testing.T) {
	rt := newRuntime(t)
	numbers := []uint64{0, 1, 2, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	n := 0
	for op := range 256 {
		other, ok := opposite(byte(op))
		if !ok {
			continue
		}
		n++
		typ := I32
		if op >= opI64Eq {
			typ = I64
		}
		m := instantiate(t, rt, rawModule(
			rawSection{secType, vec(appendFuncType(nil, FuncType{Params: []ValType{typ, typ}, Results: []ValType{I32}}))},
			rawSection{secFunction, vec([]byte{0}, []byte{0})},
			rawSection{secExport, vec(appendExport(nil, Export{Name: "a", Kind: KindFunc}), appendExport(nil, Export{Name: "b", Kind: KindFunc, Index: 1}))},
			rawSection{secCode, vec(body(opLocalGet, 0, opLocalGet, 1, byte(op)), body(opLocalGet, 0, opLocalGet, 1, other))},
		), "")
		for _, x := range numbers {
			for _, y := range numbers {
				a, b := uint32(mustCall1(t, m, "a", x, y)), uint32(mustCall1(t, m, "b", x, y))
				if a+b != 1 {
					t.Errorf("of %d and %d, %#x is %d and %#x is %d", x, y, op, a, other, b)
				}
			}
		}
	}
	if n != 20 {
		t.Errorf("%d comparisons, want the 20 of integers", n)
	}
}

// Only the loop of an interpreter begins after a call.
func TestInterpreters(t *testing.T) {
	loop := func(ways, blocks int) []byte {
		c := &code{}
		c.op(opLoop, blockEmpty)
		for range blocks {
			c.op(opBlock, blockEmpty)
		}
		c.get(0).op(opBrTable)
		c.out = appendU32(c.out, uint32(ways))
		for i := range ways + 1 {
			c.out = appendU32(c.out, uint32(i%blocks))
		}
		for range blocks {
			c.op(opEnd)
		}
		return c.op(opEnd).out
	}
	for _, tc := range []struct{ ways, blocks, loops int }{
		{interpreterWays, interpreterWays, 1},
		{interpreterWays, interpreterWays / 2, 1},
		{interpreterWays - 1, interpreterWays, 0},
		{interpreterWays, interpreterWays/2 - 1, 0},
	} {
		bin := rawModule(
			rawSection{secType, vec(appendFuncType(nil, FuncType{Params: []ValType{I32}}))},
			rawSection{secFunction, vec([]byte{0})},
			rawSection{secMemory, vec([]byte{0, 1})},
			rawSection{secCode, vec(body(loop(tc.ways, tc.blocks)...))},
		)
		out, stats, err := rewriteMain(bin, leaveChecks)
		if err != nil || stats.loops != tc.loops {
			t.Errorf("%d ways to %d blocks: %d loops (%v), want %d", tc.ways, tc.blocks, stats.loops, err, tc.loops)
		}
		if got := bytes.Count(out, append(callOf(newHelpers(1).nothing), opLoop)); got != tc.loops {
			t.Errorf("%d ways to %d blocks: %d calls before the loop, want %d", tc.ways, tc.blocks, got, tc.loops)
		}
		if _, err := newRuntime(t).CompileModule(t.Context(), out); err != nil {
			t.Error(err)
		}
	}
}

// Random functions do the same before and after, in their results and in memory.
func TestRandomBranches(t *testing.T) {
	const seeds, size = 400, 2 * pageBytes
	rt := newRuntime(t)
	var total branchStats
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 31))
		bin := oneFunction(2, randomFunction(rng))
		out, stats, err := arrangeBranches(bin)
		if err != nil {
			t.Fatal(err)
		}
		total.ifs += stats.ifs
		total.branches += stats.branches
		total.tables += stats.tables
		before, after := instantiate(t, rt, bin, ""), instantiate(t, rt, out, "")
		image := make([]byte, size)
		for i := range image {
			image[i] = byte(rng.Uint32())
		}
		for range 12 {
			in := []uint64{rng.Uint64N(size / 2), rng.Uint64N(size / 2)}
			want, got := callOn(t, before, image, in...), callOn(t, after, image, in...)
			if want.result != got.result || want.trap != got.trap || !bytes.Equal(want.memory, got.memory) {
				t.Fatalf("seed %d, f%v: %d %q before, %d %q after, memories equal: %t",
					seed, in, want.result, want.trap, got.result, got.trap, bytes.Equal(want.memory, got.memory))
			}
		}
		checkPair{before: before, after: after}.close(t)
	}
	t.Logf("%d seeds: %+v", seeds, total)
	if total.ifs < seeds/4 || total.branches < seeds/4 || total.tables < seeds/4 {
		t.Errorf("the functions exercise too little: %+v", total)
	}
}
