package wasmbin

// rewriteChecks finds the edits of one function body. params is the number of its parameters; body spans its bytes and
// is read twice.
func (f *checkedFunc) rewriteChecks(params int, body *reader) ([]edit, error) {
	if !f.begin(params, body) {
		f.stats.skipped++
		return nil, body.err
	}
	walk := *body
	walk.walkBody(func(in instr) {
		if !f.unknown {
			f.step(in, walk.buf)
		}
	})
	if walk.err != nil {
		return nil, walk.err
	}
	if f.unknown {
		f.stats = checkStats{skipped: 1}
		return nil, nil
	}
	return f.edits(), nil
}

// begin resets f for a body; false if it has too many locals.
func (f *checkedFunc) begin(params int, body *reader) bool {
	f.sources.reset()
	f.stats = checkStats{}
	f.stack, f.frames, f.out, f.constants = f.stack[:0], f.frames[:0], f.out[:0], f.constants[:0]
	f.free = nil
	f.values, f.dead, f.unknown = 0, false, false
	r := *body
	f.declStart = r.pos
	locals := uint64(params)
	n := r.count(maxVectorLen, "local declarations")
	f.decls, f.declCountEnd = uint32(n), r.pos
	for range n {
		locals += uint64(r.u32("number of locals"))
		r.valType("local type")
	}
	f.declEnd = r.pos
	if r.err != nil || locals > maxCheckedLocals {
		return false
	}
	f.slots = make([]slot, locals+1)
	f.lastRead = make([]int, locals+1)
	for i := range f.slots {
		f.slots[i].value = f.fresh()
	}
	r = *body
	r.walkBody(func(in instr) {
		if in.op == opLocalGet {
			if i := immediate(r.buf, in); uint64(i) < locals {
				f.lastRead[i] = in.start
			}
		}
	})
	f.frames = append(f.frames, flowFrame{})
	return true
}

// immediate returns the first operand of an instruction, an unsigned number.
func immediate(buf []byte, in instr) uint32 {
	r := reader{buf: buf, pos: in.start + 1, end: in.end}
	return r.u32("operand")
}

// step handles one instruction.
func (f *checkedFunc) step(in instr, buf []byte) {
	switch in.op {
	case opBlock, opLoop, opIf:
		f.open(in, buf)
		return
	case opElse:
		f.otherwise()
		return
	case opEnd:
		f.leave(in)
		return
	}
	if f.dead {
		return
	}
	switch op := in.op; {
	case op == opBr, op == opBrIf, op == opBrTable, op == opReturn, op == opUnreachable:
		f.jump(in, buf)
	case op == opCall:
		f.call(f.m.Funcs, immediate(buf, in))
	case op == opCallIndirect:
		f.pop()
		f.call(f.m.types, immediate(buf, in))
	case op >= opLocalGet && op <= opLocalTee:
		f.local(op, immediate(buf, in))
	case op >= opI32Load && op <= opI64Store32:
		f.memory(in, buf)
	case op == opI32Const:
		r := reader{buf: buf, pos: in.start + 1, end: in.end}
		f.push(operand{local: -1, constant: true, number: uint32(r.signed(32, "constant")), push: in})
	default:
		pops, pushes, ok := stackEffect(in)
		if !ok {
			f.unknown = true
			return
		}
		f.popN(pops)
		f.pushFresh(pushes)
	}
}

func (f *checkedFunc) open(in instr, buf []byte) {
	r := reader{buf: buf, pos: in.start + 1, end: in.end}
	results := 0
	switch t := r.signed(33, "block type"); {
	case t == -64:
	case t < 0:
		results = 1
	case t < int64(len(f.m.types)) && len(f.m.types[t].Params) == 0:
		results = len(f.m.types[t].Results)
	default:
		f.unknown = true
		return
	}
	if in.op == opIf && !f.dead {
		f.pop()
	}
	f.enter(in.op, results)
}

func (f *checkedFunc) jump(in instr, buf []byte) {
	switch in.op {
	case opBrIf:
		f.pop()
		f.branch(immediate(buf, in), true)
		return
	case opBr:
		f.branch(immediate(buf, in), true)
	case opBrTable:
		r := reader{buf: buf, pos: in.start + 1, end: in.end}
		// wazero makes a plain jump of a table without entries
		n := r.u32("branch targets")
		for range n + 1 {
			f.branch(r.u32("branch target"), false)
		}
	}
	f.dead = true
}

func (f *checkedFunc) call(types []FuncType, index uint32) {
	if int64(index) >= int64(len(types)) {
		f.unknown = true
		return
	}
	f.popN(len(types[index].Params))
	f.pushFresh(len(types[index].Results))
}

func (f *checkedFunc) local(op byte, local uint32) {
	if int64(local) >= int64(len(f.slots)-1) {
		f.unknown = true
		return
	}
	if op != opLocalGet {
		f.define(local, f.pop())
	}
	if op != opLocalSet {
		f.push(f.read(local))
	}
}

func (f *checkedFunc) memory(in instr, buf []byte) {
	r := reader{buf: buf, pos: in.start + 1, end: in.end}
	align, offset := r.u32("alignment"), r.u32("offset")
	store := in.op >= opI32Store
	if store {
		f.pop()
	}
	f.access(in, f.pop(), align, offset, accessSize(in.op))
	if !store {
		f.pushFresh(1)
	}
}

// accessSize returns the number of bytes that a load or store moves.
func accessSize(op byte) uint64 {
	const sizes = "\x04\x08\x04\x08\x01\x01\x02\x02\x01\x01\x02\x02\x04\x04\x04\x08\x04\x08\x01\x02\x01\x02\x04"
	return uint64(sizes[op-opI32Load])
}

// stackEffect returns how many values an instruction pops and pushes; ok is false for those that the pass does not
// know.
func stackEffect(in instr) (pops, pushes int, ok bool) {
	switch op := in.op; {
	case op == opNop:
		return 0, 0, true
	case op == opDrop, op == opGlobalSet:
		return 1, 0, true
	case op == opSelect, op == opSelectTyped:
		return 3, 1, true
	case op == opGlobalGet, op == opMemorySize, op >= opI64Const && op <= opF64Const:
		return 0, 1, true
	case op == opMemoryGrow, op == 0x45, op == 0x50, op >= 0x67 && op <= 0x69, op >= 0x79 && op <= 0x7b,
		op >= 0x8b && op <= 0x91, op >= 0x99 && op <= 0x9f, op >= 0xa7 && op <= 0xc4:
		return 1, 1, true // eqz, clz, ctz, popcnt, unary floats, conversions, sign extensions
	case op > 0x45 && op < 0xa7:
		return 2, 1, true // comparisons and arithmetic
	case op == opMisc && in.misc <= 7: // saturating truncations
		return 1, 1, true
	case op == opMisc && (in.misc == miscMemoryInit || in.misc == miscMemoryCopy || in.misc == miscMemoryFill):
		return 3, 0, true
	case op == opMisc && in.misc == miscDataDrop:
		return 0, 0, true
	}
	return 0, 0, false
}
