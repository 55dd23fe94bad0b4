package pglite

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/layout"
)

// A table that does not fit the binary is detected before the first process is made.
func TestSelfTest(t *testing.T) {
	rt := testRuntime(t)
	table := rt.places.layout
	defer func() { rt.places.layout = table }()
	for _, tt := range []struct {
		change func(*layout.Layout)
		want   string
	}{
		{func(l *layout.Layout) { l.Sizes["PGPROC"] += 8 }, "PGPROC 1"},
		{func(l *layout.Layout) { l.Addresses["ProcGlobal"] += 4 }, "ProcGlobal"},
		{func(l *layout.Layout) { l.Addresses["sigactions"]-- }, "wrapper_handler"},
		{func(l *layout.Layout) { l.Slots["BackendMain"]++ }, `"backend" with slot`},
		{func(l *layout.Layout) { l.Addresses["IsUnderPostmaster"] = 1<<32 - 1 }, "IsUnderPostmaster"},
	} {
		wrong := *table
		wrong.Sizes, wrong.Addresses, wrong.Slots = maps.Clone(table.Sizes), maps.Clone(table.Addresses), maps.Clone(table.Slots)
		tt.change(&wrong)
		rt.places.layout = &wrong
		data, err := rt.Template(t.Context(), memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := rt.StartCluster(t.Context(), ClusterOptions{Data: data})
		if err == nil {
			c.Kill()
		}
		if !errors.Is(err, layout.ErrWrong) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
