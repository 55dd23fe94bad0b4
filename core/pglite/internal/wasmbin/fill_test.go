package wasmbin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// twins are the rewritten module and the reference, with the same memory.
type twins struct {
	helper, real api.Module
}

func newTwins(tb testing.TB, pages, max byte) twins {
	tb.Helper()
	rt := newRuntime(tb)
	rewritten, stats, err := rewriteMain(fillModule(pages, max), arrangeChecks)
	if err != nil {
		tb.Fatal(err)
	}
	if stats.fills != 1 {
		tb.Fatalf("replaced %d fills, want 1", stats.fills)
	}
	return twins{
		helper: instantiate(tb, rt, rewritten, "helper"),
		real:   instantiate(tb, rt, definedFillModule(tb, pages, max), "real"),
	}
}

func memoryOf(tb testing.TB, m api.Module) []byte {
	tb.Helper()
	mem := m.Memory()
	b, ok := mem.Read(0, mem.Size())
	if !ok {
		tb.Fatal("memory cannot be read")
	}
	return b
}

// fill runs the same fill on both and compares outcome and memory.
func (tw twins) fill(t *testing.T, dst, value, n uint32) {
	t.Helper()
	args := []uint64{uint64(dst), uint64(value), uint64(n)}
	_, helperErr := call1(t, tw.helper, "fill", args...)
	_, realErr := call1(t, tw.real, "fill", args...)
	if (helperErr != nil) != (realErr != nil) {
		t.Fatalf("fill(%d, %#x, %d): helper %v, memory.fill %v", dst, value, n, helperErr, realErr)
	}
	if !bytes.Equal(memoryOf(t, tw.helper), memoryOf(t, tw.real)) {
		t.Fatalf("fill(%d, %#x, %d): memories differ", dst, value, n)
	}
}

// scramble gives both memories the same random bytes.
func (tw twins) scramble(t *testing.T, rng *rand.Rand) {
	t.Helper()
	b := memoryOf(t, tw.helper)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	copy(memoryOf(t, tw.real), b)
}

func TestFillMatchesMemoryFill(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	tw := newTwins(t, 1, 2)
	const size = 1<<16 + GuardBytes
	tw.scramble(t, rng)
	for n := range uint32(601) {
		tw.fill(t, 100+n%16, 0x1234_5600+n, n) // only the low byte matters
		tw.fill(t, size-n, 0x80|n, n)          // ends with the memory
		tw.fill(t, size-n+1, 0xff, n)          // one byte too far
		tw.fill(t, 0, n, n)
		tw.fill(t, 0xffff_ffff-n+1, 7, n) // dst+n is 2^32
		tw.fill(t, 0xffff_ffff, 7, n)     // dst+n wraps
	}
	for _, n := range []uint32{1023, 1024, 1025, fillShort - 1, fillShort, fillShort + 1, 1 << 15, size, size + 1, 1 << 31, 0xffff_ffff} {
		tw.fill(t, 0, 0xa5, n)
		tw.fill(t, 1, 0x5a, n)
	}
}

func TestFillSeesGrownMemory(t *testing.T) {
	tw := newTwins(t, 1, 3)
	const size = 1<<16 + GuardBytes
	tw.fill(t, size-8, 1, 32)
	for _, m := range []api.Module{tw.helper, tw.real} {
		if _, ok := m.Memory().Grow(1); !ok {
			t.Fatal("memory did not grow")
		}
	}
	tw.fill(t, size-8, 1, 32)
	const grown = size + 1<<16
	tw.fill(t, grown-16, 2, 16)
	tw.fill(t, grown-15, 3, 16)
	tw.fill(t, grown, 3, 0)
	tw.fill(t, grown+1, 3, 0)
}

// A trap must leave every byte before the end of memory unchanged.
func TestFillTrapsBeforeItWrites(t *testing.T) {
	tw := newTwins(t, 1, 1)
	mem := memoryOf(t, tw.helper)
	before := bytes.Clone(mem)
	for n := uint32(1); n <= 600; n++ {
		if _, err := call1(t, tw.helper, "fill", uint64(1<<16+GuardBytes-n+1), 0xee, uint64(n)); err == nil {
			t.Fatalf("fill of %d bytes over the end did not trap", n)
		}
		if !bytes.Equal(mem, before) {
			t.Fatalf("fill of %d bytes over the end wrote something", n)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	for _, n := range []uint64{7, 16, 48, 128, 512, 2048} {
		for name, rewrite := range map[string]bool{"helper": true, "memory.fill": false} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				tw := newTwins(b, 1, 1)
				m := tw.real
				if rewrite {
					m = tw.helper
				}
				fn, stack := m.ExportedFunction("fill"), make([]uint64, 3)
				for b.Loop() {
					stack[0], stack[1], stack[2] = 64, 0, n
					if err := fn.CallWithStack(b.Context(), stack); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
