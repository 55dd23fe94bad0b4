package wasmbin

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// originalBody returns the body of an exported function of pglite.wasm.
func originalBody(t *testing.T, bin []byte, name string) []byte {
	t.Helper()
	m := mustParse(t, bin)
	for _, e := range m.Exports {
		if e.Name != name || e.Kind != KindFunc {
			continue
		}
		r, _ := m.sections.reader(secCode)
		r.count(maxVectorLen, "bodies")
		for range int(e.Index) - m.imported[KindFunc] {
			r.sub(r.u32("body size"), "body")
		}
		body := r.sub(r.u32("body size"), "body")
		if body.err != nil {
			t.Fatal(body.err)
		}
		return bin[body.pos:body.end]
	}
	t.Fatalf("%s is not exported", name)
	return nil
}

// Each replacement recognizes its function in the module in use; if this fails after an update of PGlite, compare the sources before you
// take the new hash.
func TestReplacementsKnowTheirFunctions(t *testing.T) {
	bin := readReal(t, realSet(t).PGliteWasm())
	for _, r := range replacements() {
		sum := sha256.Sum256(originalBody(t, bin, r.name))
		if got := hex.EncodeToString(sum[:]); got != r.sum {
			t.Errorf("%s: the body has SHA-256 %s, expected %s", r.name, got, r.sum)
		}
	}
}

// The original and the replacement give the same results for the same pages, and leave memory alike.
func TestChecksumMatchesTheOriginal(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const pages = checksumBases/pageBytes + 2
	real := readReal(t, realSet(t).PGliteWasm())
	data, err := mustParse(t, real).DataSegments()
	if err != nil {
		t.Fatal(err)
	}
	rt := newRuntime(t)
	var mods []api.Module
	for _, code := range [][]byte{originalBody(t, real, "pg_checksum_page"), checksumBody(checksumBases)} {
		bin := rawModule(
			rawSection{secType, vec(appendFuncType(nil, FuncType{Params: []ValType{I32, I32}, Results: []ValType{I32}}))},
			rawSection{secFunction, vec([]byte{0})},
			rawSection{secMemory, vec([]byte{0, pages})},
			rawSection{secGlobal, vec(append(appendS32([]byte{byte(I32), 1, opI32Const}, 1<<20), opEnd))},
			rawSection{secExport, vec(appendExport(nil, Export{Name: "f", Kind: KindFunc}), appendExport(nil, Export{Name: "memory", Kind: KindMemory}))},
			rawSection{secCode, vec(appendSized(nil, code))},
		)
		m := instantiate(t, rt, bin, "")
		for _, seg := range data {
			if mem := memoryOf(t, m); int64(seg.Offset) < int64(len(mem)) {
				copy(mem[seg.Offset:], seg.Data)
			}
		}
		mods = append(mods, m)
	}
	for i := range 200 {
		page := make([]byte, checksumPage)
		if i > 0 {
			for j := range page {
				page[j] = byte(rng.Uint32())
			}
		}
		at, block := 64+rng.Uint64N(1000), uint64(rng.Uint32())
		if i%20 == 1 {
			at = uint64(len(memoryOf(t, mods[0])) - checksumPage)
		}
		var sums [2]uint64
		for k, m := range mods {
			copy(memoryOf(t, m)[at:], page)
			sums[k] = mustCall1(t, m, "f", at, block)
			if got := memoryOf(t, m)[at : at+checksumPage]; string(got) != string(page) {
				t.Fatalf("page %d was changed", i)
			}
		}
		if sums[0] != sums[1] || sums[0] == 0 || sums[0] > 65535 {
			t.Fatalf("page %d, block %d: %d by the original, %d by the replacement", i, block, sums[0], sums[1])
		}
	}
	for _, m := range mods {
		if _, err := call1(t, m, "f", uint64(len(memoryOf(t, m))-checksumPage+1), 0); err == nil {
			t.Error("a page over the end of memory did not trap")
		}
	}
}
