package wasmbin

import "fmt"

// What wazero 1.12 miscompiles on amd64, in functions with so many live values that some are kept on the stack. Its
// interpreter gets all of it right, and most of it is fixed upstream, but not in a release yet.
//
//   - select of f32, f64 or v128: a conditional move whose destination is read, which the register allocator does not know
//     (backend/isa/amd64/instr.go, the uses of xmmCMov). A false condition may leave garbage. Selects of integers are
//     right: those of floats become selects of the same bits as integers, those of vectors an if.
//   - v128.bitselect: a sequence that changes two temporary registers in turn; if one of them has to make room for an
//     operand in between, its changes are lost. It becomes three instructions of one value each.
//   - f32.convert_i64_u and f64.convert_i64_u: a sequence with a branch that the allocator does not know about; what it puts
//     into one arm is missing after the other. They become an if of signed conversions.

// Mend replaces what wazero miscompiles by instructions that it compiles correctly. Indexes do not change, except that
// a function may have more locals. Errors match [ErrFormat].
func Mend(bin []byte) ([]byte, error) {
	out, _, err := mend(bin)
	return out, err
}

// mendStats counts what was replaced.
type mendStats struct {
	selects     int // of floats and vectors, and v128.bitselect
	conversions int // of unsigned 64-bit integers
}

// mend also returns what was replaced.
func mend(bin []byte) (out []byte, stats mendStats, err error) { return mendThese(bin, nil) }

// mendThese looks only at the functions that may need it, by their index among the module's own, and at all beyond the
// end of may.
func mendThese(bin []byte, may []bool) (out []byte, stats mendStats, err error) {
	m, err := Parse(bin)
	if err == nil {
		stats, err = m.mend(may)
	}
	if err != nil {
		return nil, stats, fmt.Errorf("mend a module: %w", err)
	}
	if stats == (mendStats{}) {
		return bin, stats, nil
	}
	return m.sections.bytes(), stats, nil
}

func (m *Module) mend(may []bool) (stats mendStats, err error) {
	r, n, ok := m.bodies()
	if !ok {
		return stats, nil
	}
	imported := m.imported[KindFunc]
	code := make([]byte, 0, r.left()+r.left()/64+256)
	walk := &typeWalk{m: m}
	for i := range n {
		body := r.sub(r.u32("body size"), "function body")
		if r.err != nil {
			break
		}
		start := body.pos
		if i < len(may) && !may[i] {
			code = appendEdited(code, r.buf[start:r.pos], start, nil)
			continue
		}
		fix := mender{walk: walk}
		if err := walk.function(m.Funcs[imported+i], body, fix.visit); err != nil {
			return stats, err
		}
		stats.selects += fix.stats.selects
		stats.conversions += fix.stats.conversions
		code = appendEdited(code, r.buf[start:r.pos], start, fix.all())
	}
	if err := r.finish(); err != nil {
		return stats, err
	}
	m.sections.set(secCode, append(appendU32(nil, uint32(n)), code...))
	return stats, nil
}

// suspect finds out whether a function may need mending, without knowing the types on its stack: it has a select, and
// something that is not an integer, or an instruction that is always replaced.
type suspect struct {
	m                        *Module
	selects, others, certain bool
}

func (s *suspect) found() bool { return s.certain || s.selects && s.others }

// locals looks at parameters and at the declarations of locals, which r is about to read.
func (s *suspect) locals(kind FuncType, r reader) {
	s.types(kind.Params)
	for range r.count(maxVectorLen, "local declarations") {
		r.u32("number of locals")
		if t := r.valType("local type"); t != I32 && t != I64 {
			s.others = true
		}
	}
}

func (s *suspect) types(types []ValType) {
	for _, t := range types {
		if t != I32 && t != I64 {
			s.others = true
		}
	}
}

func (s *suspect) visit(in instr, buf []byte) {
	operand := func() uint32 {
		r := reader{buf: buf, pos: in.start + 1, end: in.end}
		return r.u32("index")
	}
	switch op := in.op; {
	case op == opSelect, op == opSelectTyped:
		s.selects = true
	case op == opSIMD, op == opF32ConvertI64U, op == opF64ConvertI64U:
		s.certain = true
	case s.others:
	case op == opCall:
		if i := operand(); i < uint32(len(s.m.Funcs)) {
			s.types(s.m.Funcs[i].Results)
		}
	case op == opCallIndirect:
		if i := operand(); i < uint32(len(s.m.types)) {
			s.types(s.m.types[i].Results)
		}
	case op == opGlobalGet:
		if i := operand(); i < uint32(len(s.m.Globals)) {
			s.types([]ValType{s.m.Globals[i].Type})
		}
	case givesFloat[op]:
		s.others = true
	}
}

