package engine

import (
	"context"
	"fmt"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// TestLayersShare: a layer uploads what has changed since the last one, in this life or the previous one; what is written during an upload
// is in the next; and whatever was shared is still there when the previous layers are gone.
func TestLayersShare(t *testing.T) {
	t.Parallel()
	st := store.Count(mem.New(mem.Options{}))
	var during func()
	options := func(o *Options) {
		o.RestoreBudget = -1
		o.Hook = func(_ context.Context, p point.Point) error {
			if f := during; p == point.BaseAfterSegment && f != nil {
				during = nil
				f()
			}
			return nil
		}
	}
	e := open(t, st, inLog, options)
	must(t, e, "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 20) AS pad FROM generate_series(1, 20000) g")
	must(t, e, "ALTER TABLE t ADD PRIMARY KEY (id)")
	must(t, e, "VACUUM t") // hint bits are set, once
	compact := func() (bytes int64) {
		t.Helper()
		before := st.Ops().BytesUp
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		return st.Ops().BytesUp - before
	}
	first := compact()
	rows := 20000
	for life := range 3 {
		for range 2 {
			must(t, e, "UPDATE t SET pad = 'x' WHERE id % 4001 = 0")
			during = func() {
				for range 5 {
					rows++
					must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d, 'during')", rows))
				}
				must(t, e, "UPDATE t SET pad = 'during' WHERE id = 77")
				must(t, e, "CHECKPOINT")
			}
			if bytes := compact(); bytes*4 > first {
				t.Errorf("life %d: a layer of little took %d bytes, the first one %d", life, bytes, first)
			}
		}
		want := must(t, e, "SELECT count(*) || ' ' || md5(string_agg(id || pad, ',' ORDER BY id)) FROM t")
		e.Abandon()
		if _, err := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true}); err != nil {
			t.Errorf("life %d: %v", life, err)
		}
		e = open(t, st, inLog, options)
		if got := must(t, e, "SELECT count(*) || ' ' || md5(string_agg(id || pad, ',' ORDER BY id)) FROM t"); got != want {
			t.Errorf("life %d: %s, was %s", life, got, want)
		}
		must(t, e, "SET enable_seqscan = off; SELECT count(*) FROM t WHERE id > 0")
	}
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	l := m.Layers[len(m.Layers)-1]
	segments := 0
	for _, err := range st.List(t.Context(), base.SegmentPrefix(), "") {
		if err != nil {
			t.Fatal(err)
		}
		segments++
	}
	if len(m.Layers) != 1 || l.Segments < 2 || segments != l.Segments || m.Format != manifest.Format {
		t.Errorf("format %d, %d layers, %d segments are named and %d are there", m.Format, len(m.Layers), l.Segments, segments)
	}
}
