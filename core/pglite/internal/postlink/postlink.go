// Package postlink rearranges code that wazero has compiled for amd64, as a post-link optimizer does. It reads a
// module's machine code, function by function, and writes equivalent code with fewer and shorter instructions, and
// fewer jumps on the usual path. It runs nothing: bytes in, bytes out.
//
//	code, begins, err := postlink.Rearrange(code, begins)
//
// wazero 1.12 emits a function's blocks in the order in which they were made, and every jump with a 32-bit
// displacement:
//
//   - If a branch's edge has a block of its own, in which the register allocator then had nothing to do, a branch over a jump remains.
//     Such a block is left out, and the branch inverted.
//   - Code that hardly ever runs lies in between: the paths into a trap, of which each call through a table has three, everything that
//     leads only to a trap, as PostgreSQL's errors do, and the code that grows a function's stack. It moves to the end of the function.
//   - Jumps that reach become short.
//   - Function prologues and epilogues, comparisons with zero, and tests after an and have shorter forms (peephole.go).
//
// Nothing is guessed. A function is understood if every path through it was followed, from its first byte through all
// targets of jumps and jump tables, without meeting an unknown instruction or the inside of another one, and if every
// address points at a function, a table, or past the code, where wazero puts its constants. If one function of a module
// is not understood, the module stays as it is ([ErrUnknown]). Unreachable code is left out.
package postlink

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrUnknown is wrapped if some of the code is not understood.
var ErrUnknown = errors.New("code that is not understood")

// Version changes whenever Rearrange's output for the same code changes.
const Version = 1

// alignment is that of functions, as in wazero.
const alignment = 16

// Rearrange returns the rearranged code of a module, and where the functions begin in it, in the same order. functions
// holds where they begin in code: the first at 0, each where the previous one ends. Errors match [ErrUnknown].
func Rearrange(code []byte, functions []uint64) (out []byte, begins []uint64, err error) {
	w := worker{index: make(map[uint64]int32, len(functions)), out: make([]byte, 0, len(code)+alignment)}
	for i, at := range functions {
		w.index[at] = int32(i)
	}
	begins = make([]uint64, len(functions))
	for i, at := range functions {
		to := uint64(len(code))
		if i+1 < len(functions) {
			to = functions[i+1]
		}
		if at >= to || to > uint64(len(code)) || to-at > maxFunction || i == 0 && at != 0 {
			return nil, nil, fmt.Errorf("%w: function %d begins at %d and ends at %d, of %d bytes", ErrUnknown, i, at, to, len(code))
		}
		w.align(0)
		begins[i] = uint64(len(w.out))
		if err := w.function(at, code[at:to]); err != nil {
			return nil, nil, fmt.Errorf("function %d: %w", i, err)
		}
	}
	w.align(0)
	for _, c := range w.calls {
		binary.LittleEndian.PutUint32(w.out[c.at:], uint32(int64(begins[c.function])-int64(c.at)-4))
	}
	return w.out, begins, nil
}

// maxFunction is the largest size of a function's code, in bytes.
const maxFunction = 1 << 28

// worker arranges one function after another.
type worker struct {
	index map[uint64]int32 // functions by start offset
	out   []byte
	calls []fixup

	f        []byte // the current function; the fields below describe it
	begin    int    // where it begins in out
	state    []state
	at       []int32       // by its first byte: the block
	pending  []uint32      // where to continue
	found    []instruction // in the order they were found
	runs     []span        // runs of found that are also consecutive in the code
	ins      []instruction // in code order
	tables   []span
	consts   uint32 // where its constants begin
	blocks   []block
	order    []int32 // of blocks
	replaced []byte
}

// fixup is the displacement of a call.
type fixup struct {
	at       int
	function int32
}

func (w *worker) align(to int) {
	for len(w.out)%alignment != to {
		w.out = append(w.out, 0)
	}
}

// function arranges the function whose code is f, at offset from in the module's code.
func (w *worker) function(from uint64, f []byte) error {
	w.f, w.begin = f, len(w.out)
	if err := w.walk(from); err != nil {
		return err
	}
	w.split()
	w.peephole()
	w.thread()
	w.chill()
	w.arrange()
	w.relax()
	return w.emit(from)
}
