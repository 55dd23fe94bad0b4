package lean

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
)

// piece is a name and code.
type piece struct {
	name string
	code []byte
}

// sources leave an i32, computed from the parameters x (i32) and y (i64), by every operation that gives one. Function 0 returns its x.
// (Except memory.size, which the stock compiler takes for 0 where the memory has all addresses.)
func sources() []piece {
	const x, y = "\x20\x00", "\x20\x01"
	vector := x + "\xfd\x11" // i32x4.splat
	all := map[string]string{
		"x": x, "-1": "\x41\x7f", "-2^31": "\x41\x80\x80\x80\x80\x78", "wrap": y + "\xa7", "eqz": x + "\x45", "clz": x + "\x67", "ctz": x + "\x68",
		"popcnt": x + "\x69", "extend8_s": x + "\xc0", "extend16_s": x + "\xc1", "i64.lt_s": y + y + "\x53", "wrap of extend": x + "\xac\xa7",
		"wrap of shift": y + "\x42\x04\x87\xa7", "call": x + y + "\x10\x00", "select": x + y + "\xa7" + x + "\x1b", "tee": x + "\x22\x02",
		"block": "\x02\x7f" + x + "\x0b", "loop": "\x03\x7f" + x + "\x0b", "if": x + "\x04\x7f" + x + "\x05" + y + "\xa7\x0b",
		"br_if": "\x02\x7f" + x + x + "\x0d\x00\x41\x05\x6a\x0b", "memory.grow": "\x41\x00\x40\x00", "ref.is_null": "\xd0\x70\xd1",
		"reinterpret": x + "\xbe\xbc", "reinterpret, computed": x + "\xbe\x8c\xbc", "f32 demoted": y + "\xbf\xb6\xbc",
		"any_true": vector + "\xfd\x53",
	}
	for op, name := range map[byte]string{0x6a: "add", 0x6b: "sub", 0x6c: "mul", 0x71: "and", 0x72: "or", 0x73: "xor", 0x74: "shl", 0x75: "shr_s", 0x76: "shr_u", 0x77: "rotl", 0x78: "rotr"} {
		all[name] = x + y + "\xa7" + string([]byte{op})
		all[name+" constant"] = x + "\x41\x03" + string([]byte{op})
		all[name+" 0"] = x + "\x41\x00" + string([]byte{op})
	}
	for op, name := range map[byte]string{0x6d: "div_s", 0x6e: "div_u", 0x6f: "rem_s", 0x70: "rem_u"} {
		all[name] = x + "\x41\x07" + string([]byte{op})
	}
	for op, name := range map[byte]string{0x28: "load", 0x2c: "load8_s", 0x2d: "load8_u", 0x2e: "load16_s", 0x2f: "load16_u"} {
		all[name] = x + "\x41\xff\x01\x71" + string([]byte{op}) + "\x00\x10"
	}
	for op, name := range map[byte]string{0xa8: "trunc_f32_s", 0xa9: "trunc_f32_u"} {
		all[name] = x + "\xb3" + string([]byte{op}) // f32.convert_i32_u
	}
	for op, name := range map[byte]string{0xaa: "trunc_f64_s", 0xab: "trunc_f64_u"} {
		all[name] = x + "\xb8" + string([]byte{op}) // f64.convert_i32_u
		all[name+", negative"] = x + "\xb7" + string([]byte{op})
	}
	for op := range byte(4) {
		convert := []string{"\xb2", "\xb3", "\xb7", "\xb8"}[op]
		all[fmt.Sprintf("trunc_sat %d", op)] = x + convert + "\xfc" + string([]byte{op})
	}
	for op, name := range map[byte]string{0x15: "i8x16.extract_lane_s", 0x16: "i8x16.extract_lane_u", 0x18: "i16x8.extract_lane_s", 0x19: "i16x8.extract_lane_u", 0x1b: "i32x4.extract_lane"} {
		all[name] = vector + "\xfd" + string([]byte{op, 1})
	}
	for op, name := range map[string]string{"\x63": "i8x16", "\x83\x01": "i16x8", "\xa3\x01": "i32x4", "\xc3\x01": "i64x2"} {
		all[name+".all_true"] = vector + "\xfd" + op
		all[name+".bitmask"] = vector + "\xfd" + string([]byte{op[0] + 1}) + op[1:]
	}
	return pieces(all)
}

// shapes make an address from an i32: local 2 is free.
func shapes() []piece {
	all := map[string]string{
		"": "", "shr_u 0": "\x41\x00\x76", "shr_s 0": "\x41\x00\x75", "extend8_s": "\xc0", "extend16_s": "\xc1", "add -1": "\x41\x7f\x6a", "sub 9": "\x41\x09\x6b",
		"used twice": "\x22\x02\x20\x02\x6a", "in a variable": "\x21\x02\x20\x02", "before a loop": "\x21\x02\x03\x7f\x20\x02\x0b",
		"through i64": "\xac\xa7", "through i64, unsigned": "\xad\xa7", "loaded": "\x41\xff\x01\x71\x28\x00\x00",
		"loaded, with a sign": "\x41\xff\x01\x71\x2e\x00\x01", "select": "\x22\x02\x20\x02\x20\x02\x1b",
	}
	for _, by := range []byte{0, 1, 2, 3, 4, 32, 33} {
		all[fmt.Sprintf("shl %d", by)] = "\x41" + string([]byte{by}) + "\x74"
	}
	return pieces(all)
}