// givesFloat is true for the one-byte opcodes whose result is not an integer, unless operands in the code say so.
var givesFloat = func() (is [256]bool) {
	for op := range is {
		_, pushes, _ := plainEffect(byte(op))
		is[op] = len(pushes) == 1 && pushes[0] != I32 && pushes[0] != I64
	}
	return is
}()

// mender collects the edits of one function.
type mender struct {
	walk   *typeWalk
	locals []ValType // to be added
	edits  []edit
	stats  mendStats
}

// visit is called for each reachable instruction before it takes effect on the stack.
func (f *mender) visit(in instr) {
	var c code
	switch {
	case in.op == opSelect, in.op == opSelectTyped:
		f.choose(&c)
	case in.op == opSIMD && in.misc == simdV128Bitsel:
		mask, b := f.added(V128, 0), f.added(V128, 1)
		c.set(mask).tee(b).simd(simdV128Xor).get(mask).simd(simdV128And).get(b).simd(simdV128Xor)
	case in.op == opF32ConvertI64U:
		f.convert(&c, F32, opF32ConvertI64S)
		c.op(opF32Const, 0, 0, 0, 0x40, opF32Mul, opEnd)
	case in.op == opF64ConvertI64U:
		f.convert(&c, F64, opF64ConvertI64S)
		c.op(opF64Const, 0, 0, 0, 0, 0, 0, 0, 0x40, opF64Mul, opEnd)
	}
	switch {
	case len(c.out) == 0:
		return
	case in.op == opF32ConvertI64U, in.op == opF64ConvertI64U:
		f.stats.conversions++
	default:
		f.stats.selects++
	}
	f.edits = append(f.edits, edit{start: in.start, end: in.end, rank: rankPlain, with: c.out})
}

// choose replaces a select.
func (f *mender) choose(c *code) {
	switch f.walk.under(1) {
	case F32:
		c.set(f.local(I32)).op(opI32ReinterpretF32).set(f.second(I32)).op(opI32ReinterpretF32)
		c.get(f.second(I32)).get(f.local(I32)).op(opSelect, opF32ReinterpretI32)
	case F64:
		c.set(f.local(I32)).op(opI64ReinterpretF64).set(f.second(I64)).op(opI64ReinterpretF64)
		c.get(f.second(I64)).get(f.local(I32)).op(opSelect, opF64ReinterpretI64)
	case V128:
		c.set(f.local(I32)).set(f.added(V128, 1)).set(f.added(V128, 0))
		c.get(f.local(I32)).op(opIf, byte(V128)).get(f.added(V128, 0)).op(opElse).get(f.added(V128, 1)).op(opEnd)
	}
}

// convert replaces a conversion of an unsigned integer, up to the final doubling of a value too large for a signed one:
// half of it is converted, with the lost bit kept for the rounding.
func (f *mender) convert(c *code, t ValType, signed byte) {
	x := f.second(I64)
	c.tee(x).i64(0).op(opI64GeS, opIf, byte(t)).get(x).op(signed, opElse)
	c.get(x).i64(1).op(opI64ShrU).get(x).i64(1).op(opI64And, opI64Or, signed)
}

// local returns the added local that holds the condition; second returns one for the other operand.
func (f *mender) local(t ValType) uint32 { return f.added(t, 0) }

func (f *mender) second(t ValType) uint32 {
	if t == I32 {
		return f.added(t, 1)
	}
	return f.added(t, 0)
}

// added returns the index of the nth added local of a type.
func (f *mender) added(t ValType, nth int) uint32 {
	first := len(f.walk.locals)
	for i, have := range f.locals {
		if have != t {
			continue
		}
		if nth == 0 {
			return uint32(first + i)
		}
		nth--
	}
	for range nth + 1 {
		f.locals = append(f.locals, t)
	}
	return uint32(first + len(f.locals) - 1)
}

// all returns the edits in order, with the declarations of the locals.
func (f *mender) all() []edit {
	if len(f.locals) == 0 {
		return f.edits
	}
	w := f.walk
	var decls []byte
	for _, t := range f.locals {
		decls = append(decls, 1, byte(t))
	}
	return append([]edit{
		{start: w.declStart, end: w.declCountEnd, with: appendU32(nil, w.decls+uint32(len(f.locals)))},
		{start: w.declEnd, end: w.declEnd, with: decls},
	}, f.edits...)
}
