package wasmbin

import "fmt"

// ArrangeBranches arranges the branches of functions in the way that wazero compiles best.
//
// Where paths meet, one without a call comes first. wazero's register allocator goes through the blocks in order, and a
// block in which several paths meet begins with the registers as they are at the end of the first path: the others load
// and store until they agree. A call leaves nothing in most registers. So if the path with the call comes first, as it
// does if it is what a branch jumps over or the only arm of an if, the path without it also has its values stored and
// loaded again, however rare the call: at the end of an if for an error or an interrupt, in the loops of a sort. Here
// the empty arm comes first, and a conditional branch becomes an if around a jump:
//
//	x if A end             x i32.eqz if else A end        or x's comparison, inverted; for an A that calls and ends
//	x br_if n              x if br n+1 end                the first of its block, a call after it
//
// A br_table with few targets becomes comparisons in sequence: wazero turns each into an indirect jump, which costs
// more than all of them.
//
// The same code is executed, in the same order. Indexes do not change, except that a function may have one more local.
// Errors match [ErrFormat].
func ArrangeBranches(bin []byte) ([]byte, error) {
	out, _, err := arrangeBranches(bin)
	return out, err
}

// branchStats counts what was arranged.
type branchStats struct{ ifs, branches, tables int }

// arrangeBranches also returns what was arranged.
func arrangeBranches(bin []byte) (out []byte, stats branchStats, err error) {
	m, err := Parse(bin)
	if err == nil {
		stats, err = m.arrangeBranches()
	}
	if err != nil {
		return nil, stats, fmt.Errorf("arrange the branches of a module: %w", err)
	}
	return m.sections.bytes(), stats, nil
}

func (m *Module) arrangeBranches() (stats branchStats, err error) {
	r, n, ok := m.bodies()
	if !ok {
		return stats, nil
	}
	imported := m.imported[KindFunc]
	code := make([]byte, 0, r.left()+r.left()/32+256)
	f := arranger{stats: &stats}
	for i := range n {
		body := r.sub(r.u32("body size"), "function body")
		f.read(body)
		if body.err != nil {
			return stats, body.err
		}
		f.table += uint32(len(m.Funcs[imported+i].Params))
		f.write(0, len(f.all))
		decls := f.locals()
		code = appendU32(code, uint32(len(decls)+len(f.out)))
		code = append(append(code, decls...), f.out...)
	}
	if err := r.finish(); err != nil {
		return stats, err
	}
	m.sections.set(secCode, append(appendU32(nil, uint32(n)), code...))
	return stats, nil
}

// arranger writes one function after another. What it knows about an instruction is indexed as in all.
type arranger struct {
	stats  *branchStats
	buf    []byte // the module
	start  int    // of the body
	all    []instr
	calls  []int  // number of preceding calls; one more entry than instructions
	ends   []int  // for instructions that open a frame: its end
	elses  []bool // for an if: it has an else
	met    []bool // for instructions that open a frame: some path to its end was written
	open   []int  // frames, without the function's
	table  uint32 // the local for a br_table's operand, after all others
	tabled bool   // it is needed
	out    []byte // without the declarations of locals
}

func (f *arranger) read(body *reader) {
	f.buf, f.start = body.buf, body.pos
	f.all, f.ends, f.elses, f.met, f.open = f.all[:0], f.ends[:0], f.elses[:0], f.met[:0], f.open[:0]
	f.calls, f.out = append(f.calls[:0], 0), f.out[:0]
	f.tabled, f.table = false, 0
	decls := *body
	for range decls.count(maxVectorLen, "declarations of locals") {
		f.table += decls.u32("number of locals")
		decls.byte("type of locals")
	}
	body.walkBody(func(in instr) {
		i, calls := len(f.all), f.calls[len(f.all)]
		f.all, f.ends, f.elses, f.met = append(f.all, in), append(f.ends, 0), append(f.elses, false), append(f.met, false)
		switch in.op {
		case opCall, opCallIndirect:
			calls++
		case opBlock, opLoop, opIf:
			f.open = append(f.open, i)
		case opElse:
			if n := len(f.open); n > 0 {
				f.elses[f.open[n-1]] = true
			}
		case opEnd:
			if n := len(f.open); n > 0 {
				f.ends[f.open[n-1]] = i
				f.open = f.open[:n-1]
			}
		}
		f.calls = append(f.calls, calls)
	})
}

// locals returns the declarations of a body's locals, with one more if a br_table became comparisons.
func (f *arranger) locals() []byte {
	decls := f.buf[f.start:f.all[0].start]
	if !f.tabled {
		return decls
	}
	r := reader{buf: decls, end: len(decls)}
	n := r.u32("declarations of locals")
	return append(append(appendU32(nil, n+1), decls[r.pos:]...), 1, byte(I32))
}

// tableWays is the maximum number of targets of a br_table that becomes comparisons, not counting the default.
const tableWays = 4

