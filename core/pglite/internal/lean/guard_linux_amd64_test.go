package lean

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

// childVariable tells a child process of these tests which test case it is.
const childVariable = "BLOBPGLITE_TEST_CHILD"

// child runs a test case in a process of its own.
func child(t *testing.T, name string, env ...string) (stdout, stderr string, err error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+test+"$")
	cmd.Env = append(append(os.Environ(), childVariable+"="+name), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

const (
	load8u, load32, load64 = 0x2d, 0x28, 0x29
	store8, store64        = 0x3a, 0x37
)

// loading is a load from the address in its parameter.
func loading(name string, op byte, offset uint64) operation {
	k := k32
	if op == load64 {
		k = k64
	}
	return operation{name, []kind{k32}, nil, k, func(w *wasm) { w.op(0x20, 0, op, 0).u(offset) }}
}

// storing is a store of its second parameter.
func storing(name string, op byte) operation {
	k := k32
	if op == store64 {
		k = k64
	}
	return operation{name, []kind{k32, k}, nil, k, func(w *wasm) { w.op(0x20, 0, 0x20, 1, op, 0, 0, 0x20, 1) }}
}

// memories says where a module gets its memory from.
var memories = map[string]bool{"own": false, "imported": true}

// TestOnlyMarkedWithinCompile: an access outside the memory is a trap, an ordinary error, except in a module that is marked and compiled
// within Compile. (What follows this memory is readable.)
func TestOnlyMarkedWithinCompile(t *testing.T) {
	needUnchecked(t)
	for from, imported := range memories {
		for _, c := range []struct {
			name      string
			marked    bool
			compile   func(func() error) error
			unchecked bool
		}{
			{"marked, within Compile", true, within, true},
			{"not marked, within Compile", false, within, false},
			{"marked, nobody compiles", true, alone, false},
			{"not marked, nobody compiles", false, alone, false},
		} {
			t.Run(from+" memory, "+c.name, func(t *testing.T) {
				s := newSparse(t, 1, 2*page)
				defer s.release()
				bin := smallModule(imported, loading("load", load8u, 0), loading("load 100", load8u, 100), storing("store", store8))
				if c.marked {
					bin = marked(t, bin)
				}
				m := instance(t, bin, imported, c.compile, s)
				for _, at := range []uint64{0, 1, page - 1} {
					if got := mustCall(t, m, "load", at); byte(got) != s.b[at] {
						t.Errorf("the byte at %d: %d, want %d", at, byte(got), s.b[at])
					}
				}
				for _, outside := range []struct {
					name string
					at   uint64
				}{{"load", page}, {"load", 2*page - 1}, {"load 100", page - 100}} {
					got, err := call(t, m, outside.name, outside.at)
					switch at := (outside.at + 100) % page; {
					case !c.unchecked:
						wantTrap(t, err)
					case err != nil:
						t.Errorf("%s at %d: %v", outside.name, outside.at, err)
					case outside.name == "load" && byte(got) != s.b[outside.at], outside.name == "load 100" && byte(got) != s.b[page+at]:
						t.Errorf("%s at %d: %d", outside.name, outside.at, byte(got))
					}
				}
				before := s.b[page+5]
				_, err := call(t, m, "store", page+5, uint64(before^0xff))
				if !c.unchecked {
					wantTrap(t, err)
				} else if err != nil {
					t.Error(err)
				}
				if written := s.b[page+5] != before; written != c.unchecked {
					t.Errorf("a store behind the memory wrote: %v", written)
				}
				mustCall(t, m, "store", page-1, 77)
				if got := mustCall(t, m, "load", page-1); byte(got) != 77 {
					t.Errorf("after all that it loads %d, want the 77 that it stored", got)
				}
			})
		}
	}
}

func wantTrap(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "wasm error: out of bounds memory access") {
		t.Errorf("%v, want a trap", err)
	}
}

