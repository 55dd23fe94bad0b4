package mem_test

import (
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) store.Store { return mem.New(mem.Options{}) })
}

// Generations are unique across the whole store, which is more than the contract requires; checkers rely on it.
func TestGenerationsAreUniqueAcrossKeys(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	last := store.Gen(0)
	for _, key := range []string{"a", "b", "a", "c"} {
		gen, err := st.Put(t.Context(), key, nil, "", store.Always())
		if err != nil {
			t.Fatal(err)
		}
		if gen <= last {
			t.Fatalf("put %q: generation %d does not rise above %d", key, gen, last)
		}
		last = gen
	}
}

func TestUpdatedComesFromTheClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	clk := clock.NewVirtual(start)
	st := mem.New(mem.Options{Clock: clk})
	clk.Advance(time.Hour)
	if _, err := st.Put(t.Context(), "key", nil, "", store.Always()); err != nil {
		t.Fatal(err)
	}
	o, err := st.Get(t.Context(), "key")
	if err != nil || !o.Updated.Equal(start.Add(time.Hour)) {
		t.Fatalf("updated %v, error %v; want %v", o.Updated, err, start.Add(time.Hour))
	}
}
