package postlink

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// tableOf returns the table that follows a block; empty: none does.
func (w *worker) tableOf(b *block) span {
	if b.end == b.begin || w.ins[b.end-1].kind != indirect {
		return span{}
	}
	i, _ := slices.BinarySearchFunc(w.tables, w.ins[b.end-1].next(), func(t span, at uint32) int { return cmp.Compare(t.at, at) })
	return w.tables[i]
}

// length returns a block's size in the output, in bytes.
func (w *worker) length(b *block) int {
	t := w.tableOf(b)
	n := b.size + int(t.end-t.at)
	_, branch, jump := b.ends()
	if branch >= 0 {
		n += branchBytes(b.long[0])
	}
	if jump >= 0 {
		n += jumpBytes(b.long[1])
	}
	return n
}

func branchBytes(long bool) int {
	if long {
		return 6
	}
	return 2
}

func jumpBytes(long bool) int {
	if long {
		return 5
	}
	return 2
}

// relax finds the blocks' positions, and which branches and jumps must be long.
func (w *worker) relax() {
	for changed := true; changed; {
		changed = false
		at := 0
		for _, i := range w.order {
			w.blocks[i].at = at
			at += w.length(&w.blocks[i])
		}
		for _, i := range w.order {
			b := &w.blocks[i]
			at := b.at + b.size
			_, branch, jump := b.ends()
			if branch >= 0 {
				at += branchBytes(b.long[0])
				changed = w.lengthen(&b.long[0], branch, at) || changed
			}
			if jump >= 0 {
				at += jumpBytes(b.long[1])
				changed = w.lengthen(&b.long[1], jump, at) || changed
			}
		}
	}
}

// lengthen makes a jump that ends at offset at a long one, if it must be.
func (w *worker) lengthen(long *bool, to int32, at int) bool {
	if d := w.blocks[to].at - at; *long || d == int(int8(d)) {
		return false
	}
	*long = true
	return true
}

// emit writes the function.
func (w *worker) emit(from uint64) error {
	last := &w.blocks[w.order[len(w.order)-1]]
	consts := w.begin + last.at + w.length(last)
	if int(w.consts) < len(w.f) { // with their original alignment
		consts += (int(w.consts) - (consts - w.begin)) & (alignment - 1)
	}
	for _, i := range w.order {
		b := &w.blocks[i]
		if err := w.emitBlock(b, from, consts); err != nil {
			return err
		}
		if got := len(w.out) - w.begin - b.at; got != w.length(b) {
			return fmt.Errorf("%w: a block of %d bytes instead of %d", ErrUnknown, got, w.length(b))
		}
	}
	if int(w.consts) < len(w.f) {
		w.align(consts % alignment)
		w.out = append(w.out, w.f[w.consts:]...)
	}
	return nil
}

// emitBlock writes one block. The function's constants will be at consts.
func (w *worker) emitBlock(b *block, from uint64, consts int) error {
	t := w.tableOf(b)
	for i := b.begin; i < b.end; {
		in := &w.ins[i]
		if in.with >= 0 {
			w.out = append(w.out, w.replaced[in.with:in.with+int32(in.out)]...)
			i++
			continue
		}
		last := in // the last of those copied together
		for i++; i < b.end && last.kind != call && last.kind != relative && w.ins[i].with < 0; i++ {
			last = &w.ins[i]
		}
		disp := len(w.out) + int(last.at-in.at) + int(last.disp)
		w.out = append(w.out, w.f[in.at:last.next()]...)
		switch last.kind {
		case call:
			w.calls = append(w.calls, fixup{disp, w.index[from+uint64(int64(last.target))]})
		case relative:
			to := consts + int(last.target) - int(w.consts)
			if uint32(last.target) < w.consts {
				if uint32(last.target) != t.at {
					return fmt.Errorf("%w: the table at %d is another block's", ErrUnknown, last.target)
				}
				to = w.begin + b.at + b.size
			}
			binary.LittleEndian.PutUint32(w.out[disp:], uint32(int32(to-len(w.out))))
		}
	}
	begin := len(w.out)
	for p := t.at; p < t.end; p += 8 {
		to := w.through(w.at[w.way(t, p)])
		w.out = binary.LittleEndian.AppendUint64(w.out, uint64(int64(w.begin+w.blocks[to].at-begin)))
	}
	cond, branch, jump := b.ends()
	if branch >= 0 {
		w.jump(branch, b.long[0], []byte{0x70 | cond}, []byte{0x0f, 0x80 | cond})
	}
	if jump >= 0 {
		w.jump(jump, b.long[1], []byte{0xeb}, []byte{0xe9})
	}
	return nil
}

// jump writes a jump to a block.
func (w *worker) jump(to int32, long bool, short8, long32 []byte) {
	target := w.begin + w.blocks[to].at
	if long {
		w.out = append(w.out, long32...)
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(int32(target-len(w.out)-4)))
		return
	}
	w.out = append(w.out, short8...)
	w.out = append(w.out, byte(int8(target-len(w.out)-1)))
}
