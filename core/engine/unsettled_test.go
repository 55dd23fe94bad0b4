package engine

import (
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

// TestUnsettledIsTold: the amount that is in no layer yet is reported even where there is plenty of room: soon after it was written, and
// again when a layer has it.
func TestUnsettledIsTold(t *testing.T) {
	e := open(t, mem.New(mem.Options{}), inLog, func(o *Options) { o.Cache, o.RestoreBudget = 1<<30, -1 })
	must(t, e, "CREATE TABLE t AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 20000) g; CHECKPOINT")
	told := func(what string, right func(told, is int64) bool) {
		t.Helper()
		clk := clock.System()
		said, is := int64(0), int64(0)
		for end := clk.Monotonic() + 30*time.Second; clk.Monotonic() < end; {
			if err := e.server.locked(func(c *pglite.Cluster) { is = c.Data().UnsettledBytes(pglite.KeepResident) }); err != nil {
				t.Fatal(err)
			}
			if said = e.Stats().Cache.Unsettled; right(said, is) {
				return
			}
			if err := clk.Sleep(t.Context(), time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		t.Errorf("%s: %d bytes are told of, and it is %d", what, said, is)
	}
	near := func(told, is int64) bool { return told > is-wakeBytes && told < is+wakeBytes }
	told("written", func(told, is int64) bool { return is > 12<<20 && near(told, is) })
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	told("in a layer", func(told, is int64) bool { return is < 2*memfs.ChunkSize+wakeBytes && near(told, is) })
}