// accesses returns all loads and stores, of an address on the stack, which leave an i64.
func accesses() []piece {
	const lanes = "\x22\x03\xfd\x1d\x00\x20\x03\xfd\x1d\x01\x85" // local 3: both halves of a vector
	all := map[string]string{
		"f32.load": "\x2a\x00\x00\xbc\xad", "f64.load": "\x2b\x00\x00\xbd", "load, large offset": "\x28\x00\x80\x80\x80\x40\xad",
		"load, larger offset": "\x28\x00\x80\x80\x80\x80\x08\xad", "f32.store": "\x20\x00\xbe\x38\x00\x00\x42\x00", "f64.store": "\x20\x01\xbf\x39\x00\x00\x42\x00",
		"v128.store": "\x20\x01\xfd\x12\xfd\x0b\x00\x00\x42\x00",
	}
	for op := byte(0x28); op <= 0x35; op++ {
		switch {
		case op == 0x2a || op == 0x2b:
		case op == 0x28 || op >= 0x2c && op <= 0x2f:
			all[fmt.Sprintf("load %x", op)] = string([]byte{op, 0, 3}) + "\xac"
		default:
			all[fmt.Sprintf("load %x", op)] = string([]byte{op, 0, 0})
		}
	}
	for _, op := range []byte{0x36, 0x3a, 0x3b} {
		all[fmt.Sprintf("store %x", op)] = "\x20\x00" + string([]byte{op, 0, 2}) + "\x42\x00"
	}
	for _, op := range []byte{0x37, 0x3c, 0x3d, 0x3e} {
		all[fmt.Sprintf("store %x", op)] = "\x20\x01" + string([]byte{op, 0, 0}) + "\x42\x00"
	}
	for _, op := range []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x5c, 0x5d} { // v128.load, ones that extend, splats, ones that fill with zeros
		all[fmt.Sprintf("v128 load %x", op)] = "\xfd" + string([]byte{op, 0, 0}) + lanes
	}
	for op := byte(0x54); op <= 0x57; op++ { // lanes
		all[fmt.Sprintf("v128 load %x", op)] = "\x20\x03\xfd" + string([]byte{op, 0, 0, 1}) + lanes
		all[fmt.Sprintf("v128 store %x", op+4)] = "\x20\x01\xfd\x12\xfd" + string([]byte{op + 4, 0, 0, 1}) + "\x42\x00"
	}
	return pieces(all)
}

func pieces(all map[string]string) (out []piece) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, piece{name, []byte(all[name])})
	}
	return out
}

// TestAddresses: whatever an address is computed from and used by, it equals the interpreter's: the lower 32 bits of the computed value,
// with zeros above them. The memory has all 32-bit addresses.
func TestAddresses(t *testing.T) {
	needUnchecked(t)
	const seed, pages = 20261129, 1 << 16
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ops := []operation{{"0", []kind{k32, k64}, []kind{k32, kindVector}, k32, func(w *wasm) { w.op(0x20, 0) }}}
	type tested struct{ name, address, access string }
	var all []tested
	uses := accesses()
	for i, s := range sources() {
		for j, shape := range shapes() {
			address := fmt.Sprint(len(ops))
			ops = append(ops, operation{address, []kind{k32, k64}, []kind{k32, kindVector}, k32, func(w *wasm) { w.op(s.code...).op(shape.code...) }})
			for k := range 2 {
				use := uses[(i*7+j*2+k*len(uses)/2)%len(uses)]
				access := fmt.Sprint(len(ops))
				ops = append(ops, operation{access, []kind{k32, k64}, []kind{k32, kindVector}, k64, func(w *wasm) {
					w.op(s.code...).op(shape.code...).op(use.code...)
				}})
				all = append(all, tested{fmt.Sprintf("(%s) (%s) %s", s.name, shape.name, use.name), address, access})
			}
		}
	}
	bin := moduleOf(pages, false, ops)
	wanted, got := newSparse(t, seed, pages*page), newSparse(t, seed, pages*page)
	defer wanted.release()
	defer got.release()
	ctx := experimental.WithMemoryAllocator(context.Background(),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return wanted }))
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer func() { _ = rt.Close(context.Background()) }()
	right, err := rt.Instantiate(ctx, bin)
	if err != nil {
		t.Fatal(err)
	}
	m := instance(t, marked(t, bin), false, within, got)
	ran, high := 0, 0
	inputs := [][2]uint64{{1<<32 - 20, 1 << 63}, {1 << 31, ^uint64(0) - 77}, {1<<29 + 12345, 1<<35 + 8}, {rng.Uint64N(1 << 32), rng.Uint64()}, {uint64(rng.Uint32N(1 << 20)), rng.Uint64() >> 20}}
	for _, one := range all {
		for _, in := range inputs {
			address, trap := call(t, right, one.address, in[0], in[1])
			if trap != nil {
				continue
			}
			at := uint64(uint32(address))
			around := func(s *sparse) []byte { return s.b[max(at, 16)-16 : min(at+32, 1<<32)] }
			for _, far := range []uint64{at, at + 1<<27, at + 1<<31} { // where the offsets lead
				for i := far; i < min(far+32, 1<<32); i++ {
					wanted.b[i] = byte(rng.Uint32())
					got.b[i] = wanted.b[i]
				}
			}
			want, trap := call(t, right, one.access, in[0], in[1])
			if trap != nil {
				continue // outside: unchecked code is only right for accesses that do not trap
			}
			ran++
			high += int(at >> 31)
			if result := mustCall(t, m, one.access, in[0], in[1]); result != want || !bytes.Equal(around(got), around(wanted)) {
				t.Errorf("%s of %#x, %#x, at %#x: %#x, want %#x", one.name, in[0], in[1], at, result, want)
			}
		}
	}
	t.Logf("%d functions, %d accesses, %d of them at 2 GiB or more", len(ops), ran, high)
	if ran < 2*len(all) || high < ran/10 {
		t.Errorf("only %d accesses, %d at 2 GiB or more", ran, high)
	}
}
