package wasmbin

// value is the symbolic result of a constant expression: unknown, or
// global[base]+offset, or offset alone (base -1).
type value struct {
	known  bool
	base   int
	offset uint32
}

// constExpr reads a constant expression up to its end. Sums of i32 constants and
// one imported global are computed; all other results are unknown.
func (m *Module) constExpr(r *reader) value {
	var stack []value
	for range maxConstOps {
		at := r.pos
		op := r.byte("constant expression")
		if r.err != nil {
			return value{}
		}
		switch op {
		case opEnd:
			if len(stack) != 1 {
				r.fail(at, "constant expression leaves %d values, one expected", len(stack))
				return value{}
			}
			return stack[0]
		case opI32Const:
			stack = append(stack, value{known: true, base: -1, offset: uint32(r.signed(32, "i32 constant"))})
		case opGlobalGet:
			g := r.u32("global index")
			if int64(g) >= int64(len(m.Globals)) {
				r.fail(at, "global %d in a constant expression, %d are declared before it", g, len(m.Globals))
				return value{}
			}
			stack = append(stack, value{known: m.Globals[g].Imported, base: int(g)})
		case opI64Const, opF32Const, opF64Const, opRefNull, opRefFunc:
			r.skipImmediates(instr{start: at, op: op})
			stack = append(stack, value{})
		case opSIMD:
			in := instr{start: at, op: op, misc: r.u32("opcode")}
			if in.misc != simdV128Const {
				r.fail(at, "opcode 0xfd %d in a constant expression", in.misc)
			}
			r.skipSIMD(in)
			stack = append(stack, value{})
		case opI32Add, opI32Sub, opI32Mul, opI64Add, opI64Sub, opI64Mul:
			if len(stack) < 2 {
				r.fail(at, "constant expression takes a value from an empty stack")
				return value{}
			}
			x, y := stack[len(stack)-2], stack[len(stack)-1]
			stack = append(stack[:len(stack)-2], combine(op, x, y))
		default:
			r.fail(at, "opcode %#02x in a constant expression", op)
			return value{}
		}
	}
	r.fail(r.pos, "constant expression of more than %d instructions", maxConstOps)
	return value{}
}

func combine(op byte, x, y value) value {
	if op != opI32Add || !x.known || !y.known || x.base >= 0 && y.base >= 0 {
		return value{}
	}
	return value{known: true, base: max(x.base, y.base), offset: x.offset + y.offset}
}

// readElems reads the element segments and keeps the active ones of table 0.
func (m *Module) readElems(r *reader) {
	for range r.count(maxVectorLen, "element segments") {
		m.readElem(r)
		if r.err != nil {
			return
		}
	}
}

// readElem reads one segment. Bits of its flags: 0 not active; 1 an explicit
// table, or declarative if not active; 2 entries are expressions.
func (m *Module) readElem(r *reader) {
	at := r.pos
	flags := r.u32("segment flags")
	if flags > 7 {
		r.fail(at, "element segment flags %d, at most 7 expected", flags)
		return
	}
	active, explicit, exprs := flags&1 == 0, flags&2 != 0, flags&4 != 0
	table := uint32(0)
	var start value
	if active {
		if explicit {
			table = r.u32("table index")
		}
		exprAt := r.pos
		start = m.constExpr(r)
		if !start.known {
			r.fail(exprAt, "start of an element segment is neither a constant nor an imported global plus a constant")
		}
	}
	if !active || explicit {
		if exprs {
			r.refType("element type")
		} else {
			r.zeroByte("element kind")
		}
	}
	funcs := m.elemFuncs(r, exprs)
	if r.err != nil || !active || table != 0 {
		return
	}
	if len(m.Elems) > 0 && m.Elems[0].Base != start.base {
		r.fail(at, "element segments with different base globals are not handled")
		return
	}
	m.Elems = append(m.Elems, Elem{Base: start.base, Offset: start.offset, Funcs: funcs})
}

func (m *Module) elemFuncs(r *reader, exprs bool) []uint32 {
	n := r.count(maxTableEntries, "table entries")
	funcs := make([]uint32, 0, n)
	for range n {
		at := r.pos
		f := NullFunc
		if exprs {
			f = r.refExpr()
		} else {
			f = r.u32("function index")
		}
		if r.err == nil && f != NullFunc && int64(f) >= int64(len(m.Funcs)) {
			r.fail(at, "function index %d, the module has %d", f, len(m.Funcs))
		}
		if r.err != nil {
			return nil
		}
		funcs = append(funcs, f)
	}
	return funcs
}

// refExpr reads an expression that is one reference to a function, or null. A global as reference counts as null: its
// function is not known here.
func (r *reader) refExpr() uint32 {
	at := r.pos
	f := NullFunc
	switch op := r.byte("reference"); op {
	case opRefNull:
		r.refType("null reference")
	case opRefFunc:
		f = r.u32("function index")
	case opGlobalGet:
		r.u32("global index")
	default:
		r.fail(at, "opcode %#02x in a reference expression", op)
	}
	at = r.pos
	if end := r.byte("reference"); r.err == nil && end != opEnd {
		r.fail(at, "reference expression continues with opcode %#02x", end)
	}
	return f
}
