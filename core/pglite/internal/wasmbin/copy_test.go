package wasmbin

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// copyModule has a memory of the given pages and one function "copy", a memory.copy.
func copyModule(pages byte) []byte {
	return rawModule(
		rawSection{secType, vec(appendFuncType(nil, helperType()))},
		rawSection{secFunction, vec([]byte{0})},
		rawSection{secMemory, vec([]byte{0, pages})},
		rawSection{secExport, vec(appendExport(nil, Export{Name: "copy", Kind: KindFunc}), appendExport(nil, Export{Name: "memory", Kind: KindMemory}))},
		rawSection{secCode, vec(body(opLocalGet, 0, opLocalGet, 1, opLocalGet, 2, opMisc, miscMemoryCopy, 0, 0))},
	)
}

func newCopyTwins(tb testing.TB) twins {
	tb.Helper()
	rt := newRuntime(tb)
	rewritten, stats, err := rewriteMain(copyModule(1), leaveChecks)
	if err != nil || stats.copies != 1 {
		tb.Fatalf("%+v (%v), want one copy replaced", stats, err)
	}
	return twins{
		helper: instantiate(tb, rt, rewritten, "helper"),
		real:   instantiate(tb, rt, copyModule(2), "real"),
	}
}

// copy runs the same copy on both and compares outcome and memory.
func (tw twins) copy(t *testing.T, dst, src, n uint32) {
	t.Helper()
	args := []uint64{uint64(dst), uint64(src), uint64(n)}
	_, helperErr := call1(t, tw.helper, "copy", args...)
	_, realErr := call1(t, tw.real, "copy", args...)
	if (helperErr != nil) != (realErr != nil) {
		t.Fatalf("copy(%d, %d, %d): helper %v, memory.copy %v", dst, src, n, helperErr, realErr)
	}
	if !bytes.Equal(memoryOf(t, tw.helper), memoryOf(t, tw.real)) {
		t.Fatalf("copy(%d, %d, %d): memories differ", dst, src, n)
	}
}

// The helper and memory.copy do the same, including overlapping ranges, at the end of memory, and beyond it, where nothing is written.
func TestCopyMatchesMemoryCopy(t *testing.T) {
	const seed = 12
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	tw := newCopyTwins(t)
	const size = 1<<16 + GuardBytes
	tw.scramble(t, rng)
	for n := range uint32(2*copyShort + 10) {
		tw.copy(t, 1000+n%16, 3000+n%7, n)
		for _, by := range []uint32{1, 3, 8, 15, 16, 17, n / 2, n} { // overlapping, in both directions
			tw.copy(t, 2000, 2000+by, n)
			tw.copy(t, 2000+by, 2000, n)
		}
		tw.copy(t, size-n, 10, n) // ends with the memory
		tw.copy(t, 10, size-n, n)
		tw.copy(t, size-n+1, 10, n) // one byte too far
		tw.copy(t, 10, size-n+1, n)
		tw.copy(t, 0xffff_ffff, 0, n) // dst+n wraps
		tw.copy(t, 0, 0xffff_ffff, n)
	}
	for _, n := range []uint32{1023, 1 << 15, size, size + 1, 1 << 31, 0xffff_ffff} {
		tw.copy(t, 0, 1, n)
		tw.copy(t, 1, 0, n)
	}
	for range 5000 {
		n := rng.Uint32N(copyShort + 20)
		at := rng.Uint32N(1 << 12)
		tw.copy(t, at, at+rng.Uint32N(2*n+1), n)
		tw.copy(t, at+rng.Uint32N(2*n+1), at, n)
	}
}

func BenchmarkCopy(b *testing.B) {
	for _, n := range []uint64{7, 16, 48, 128, 512, 2048} {
		tw := newCopyTwins(b)
		for name, m := range map[string]api.Module{"helper": tw.helper, "memory.copy": tw.real} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				fn, stack := m.ExportedFunction("copy"), make([]uint64, 3)
				for b.Loop() {
					stack[0], stack[1], stack[2] = 64, 8192, n
					if err := fn.CallWithStack(b.Context(), stack); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
