// Package postlink arranges code that wazero has compiled for amd64 anew, as a post-link optimizer does. It reads the machine code of a
// module, function by function, and writes what does the same in fewer and shorter instructions, and with fewer jumps on the way that is
// usually taken. It runs nothing: bytes in, bytes out.
//
//	code, begins, err := postlink.Rearrange(code, begins)
//
// wazero 1.12 emits the blocks of a function in the order in which they were made, and each jump with a displacement of 32 bits:
//
//   - Of a branch whose edge has a block of its own, in which the register allocator then had nothing to do, there remains a branch
//     over a jump. Such a block is left out, and the branch turned.
//   - In between lies what is hardly ever run: the ways into a trap, of which each call through a table has three, all that
//     leads to nothing but a trap, as PostgreSQL's errors do, and how a function grows its stack. That goes to the end of the function.
//   - Jumps that reach become short.
//   - What a function begins and ends with, comparisons with zero, and tests that follow an and, have shorter forms (peephole.go).
//
// Nothing is guessed. A function is understood if every way through it was followed, from its first byte over all targets of jumps and
// of jump tables, without meeting an instruction that is not known here, or the inside of another one, and if everything that is an
// address points at a function, a table, or past the code, where wazero has its constants. If one function of a module is not,
// the module stays as it is ([ErrUnknown]). What no way leads to is left out.
package postlink

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrUnknown is wrapped where code is not understood whole.
var ErrUnknown = errors.New("code that is not understood")

// Version changes with what Rearrange makes of the same code.
const Version = 1

// alignment is that of functions, which wazero has too.
const alignment = 16

// Rearrange returns the code of a module in another arrangement, and where in it the functions begin, in the same order. functions is
// where they begin in code: the first at 0, each where the one before has ended. Errors match [ErrUnknown].
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

// maxFunction is how many bytes of code a function may have.
const maxFunction = 1 << 28

// worker arranges one function after the other.
type worker struct {
	index map[uint64]int32 // functions by where they begin
	out   []byte
	calls []fixup

	f        []byte // the function, and what is known of it
	begin    int    // where it begins in out
	state    []state
	at       []int32       // by the byte at which it begins: the block
	pending  []uint32      // where to go on
	found    []instruction // in the order in which they were
	runs     []span        // of found: those that follow each other in the code too
	ins      []instruction // in the order of the code
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

// function arranges the function whose code is f, from a byte of the module's code.
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
