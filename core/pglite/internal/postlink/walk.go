package postlink

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// state is what is known about a byte of the function.
type state uint8

const (
	first    state = 1 << iota // of an instruction
	targeted                   // something jumps there
	tabled                     // a jump table begins
)

// span is a range of bytes of the function, or of instructions.
type span struct{ at, end uint32 }

// walk finds the instructions and tables on all paths through the function, and where its constants begin.
func (w *worker) walk(from uint64) error {
	if n := len(w.f); cap(w.state) < n {
		w.state, w.at = make([]state, 2*n), make([]int32, 2*n)
	}
	w.state, w.at = w.state[:len(w.f)], w.at[:len(w.f)]
	clear(w.state)
	w.found, w.runs, w.tables, w.pending = w.found[:0], w.runs[:0], w.tables[:0], append(w.pending[:0], 0)
	for len(w.pending) > 0 {
		at := w.pending[len(w.pending)-1]
		w.pending = w.pending[:len(w.pending)-1]
		begin := uint32(len(w.found))
		if err := w.run(at, from); err != nil {
			return err
		}
		if end := uint32(len(w.found)); begin < end {
			w.runs = append(w.runs, span{begin, end})
		}
	}
	slices.SortFunc(w.runs, func(a, b span) int { return cmp.Compare(w.found[a.at].at, w.found[b.at].at) })
	slices.SortFunc(w.tables, func(a, b span) int { return cmp.Compare(a.at, b.at) })
	w.ins = w.ins[:0]
	for _, r := range w.runs {
		w.ins = append(w.ins, w.found[r.at:r.end]...)
	}
	return w.consistent()
}

// consistent checks that nothing overlaps, that every jump target is an instruction, and that every address is that of
// a table or of a constant, which come after all code.
func (w *worker) consistent() error {
	end, table := uint32(0), 0
	for i := range w.ins {
		in := &w.ins[i]
		if in.at < end {
			return fmt.Errorf("%w: instructions overlap at %d", ErrUnknown, in.at)
		}
		if end = in.next(); in.kind == indirect {
			end = w.tables[table].end
			table++
		}
		if (in.kind == jump || in.kind == branch) && w.state[in.target]&first == 0 {
			return fmt.Errorf("%w: a jump to %d", ErrUnknown, in.target)
		}
	}
	for _, t := range w.tables {
		for p := t.at; p < t.end; p += 8 {
			if w.state[w.way(t, p)]&first == 0 {
				return fmt.Errorf("%w: a jump to %d", ErrUnknown, w.way(t, p))
			}
		}
	}
	w.consts = uint32(len(w.f))
	for i := range w.ins {
		in := &w.ins[i]
		if in.kind != relative {
			continue
		}
		if in.target < 0 || int(in.target) >= len(w.f) || uint32(in.target) < end && w.state[in.target]&tabled == 0 {
			return fmt.Errorf("%w: the address at %d is no constant's", ErrUnknown, in.at)
		}
		if uint32(in.target) >= end {
			w.consts = min(w.consts, uint32(in.target))
		}
	}
	return nil
}

// run follows the code from one byte to where it ends, or is already known.
func (w *worker) run(at uint32, from uint64) error {
	begin := len(w.found)
	for {
		if int(at) >= len(w.f) {
			return fmt.Errorf("%w: it goes on past its end", ErrUnknown)
		}
		if w.state[at]&first != 0 {
			return nil
		}
		w.found = append(w.found, instruction{})
		in := &w.found[len(w.found)-1]
		if !decode(w.f[at:], in) {
			return fmt.Errorf("%w: % x at %d", ErrUnknown, w.f[at:min(int(at)+12, len(w.f))], at)
		}
		w.state[at] |= first
		in.at = at
		in.target += int32(at)
		at = in.next()
		switch in.kind {
		case jump:
			return w.reach(int64(in.target))
		case branch:
			if err := w.reach(int64(in.target)); err != nil {
				return err
			}
		case indirect:
			return w.table(w.found[begin:])
		case end, trap:
			return nil
		case call:
			if _, ok := w.index[from+uint64(int64(in.target))]; !ok {
				return fmt.Errorf("%w: the call at %d is of no function", ErrUnknown, in.at)
			}
		}
	}
}

// reach notes that something jumps to a byte.
func (w *worker) reach(to int64) error {
	if to < 0 || to >= int64(len(w.f)) {
		return fmt.Errorf("%w: a jump to %d", ErrUnknown, to)
	}
	if w.state[to]&(first|targeted) == 0 {
		w.pending = append(w.pending, uint32(to))
	}
	w.state[to] |= targeted
	return nil
}

// maxLowering is the maximum number of instructions that a jump by a table takes, including what the register allocator
// puts in between.
const maxLowering = 24

// table reads the jump table after the indirect jump that ends a run:
//
//	mov last, ways-1
//	cmp way, last
//	cmovae way, last
//	lea to, [table]
//	add to, [to + 8*way]
//	jmp to
//	table: of eight bytes, from the table's beginning
func (w *worker) table(run []instruction) error {
	n := len(run)
	t := span{at: run[n-1].next()}
	addressed := false
	for i := n - 2; i >= 0 && i >= n-maxLowering && t.end == 0; i-- {
		in := &run[i]
		b := w.f[in.at:in.next()]
		switch {
		case in.kind == relative && in.target == int32(t.at):
			addressed = true
		case addressed && len(b) == 6 && b[0]&0xf0 == 0x40 && b[1]&0xf8 == 0xb8, addressed && len(b) == 5 && b[0]&0xf8 == 0xb8:
			ways := uint64(binary.LittleEndian.Uint32(b[len(b)-4:])) + 1
			if 8*ways > uint64(len(w.f))-uint64(t.at) {
				return fmt.Errorf("%w: a jump table of %d ways at %d", ErrUnknown, ways, t.at)
			}
			t.end = t.at + uint32(8*ways)
		}
	}
	if t.end == 0 {
		return fmt.Errorf("%w: an indirect jump at %d", ErrUnknown, run[n-1].at)
	}
	w.state[t.at] |= tabled
	w.tables = append(w.tables, t)
	for p := t.at; p < t.end; p += 8 {
		if err := w.reach(w.way(t, p)); err != nil {
			return err
		}
	}
	return nil
}

// way returns where the table entry at p leads.
func (w *worker) way(t span, p uint32) int64 {
	return int64(t.at) + int64(binary.LittleEndian.Uint64(w.f[p:]))
}
