package lean

import (
	"testing"

	"github.com/tetratelabs/wazero"
)

// TestShortTable: the table of dominators that a large function needs is gone for the small one that follows.
func TestShortTable(t *testing.T) {
	needUnchecked(t)
	loads := func(ifs int) operation {
		return operation{"loads", []kind{k32}, nil, k32, func(w *wasm) {
			for range ifs {
				w.op(0x20, 0, 0x04, 0x40, 0x20, 0).op(load32, 0).u(12).op(0x21, 0, 0x0b)
			}
			w.op(0x20, 0)
		}}
	}
	const small, large = 3, 600
	rows := func(sizes ...int) (rows int) {
		var ops []operation
		for i, n := range sizes {
			o := loads(n)
			o.name += string(rune('a' + i))
			ops = append(ops, o)
		}
		rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigCompiler())
		defer rt.Close(t.Context())
		if err := Compile(func() error {
			_, err := rt.CompileModule(t.Context(), marked(t, smallModule(false, ops...)))
			for _, f := range *functions.Load() {
				rows = max(rows, len(f.b.tree.table))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return rows
	}
	if n := rows(large); n < 2*large {
		t.Fatalf("a function with %d ifs has a table of %d rows: this test says nothing", large, n)
	}
	if n := rows(large, small); n > keptRows {
		t.Errorf("after a small function the table has %d rows, want at most %d", n, keptRows)
	}
	if n := rows(small, large); n < 2*large {
		t.Errorf("a function with %d ifs after a small one has a table of %d rows", large, n)
	}
}
