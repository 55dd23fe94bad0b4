package lean

import (
	"testing"
	"unsafe"
)

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// TestRandomFunctions: results and memory are those of wazero's interpreter and of its own compiler.
func TestRandomFunctions(t *testing.T) {
	if err := Available(); err != nil {
		t.Fatal(err)
	}
	const seeds = 2000
	ran := 0
	for seed := range uint64(seeds) {
		if compare(t, seed) {
			ran++
		}
	}
	t.Logf("%d of %d modules ran without a trap", ran, seeds)
	if ran < seeds/2 {
		t.Errorf("only %d of %d modules ran without a trap", ran, seeds)
	}
}

func FuzzAgainstStock(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { compare(t, seed) })
}
