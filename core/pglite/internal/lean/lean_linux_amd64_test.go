package lean

import (
	"fmt"
	"sync/atomic"
	"testing"
	"unsafe"
)

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// needUnchecked fails a test of this package where the package does nothing.
func needUnchecked(t testing.TB) {
	t.Helper()
	if err := Available(); err != nil {
		t.Fatal(err)
	}
}

// TestRandomFunctions: results and memory equal those of wazero's interpreter and of its own compiler.
func TestRandomFunctions(t *testing.T) {
	needUnchecked(t)
	const seeds, shards = 2000, 2
	var ran atomic.Int32
	t.Run("shards", func(t *testing.T) {
		for shard := range uint64(shards) {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for seed := shard; seed < seeds; seed += shards {
					if compare(t, seed) {
						ran.Add(1)
					}
				}
			})
		}
	})
	t.Logf("%d of %d modules ran without a trap", ran.Load(), seeds)
	if ran.Load() < seeds/2 {
		t.Errorf("only %d of %d modules ran without a trap", ran.Load(), seeds)
	}
}

func FuzzAgainstStock(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { compare(t, seed) })
}
