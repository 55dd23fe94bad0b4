package postlink

import "encoding/binary"

const (
	pushRBP   = "\x55"
	movRBPRSP = "\x48\x89\xe5"     // mov rbp, rsp
	movRSPRBP = "\x48\x89\xec"     // mov rsp, rbp
	cmpRSP    = "\x48\x3b\x60\x28" // cmp rsp, [rax+0x28], the limit of the stack
	cmpRBP    = "\x48\x3b\x68\x28"
	callGrow  = "\xff\x50\x50" // call [rax+0x50]
	popRBP    = 0x5d
	condAbove = 7
)

// bytes returns an instruction's original bytes.
func (w *worker) bytes(i int) string {
	in := &w.ins[i]
	return string(w.f[in.at:in.next()])
}

func (w *worker) replace(i int, with string) {
	in := &w.ins[i]
	in.with, in.out = int32(len(w.replaced)), uint8(len(with))
	w.replaced = append(w.replaced, with...)
}

// peephole replaces instructions by shorter forms.
func (w *worker) peephole() {
	w.replaced = w.replaced[:0]
	w.prologue()
	for i := range w.blocks {
		b := &w.blocks[i]
		for k := b.begin; k < b.end; k++ {
			if in := &w.ins[k]; in.disp == mayShorten && in.kind == plain {
				w.zero(k, k > b.begin)
			}
		}
	}
}

// adjusts returns how much an instruction adds to (addRSP) or subtracts from (subRSP) the stack pointer.
func (w *worker) adjusts(i int, modrm byte) (by int32, ok bool) {
	in := &w.ins[i]
	b := w.f[in.at:in.next()]
	switch {
	case len(b) == 4 && b[0] == 0x48 && b[1] == 0x83 && b[2] == modrm:
		return int32(int8(b[3])), true
	case len(b) == 7 && b[0] == 0x48 && b[1] == 0x81 && b[2] == modrm:
		return int32(binary.LittleEndian.Uint32(b[3:])), true
	}
	return 0, false
}

const addRSP, subRSP = 0xc4, 0xec

// loadsStack reports whether an instruction loads the stack pointer.
func (w *worker) loadsStack(i int) bool {
	in := &w.ins[i]
	b := w.f[in.at:in.next()]
	return len(b) > 3 && b[0]&0xfc == 0x48 && b[1] == 0x8b && b[2]>>3&7 == 4 && b[2]>>6 != 3
}

// prologue shortens a function's check that its stack is large enough, and its epilogues:
//
//	push rbp              push rbp
//	mov rbp, rsp          lea rbp, [rsp-size]
//	sub rsp, size         cmp rbp, [rax+0x28]
//	cmp rsp, [rax+0x28]   ja  enough
//	ja  enough            mov rbp, rsp
//	add rsp, size         …
//	…
//	enough:               enough:
//	add rsp, size         mov rbp, rsp
func (w *worker) prologue() {
	if len(w.blocks) < 3 {
		return
	}
	b, cold := &w.blocks[0], &w.blocks[1]
	if b.end-b.begin != 4 || w.bytes(0) != pushRBP || w.bytes(1) != movRBPRSP || w.bytes(3) != cmpRSP || b.next != 1 || b.cond != condAbove {
		return
	}
	size, ok := w.adjusts(2, subRSP)
	enough := &w.blocks[b.taken]
	if !ok || size < 0 || cold.end == cold.begin || enough.end == enough.begin || b.taken < 2 {
		return
	}
	for i := range w.blocks {
		if o := &w.blocks[i]; i > 0 && (o.taken == b.taken || o.next == b.taken || o.taken == 1 || o.next == 1) {
			return
		}
	}
	if n, ok := w.adjusts(cold.begin, addRSP); !ok || n != size {
		return
	}
	if n, ok := w.adjusts(enough.begin, addRSP); !ok || n != size {
		return
	}
	lea := string(binary.LittleEndian.AppendUint32([]byte("\x48\x8d\xac\x24"), uint32(-size)))
	if size <= 128 {
		lea = "\x48\x8d\x6c\x24" + string([]byte{byte(-size)})
	}
	w.replace(1, lea)
	w.replace(2, cmpRBP)
	w.replace(3, "")
	w.replace(cold.begin, movRBPRSP)
	w.replace(enough.begin, movRBPRSP)
	w.epilogues(enough.begin + 1)
}

// frame is what a function takes from the stack.
type frame struct {
	pushed int
	size   int32
}

// epilogues leaves out "mov rsp, rbp" where a function returns and has released the frame that starts at instruction i.
func (w *worker) epilogues(i int) {
	var took frame
	for ; i < len(w.ins) && w.pushes(i, 0x50); i++ {
		took.pushed++
	}
	if i < len(w.ins) {
		took.size, _ = w.adjusts(i, subRSP)
	}
	for k := range w.blocks {
		b := &w.blocks[k]
		last := b.end - 1
		if last-2 < b.begin || w.ins[last].kind != end || w.f[w.ins[last-1].at] != popRBP || w.bytes(last-2) != movRSPRBP {
			continue
		}
		var gave frame
		at := last - 3
		for ; at >= b.begin && w.pushes(at, 0x58); at-- {
			gave.pushed++
		}
		if at >= b.begin {
			gave.size, _ = w.adjusts(at, addRSP)
		}
		if gave == took {
			w.replace(last-2, "")
		}
	}
}

// pushes reports whether an instruction is a push (0x50) or pop (0x58) of a register.
func (w *worker) pushes(i int, op byte) bool {
	in := &w.ins[i]
	b := w.f[in.at:in.next()]
	if len(b) == 2 && b[0] == 0x41 {
		b = b[1:]
	}
	return len(b) == 1 && b[0]&0xf8 == op
}

// zero shortens a comparison with zero to a test, and leaves out a test of a value that the previous instruction has
// just made, and for which it has set the same flags.
func (w *worker) zero(i int, inner bool) {
	in := &w.ins[i]
	b := w.f[in.at:in.next()]
	rex := byte(0)
	if b[0]&0xf0 == 0x40 {
		rex, b = b[0], b[1:]
	}
	switch {
	case len(b) == 3 && b[0] == 0x83 && b[1]>>3 == 0x1f && b[2] == 0: // cmp r, 0, of 32 or 64 bits
		r := b[1] & 7
		with := []byte{0x85, 0xc0 | r<<3 | r}
		if rex != 0 {
			with = append([]byte{rex | rex&1<<2}, with...)
		}
		w.replace(i, string(with))
	case inner && len(b) == 2 && b[0] == 0x85 && b[1]>>6 == 3 && b[1]>>3&7 == b[1]&7 && rex>>2&1 == rex&1: // test r, r
		w.tested(i, rex, b[1]&7)
	}
}

// tested leaves out a test of register r if the previous instruction is an and, or, or xor of the same width into it.
func (w *worker) tested(i int, rex, r byte) {
	p := &w.ins[i-1]
	b := w.f[p.at:p.next()]
	other := byte(0)
	if b[0]&0xf0 == 0x40 {
		other, b = b[0], b[1:]
	}
	if other&8 != rex&8 || len(b) < 2 || p.with >= 0 {
		return
	}
	m := b[1]
	switch b[0] {
	case 0x23, 0x0b, 0x33: // r, r/m
		if m>>3&7 == r && other>>2&1 == rex&1 {
			w.replace(i, "")
		}
	case 0x81, 0x83: // r, imm
		if op := m >> 3 & 7; m>>6 == 3 && m&7 == r && other&1 == rex&1 && (op == 1 || op == 4 || op == 6) {
			w.replace(i, "")
		}
	}
}