// outside are accesses outside a memory of one page, and where they fault, relative to the memory's start.
var outside = map[string]struct {
	operation
	args []uint64
	at   int64
}{
	"the byte behind":                      {loading("", load8u, 0), []uint64{page}, page},
	"the byte behind, by an offset":        {loading("", load8u, page-8), []uint64{8}, page},
	"4 bytes, the last of which is behind": {loading("", load32, 0), []uint64{page - 3}, page},
	"a store of the byte behind":           {storing("", store8), []uint64{page, 1}, page},
	"8 bytes stored, most of them behind":  {storing("", store64), []uint64{page - 1, 1}, page},
	"the largest address":                  {loading("", load8u, 0), []uint64{1<<32 - 1}, 1<<32 - 1},
	"the largest address and offset":       {loading("", load64, 1<<32-1), []uint64{1<<32 - 1}, 1<<33 - 2},
	"the largest address, as a constant":   {constantAddress(false), []uint64{0}, 1<<32 - 1},
	"2 GiB and more, as a constant":        {constantAddress(true), []uint64{0}, 1<<31 + 5},
	"a constant from before a loop":        {constantInVariable(), []uint64{0}, 1<<32 - 1},
	"2 GiB":                                {loading("", load64, 0), []uint64{1 << 31}, 1 << 31},
}

func constantAddress(half bool) operation {
	at := int64(-1)
	if half {
		at = -1<<31 + 5
	}
	return operation{"", []kind{k32}, nil, k32, func(w *wasm) { w.op(0x41).s(at).op(load8u, 0, 0) }}
}

// constantInVariable is an address that looks negative and is found late to be a constant.
func constantInVariable() operation {
	return operation{"", []kind{k32}, nil, k32, func(w *wasm) {
		w.op(0x41).s(-1).op(0x21, 0).op(0x03, byte(k32)).op(0x20, 0, load8u, 0, 0).op(0x0b)
	}}
}

// TestOutsideIsAFault: an access outside the memory of a marked module ends the process, at the first byte outside; one at the memory's
// last byte does not. Wherever it is, it is inside the reservation.
func TestOutsideIsAFault(t *testing.T) {
	needUnchecked(t)
	if name := os.Getenv(childVariable); name != "" {
		accessOutside(t, name)
		return
	}
	for from := range memories {
		for name, c := range outside {
			t.Run(from+", "+name, func(t *testing.T) {
				t.Parallel()
				if c.at < -GuardBefore || c.at >= Reach {
					t.Fatalf("%d is not reserved", c.at)
				}
				stdout, stderr, err := child(t, from+", "+name)
				var exit *exec.ExitError
				// 2, or more if Go's runtime, which does not know compiled code, fails to report where it was.
				if !errors.As(err, &exit) || exit.ExitCode() < 2 {
					t.Fatalf("the process ended with: %v, want exit status 2 or more\n%s%s", err, stdout, stderr)
				}
				var start uint64
				if _, err := fmt.Sscanf(stdout, "memory at 0x%x\nits last byte is right\n", &start); err != nil {
					t.Fatalf("%v: %s%s", err, stdout, stderr)
				}
				want := "unexpected fault address 0x" + strconv.FormatUint(start+uint64(c.at), 16) + "\nfatal error: fault\n[signal SIGSEGV: segmentation violation "
				if !strings.HasPrefix(stderr, want) {
					t.Fatalf("the process says\n%.300s\nwant\n%s", stderr, want)
				}
			})
		}
	}
}

// accessOutside makes such an access, and does not return.
func accessOutside(t *testing.T, name string) {
	from, name, _ := strings.Cut(name, ", ")
	c := outside[name]
	s := newSparse(t, 1, page)
	c.name = "outside"
	bin := marked(t, smallModule(memories[from], c.operation, loading("load", load8u, 0)))
	m := instance(t, bin, memories[from], within, s)
	fmt.Printf("memory at %p\n", ptr(s.b))
	if got := mustCall(t, m, "load", page-1); byte(got) == s.b[page-1] {
		fmt.Println("its last byte is right")
	}
	// Go's runtime makes the goroutine panic on the stack of compiled code, which is in the heap. If that is below the goroutine's own
	// stack, it only says "split stack overflow", so this one is above: the heap grows upwards.
	debug.SetGCPercent(-1)
	deep(64)
	const stacks = 2000 // of 10 KB
	var f [stacks]api.Function
	for i := range f {
		f[i] = m.ExportedFunction("outside")
	}
	got, err := f[stacks-1].Call(t.Context(), c.args...)
	t.Fatalf("it went on, with %d, %v", got, err)
}

// deep makes the goroutine's stack large enough for everything that follows, so that it stays in place.
func deep(n int) (sum byte) {
	var b [1024]byte
	for i := range b {
		b[i] = byte(n + i)
	}
	if n > 0 {
		sum = deep(n - 1)
	}
	return sum + b[n]
}
