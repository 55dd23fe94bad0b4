package wasmbin

// typeWalk knows the types on the stack before each instruction of a function, as validation does. It is reused for one
// function after another.
type typeWalk struct {
	m      *Module
	locals []ValType
	stack  []ValType
	frames []typeFrame
	dead   bool // after an instruction that never continues, up to the end of its block

	declStart, declCountEnd, declEnd int
	decls                            uint32
}

// typeFrame is an open block.
type typeFrame struct {
	kind   FuncType
	height int // of the stack below its parameters
	dead   bool
}

// under returns the type n below the top of the stack.
func (w *typeWalk) under(n int) ValType {
	if i := len(w.stack) - 1 - n; i >= w.floor() {
		return w.stack[i]
	}
	return 0
}

func (w *typeWalk) floor() int { return w.frames[len(w.frames)-1].height }

// function walks a body; visit is called for each reachable instruction before it takes effect, and for the ends of
// blocks that could be entered.
func (w *typeWalk) function(kind FuncType, body *reader, visit func(instr)) error {
	w.declarations(kind, *body)
	w.stack, w.dead = w.stack[:0], false
	w.frames = append(w.frames[:0], typeFrame{kind: kind})
	failed := &reader{section: body.section}
	body.walkBody(func(in instr) {
		if failed.err != nil {
			return
		}
		if !w.dead || (in.op == opEnd || in.op == opElse) && !w.frames[len(w.frames)-1].dead {
			visit(in)
		}
		w.step(in, body.buf, failed)
	})
	if body.err != nil {
		return body.err
	}
	return failed.err
}

// declarations reads the locals.
func (w *typeWalk) declarations(kind FuncType, r reader) {
	w.declStart = r.pos
	w.locals = append(w.locals[:0], kind.Params...)
	n := r.count(maxVectorLen, "local declarations")
	w.decls, w.declCountEnd = uint32(n), r.pos
	for range n {
		count, t := r.u32("number of locals"), r.valType("local type")
		if r.err != nil || uint64(len(w.locals))+uint64(count) > maxLocals {
			break // walkBody, or wazero, reports what is wrong
		}
		for range count {
			w.locals = append(w.locals, t)
		}
	}
	w.declEnd = r.pos
}

// step handles one instruction.
func (w *typeWalk) step(in instr, buf []byte, failed *reader) {
	switch in.op {
	case opBlock, opLoop, opIf:
		w.enter(in, buf, failed)
		return
	case opElse:
		w.restart(w.frames[len(w.frames)-1].kind.Params)
		return
	case opEnd:
		w.leave()
		return
	}
	if w.dead {
		return
	}
	switch in.op {
	case opBr, opBrTable, opReturn, opUnreachable:
		w.dead = true
	default:
		pops, pushes, ok := w.effect(in, buf)
		if !ok || len(w.stack)-pops < w.floor() {
			failed.fail(in.start, "the effect of opcode %#02x %d on the stack is not known", in.op, in.misc)
			return
		}
		w.stack = append(w.stack[:len(w.stack)-pops], pushes...)
	}
}

func (w *typeWalk) enter(in instr, buf []byte, failed *reader) {
	r := reader{buf: buf, pos: in.start + 1, end: in.end}
	fr := typeFrame{dead: w.dead}
	switch t := r.signed(33, "block type"); {
	case t == -64:
	case t < 0:
		fr.kind.Results = []ValType{ValType(t & 0x7f)}
	case t < int64(len(w.m.types)):
		fr.kind = w.m.types[t]
	default:
		failed.fail(in.start, "block type %d, the module has %d types", t, len(w.m.types))
		return
	}
	below := len(w.stack) - len(fr.kind.Params)
	if in.op == opIf {
		below--
	}
	switch {
	case w.dead:
		below = len(w.stack)
	case below < w.floor():
		failed.fail(in.start, "a block takes more than there is")
		return
	}
	fr.height = below
	w.frames = append(w.frames, fr)
	if !w.dead {
		w.restart(fr.kind.Params)
	}
}

// restart begins the innermost block, or its else.
func (w *typeWalk) restart(params []ValType) {
	fr := w.frames[len(w.frames)-1]
	w.dead = fr.dead
	w.stack = append(w.stack[:fr.height], params...)
}

func (w *typeWalk) leave() {
	fr := w.frames[len(w.frames)-1]
	w.restart(fr.kind.Results)
	if len(w.frames) > 1 { // the last end closes the function
		w.frames = w.frames[:len(w.frames)-1]
	}
}

// effect returns what an instruction pops from the stack and what it pushes.
func (w *typeWalk) effect(in instr, buf []byte) (pops int, pushes []ValType, ok bool) {
	index := func() int { return int(immediate(buf, in)) }
	switch op := in.op; {
	case op == opBrIf, op == opDrop, op == opLocalSet, op == opGlobalSet:
		return 1, nil, true
	case op == opCall:
		if i := index(); i < len(w.m.Funcs) {
			return len(w.m.Funcs[i].Params), w.m.Funcs[i].Results, true
		}
	case op == opCallIndirect:
		if i := index(); i < len(w.m.types) {
			return len(w.m.types[i].Params) + 1, w.m.types[i].Results, true
		}
	case op == opSelect, op == opSelectTyped:
		return 3, one(w.under(1)), true
	case op == opLocalGet, op == opLocalTee:
		if i := index(); i < len(w.locals) {
			return int(op-opLocalGet) / 2, one(w.locals[i]), true
		}
	case op == opGlobalGet:
		if i := index(); i < len(w.m.Globals) {
			return 0, one(w.m.Globals[i].Type), true
		}
	case op == opSIMD:
		return simdEffect(in.misc)
	case op == opMisc:
		return miscEffect(in.misc)
	default:
		return plainEffect(op)
	}
	return 0, nil, false
}

// one avoids an allocation for each instruction.
func one(t ValType) []ValType {
	switch t {
	case I32:
		return typeI32
	case I64:
		return typeI64
	case F32:
		return typeF32
	case F64:
		return typeF64
	case V128:
		return typeV128
	}
	return []ValType{t}
}

var (
	typeI32  = []ValType{I32}
	typeI64  = []ValType{I64}
	typeF32  = []ValType{F32}
	typeF64  = []ValType{F64}
	typeV128 = []ValType{V128}
)
