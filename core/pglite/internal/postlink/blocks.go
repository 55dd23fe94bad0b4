package postlink

// block is a run of instructions that is entered at its first and left at its last.
type block struct {
	begin, end  int   // its instructions, without a final branch or jump
	taken, next int32 // the blocks that may follow; -1: none. If both are set, control goes to taken if cond holds
	cond        byte
	cold        bool    // hardly ever run
	grows       bool    // grows the stack
	following   int32   // the next block in the output; -1: none
	at, size    int     // in the output, from the function's beginning; size excludes the final branch and jump
	long        [2]bool // the final branch and jump do not reach with eight bits
}

// split splits the instructions into blocks.
func (w *worker) split() {
	w.blocks = w.blocks[:0]
	for i := range w.ins {
		in := &w.ins[i]
		if i == 0 || w.state[in.at]&targeted != 0 || w.ins[i-1].leaves() {
			w.at[in.at] = int32(len(w.blocks))
			w.blocks = append(w.blocks, block{begin: i, end: i, taken: -1, next: -1})
		}
		if in.kind != jump && in.kind != branch {
			w.blocks[len(w.blocks)-1].end = i + 1
		}
	}
	for i := range w.blocks {
		b := &w.blocks[i]
		to := len(w.ins)
		if i+1 < len(w.blocks) {
			to = w.blocks[i+1].begin
		}
		switch last := &w.ins[to-1]; last.kind {
		case jump:
			b.taken = w.at[last.target]
		case branch:
			b.taken, b.next, b.cond = w.at[last.target], int32(i+1), w.f[last.at+1]&15
		case indirect, end, trap:
		default:
			b.taken = int32(i + 1)
		}
	}
}

// leaves reports whether the next instruction in the code begins a block.
func (in *instruction) leaves() bool {
	return in.kind == jump || in.kind == branch || in.kind == indirect || in.kind == end || in.kind == trap
}

// through returns the block with instructions that a jump to a block leads to; the block itself if there is none,
// because it jumps in a circle.
func (w *worker) through(i int32) int32 {
	at := i
	for range len(w.blocks) {
		b := &w.blocks[at]
		if b.size > 0 || b.next >= 0 || b.taken < 0 {
			return at
		}
		at = b.taken
	}
	return i
}

// thread leaves out blocks that only jump.
func (w *worker) thread() {
	for i := range w.blocks {
		b := &w.blocks[i]
		b.size = 0
		for k := b.begin; k < b.end; k++ {
			b.size += int(w.ins[k].out)
		}
	}
	for i := range w.blocks {
		b := &w.blocks[i]
		if b.taken >= 0 {
			b.taken = w.through(b.taken)
		}
		if b.next >= 0 {
			if b.next = w.through(b.next); b.next == b.taken {
				b.next = -1
			}
		}
	}
}

// chill finds cold blocks: those that leave the module, which is a trap, that grow the stack, and that lead to nothing
// but traps.
func (w *worker) chill() {
	for i := range w.blocks {
		b := &w.blocks[i]
		for k := b.begin; k < b.end; k++ {
			if in := &w.ins[k]; in.kind == plain && in.disp == mayGrow && w.bytes(k) == callGrow {
				b.cold, b.grows = true, true
			}
		}
		if b.taken >= 0 || b.end == b.begin {
			continue
		}
		switch last := w.ins[b.end-1]; {
		case last.kind == trap:
			b.cold = true
		case last.kind == end && b.end-b.begin > 1: // to where the module was entered, with the stack pointer of that point
			b.cold = w.loadsStack(b.end - 2)
		}
	}
	trapped := func(i int32) bool { return i < 0 || w.blocks[i].cold && !w.blocks[i].grows }
	for changed := true; changed; {
		changed = false
		for i := len(w.blocks) - 1; i >= 0; i-- {
			if b := &w.blocks[i]; !b.cold && b.taken >= 0 && trapped(b.taken) && trapped(b.next) {
				b.cold, changed = true, true
			}
		}
	}
}

// arrange puts the blocks in order.
func (w *worker) arrange() {
	w.order = w.order[:0]
	for _, cold := range []bool{false, true} {
		for i := range w.blocks {
			if b := &w.blocks[i]; (b.cold && i > 0) == cold && (i == 0 || b.size > 0 || b.next >= 0 || w.through(int32(i)) == int32(i)) {
				w.order = append(w.order, int32(i))
			}
		}
	}
	for k, i := range w.order {
		w.blocks[i].following = -1
		if k+1 < len(w.order) {
			w.blocks[i].following = w.order[k+1]
		}
	}
}

// ends returns what a block ends in: a branch to one block, and a jump to another; -1: none.
func (b *block) ends() (cond byte, branch, jump int32) {
	switch {
	case b.taken < 0 || b.next < 0 && b.taken == b.following:
		return 0, -1, -1
	case b.next < 0:
		return 0, -1, b.taken
	case b.next == b.following:
		return b.cond, b.taken, -1
	case b.taken == b.following:
		return b.cond ^ 1, b.next, -1
	}
	return b.cond, b.taken, b.next
}