// compare writes a br_table as comparisons, if it has few targets and none takes a value.
func (f *arranger) compare(in instr) bool {
	r := reader{buf: f.buf, pos: in.start + 1, end: in.end}
	n := r.u32("number of labels")
	if n > tableWays {
		return false
	}
	var labels [tableWays + 1]uint32
	for i := range n + 1 {
		labels[i] = r.u32("label")
		if frame, ok := f.frame(labels[i]); !ok || !f.plain(frame) {
			return false
		}
	}
	f.tabled = true
	f.out = appendU32(append(f.out, opLocalSet), f.table)
	for i := range n {
		if labels[i] == labels[n] {
			continue
		}
		f.out = appendU32(append(f.out, opLocalGet), f.table)
		if i == 0 {
			f.out = append(f.out, opI32Eqz)
		} else {
			f.out = append(f.out, opI32Const, byte(i), opI32Eq)
		}
		f.out = appendU32(append(f.out, opBrIf), labels[i])
	}
	f.out = appendU32(append(f.out, opBr), labels[n])
	return true
}

// write appends instructions from..to-1.
func (f *arranger) write(from, to int) {
	last := len(f.out) // where the previous instruction begins
	for i := from; i < to; i++ {
		in, at := f.all[i], len(f.out)
		switch in.op {
		case opBlock, opLoop:
			f.open = append(f.open, i)
		case opIf:
			f.open = append(f.open, i)
			if f.calling(i) {
				f.stats.ifs++
				f.turn(i, last, i > from)
				f.write(i+1, f.ends[i]+1)
				i = f.ends[i]
				last = len(f.out) - 1
				continue
			}
		case opEnd:
			if n := len(f.open); n > 0 {
				f.open = f.open[:n-1]
			}
		case opBr:
			if frame, ok := f.target(f.label(in)); ok {
				f.met[frame] = true
			}
		case opBrTable:
			if f.compare(in) {
				f.stats.tables++
				last = len(f.out) - 1
				continue
			}
		case opBrIf:
			frame, ok := f.target(f.label(in))
			if !ok || f.met[frame] || f.calls[i] == f.calls[f.ends[frame]] {
				break
			}
			f.met[frame] = true
			f.stats.branches++
			f.out = append(f.out, opIf, blockEmpty, opBr)
			f.out = append(appendU32(f.out, f.label(in)+1), opEnd)
			last = len(f.out) - 1
			continue
		}
		f.out = append(f.out, f.buf[in.start:in.end]...)
		last = at
	}
}

// calling reports whether an if has no else and no value, and an arm that calls and continues after the if.
func (f *arranger) calling(i int) bool {
	end := f.ends[i]
	if f.elses[i] || !f.plain(i) || f.calls[end] == f.calls[i] {
		return false
	}
	switch f.all[end-1].op {
	case opUnreachable, opBr, opBrTable, opReturn:
		return false
	}
	return true
}

// turn writes an if whose arm is empty, up to the else, with the condition inverted for that. If the same frame has an
// instruction before it, that begins at last.
func (f *arranger) turn(i, last int, before bool) {
	op := byte(opNop)
	if before {
		op = f.all[i-1].op
	}
	switch turned, ok := opposite(op); {
	case op == opI32Eqz:
		f.out = f.out[:last]
	case ok:
		f.out[last] = turned
	default:
		f.out = append(f.out, opI32Eqz)
	}
	f.out = append(f.out, opIf, blockEmpty, opElse)
}

// label returns the operand of a branch.
func (f *arranger) label(in instr) uint32 {
	r := reader{buf: f.buf, pos: in.start + 1, end: in.end}
	return r.u32("label")
}

// target returns the block or if at whose end a branch to a label continues, if it is one without a value.
func (f *arranger) target(label uint32) (frame int, ok bool) {
	frame, ok = f.frame(label)
	return frame, ok && f.all[frame].op != opLoop && f.plain(frame)
}

// frame returns the block, loop or if of a label; false for the function's own.
func (f *arranger) frame(label uint32) (frame int, ok bool) {
	if label >= uint32(len(f.open)) {
		return 0, false
	}
	return f.open[len(f.open)-1-int(label)], true
}

// plain reports whether a frame has no value.
func (f *arranger) plain(i int) bool { return f.buf[f.all[i].start+1] == blockEmpty }

// opposite returns the integer comparison that is true exactly where op is false.
func opposite(op byte) (byte, bool) {
	switch op {
	case opI32Eq, opI64Eq:
		return op + 1, true
	case opI32Ne, opI64Ne:
		return op - 1, true
	}
	ordered := func(lt byte) (byte, bool) { // lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u
		return lt + [...]byte{6, 7, 4, 5, 2, 3, 0, 1}[op-lt], true
	}
	switch {
	case op >= opI32LtS && op <= opI32GeU:
		return ordered(opI32LtS)
	case op >= opI64LtS && op <= opI64GeU:
		return ordered(opI64LtS)
	}
	return 0, false
}
