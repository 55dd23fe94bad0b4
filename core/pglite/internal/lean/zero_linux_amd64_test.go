package lean

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"testing"
)

// comparison is one of WebAssembly's integer comparisons, and Go's equivalent.
type comparison struct {
	name string
	op32 byte // the 64-bit one is 11 higher
	go32 func(x, y uint32) bool
	go64 func(x, y uint64) bool
}

// comparisons returns all of them.
func comparisons() []comparison {
	out := []comparison{
		{"eq", 0x46, func(x, y uint32) bool { return x == y }, func(x, y uint64) bool { return x == y }},
		{"ne", 0x47, func(x, y uint32) bool { return x != y }, func(x, y uint64) bool { return x != y }},
	}
	for i, order := range []struct {
		name  string
		holds func(int) bool
	}{
		{"lt", func(c int) bool { return c < 0 }}, {"gt", func(c int) bool { return c > 0 }},
		{"le", func(c int) bool { return c <= 0 }}, {"ge", func(c int) bool { return c >= 0 }},
	} {
		holds := order.holds
		out = append(out,
			comparison{order.name + "_s", 0x48 + 2*byte(i),
				func(x, y uint32) bool { return holds(cmp.Compare(int32(x), int32(y))) },
				func(x, y uint64) bool { return holds(cmp.Compare(int64(x), int64(y))) }},
			comparison{order.name + "_u", 0x49 + 2*byte(i),
				func(x, y uint32) bool { return holds(cmp.Compare(x, y)) },
				func(x, y uint64) bool { return holds(cmp.Compare(x, y)) }})
	}
	return out
}

// zero is a way to write a zero: the code before the whole use of the comparison, the zero, and the code after the use. Local 2 is free.
type zero struct{ before, it, behind []byte }

func zeros(k kind) map[string]zero {
	constant, shift, bits := byte(0x41), byte(0x74), int64(32)
	if k == k64 {
		constant, shift, bits = 0x42, 0x86, 64
	}
	return map[string]zero{
		"zero":                    {it: []byte{constant, 0}},
		"zero in a variable":      {before: []byte{constant, 0, 0x21, 2}, it: []byte{0x20, 2}},
		"zero from before a loop": {before: []byte{constant, 0, 0x21, 2, 0x03, byte(k32)}, it: []byte{0x20, 2}, behind: []byte{0x0b}},
		"zero, shifted by 0":      {it: []byte{constant, 0, constant, 0, shift}},
		"zero, shifted by as many bits as it has": {it: (&wasm{}).op(constant, 0, constant).s(bits).op(shift).out},
	}
}

// ands returns ways to write an and of the parameters.
func ands(k kind) map[string]func(w *wasm) {
	and, load := byte(0x71), byte(0x28)
	if k == k64 {
		and, load = 0x83, 0x29
	}
	return map[string]func(w *wasm){
		"x & y":           func(w *wasm) { w.op(0x20, 0, 0x20, 1, and) },
		"x & y in memory": func(w *wasm) { w.op(0x20, 0, 0x41, 8, load, 0, 0, and) },
	}
}

// uses returns ways to use the i32 that a comparison leaves; each gives 1 if it holds.
func uses(compare func(w *wasm)) map[string]func(w *wasm) {
	return map[string]func(w *wasm){
		"value":  compare,
		"if":     func(w *wasm) { compare(w); w.op(0x04, byte(k32), 0x41, 1, 0x05, 0x41, 0, 0x0b) },
		"br_if":  func(w *wasm) { w.op(0x02, byte(k32), 0x41, 1); compare(w); w.op(0x0d, 0, 0x1a, 0x41, 0, 0x0b) },
		"select": func(w *wasm) { w.op(0x41, 1, 0x41, 0); compare(w); w.op(0x1b) },
		"eqz":    func(w *wasm) { compare(w); w.op(0x45, 0x45) },
		"eqz, if": func(w *wasm) {
			compare(w)
			w.op(0x45, 0x04, byte(k32), 0x41, 0, 0x05, 0x41, 1, 0x0b)
		},
	}
}

// TestZeroAgainstAnd: a zero that is compared with an and is on the side where it was written, whatever uses the result. (wazero's compiler
// makes one instruction of the and and the comparison, and forgets on which side the zero was.)
func TestZeroAgainstAnd(t *testing.T) {
	needUnchecked(t)
	const seed = 20261129
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	inputs := [][2]uint64{{0, 0}, {1, 1}, {1, 2}, {^uint64(0), ^uint64(0)}, {1 << 31, ^uint64(0)}, {1<<31 - 1, ^uint64(0)},
		{1 << 63, ^uint64(0)}, {1<<63 - 1, ^uint64(0)}, {1 << 32, 1 << 32}, {1 << 63, 1}}
	for range 20 {
		inputs = append(inputs, [2]uint64{rng.Uint64(), rng.Uint64()})
	}
	type expected struct {
		operation
		holds func(x, y uint64) bool // of the and's operands
	}
	var all []expected
	for _, k := range []kind{k32, k64} {
		for _, c := range comparisons() {
			for zeroName, zero := range zeros(k) {
				for andName, and := range ands(k) {
					op, bits := c.op32, 32
					holds := func(x, y uint64) bool { return c.go32(0, uint32(x&y)) }
					if k == k64 {
						op, bits = c.op32+11, 64
						holds = func(x, y uint64) bool { return c.go64(0, x&y) }
					}
					for useName, use := range uses(func(w *wasm) { w.op(zero.it...); and(w); w.op(op) }) {
						name := fmt.Sprintf("i%d.%s (%s) (%s): %s", bits, c.name, zeroName, andName, useName)
						body := func(w *wasm) { w.op(zero.before...); use(w); w.op(zero.behind...) }
						all = append(all, expected{operation{name, []kind{k, k}, []kind{k}, k32, body}, holds})
					}
				}
			}
		}
	}
	ops := make([]operation, len(all))
	for i, e := range all {
		ops[i] = e.operation
	}
	s := newSparse(t, seed, page)
	defer s.release()
	m := instance(t, marked(t, smallModule(false, ops...)), false, within, s)
	for _, in := range inputs {
		m.Memory().WriteUint64Le(8, in[1])
		for _, e := range all {
			want := uint64(0)
			if e.holds(in[0], in[1]) {
				want = 1
			}
			x, y := in[0], in[1]
			if e.params[0] == k32 {
				x, y = uint64(uint32(x)), uint64(uint32(y))
			}
			if got := uint64(uint32(mustCall(t, m, e.name, x, y))); got != want {
				t.Errorf("%s of %#x and %#x: %d, want %d", e.name, x, y, got, want)
			}
		}
	}
	t.Logf("%d functions, %d inputs", len(all), len(inputs))
}
