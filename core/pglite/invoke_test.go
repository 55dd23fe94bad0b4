package pglite

import (
	"bytes"
	"testing"
)

// TestInvokeAllocatesNothing: a call that the guest makes through the host, as each function with a setjmp does for each of its calls,
// allocates nothing, whatever its result and arguments.
func TestInvokeAllocatesNothing(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	conn := dial(t, c)
	value(t, conn, "SELECT 1")
	c.Locked(func() {
		var in *Instance
		for _, p := range c.Processes() {
			if p.kind == KindClient {
				in = p.in
			}
		}
		at := bytes.IndexByte(in.mem.b[1<<12:], 'P') + 1<<12 // a text
		text := in.mem.cstr(uint32(at))
		const utf8 = 6
		for _, f := range []struct {
			name, sig string
			args      []uint64
			want      uint64
		}{
			{"strlen", "ii", []uint64{uint64(at)}, uint64(len(text))}, {"GetDatabaseEncoding", "i", nil, utf8},
			{"strcmp", "iii", []uint64{uint64(at), uint64(at)}, 0},
		} {
			slot, ok := in.program.elems[in.program.funcs[f.name]]
			if !ok {
				t.Fatalf("%s is not in the table", f.name)
			}
			call, stack := invoke(sigOf(f.sig)), make([]uint64, 1+len(f.args))
			one := func() {
				stack[0] = uint64(slot)
				copy(stack[1:], f.args)
				call(in, stack)
			}
			one() // the first call looks it up
			if got := uint64(uint32(stack[0])); got != f.want {
				t.Errorf("%s gives %d, want %d", f.name, got, f.want)
			}
			if n := testing.AllocsPerRun(1000, one); n > 0 {
				t.Errorf("a call of %s allocates %.0f times", f.name, n)
			}
		}
	})
}
