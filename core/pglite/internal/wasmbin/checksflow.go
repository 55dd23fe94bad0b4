package wasmbin

import "slices"

// slot is what is known about a local at one point of a function.
type slot struct {
	value int32 // number of its value; locals with the same number are equal
	bound uint64
	fact  *source // why value+bound is inside the memory; nil: unknown
	name  *source // the merges that value has passed as this local
}

// operand is a value on the stack.
type operand struct {
	value    int32 // 0: a value that is in no local
	local    int32 // the local it was read from, -1: none
	name     *source
	constant bool
	number   uint32 // the constant
	push     instr  // and its instruction
}

// flowFrame is an open block.
type flowFrame struct {
	op      byte // opBlock, opLoop, opIf, opElse; 0 for the function
	dead    bool // began in unreachable code
	height  int  // of the stack, below its operands
	results int
	edges   int    // paths to its end so far
	merged  []slot // what they agree on
	branch  []slot // opIf: the state at the if
}

// checkedFunc is the function in the pass; it is reused for each.
type checkedFunc struct {
	m         *Module
	zeroLimit uint64 // addresses below are always inside the memory
	sources   arena
	stats     checkStats

	slots     []slot // the locals, and after them the zero local
	lastRead  []int  // where each local is last read
	stack     []operand
	frames    []flowFrame
	free      [][]slot // for reuse
	values    int32
	dead      bool
	unknown   bool // something unknown to the pass
	constants []*constant
	out       []edit

	declStart, declCountEnd, declEnd int
	decls                            uint32
}

func (f *checkedFunc) fresh() int32 {
	f.values++
	return f.values
}

func (f *checkedFunc) push(o operand) { f.stack = append(f.stack, o) }

func (f *checkedFunc) pushFresh(n int) {
	for range n {
		f.push(operand{local: -1})
	}
}

func (f *checkedFunc) pop() operand {
	if n := len(f.stack); n > 0 && n > f.frames[len(f.frames)-1].height {
		o := f.stack[n-1]
		f.stack = f.stack[:n-1]
		return o
	}
	f.unknown = true
	return operand{local: -1}
}

func (f *checkedFunc) popN(n int) {
	for range n {
		f.pop()
	}
}

func (f *checkedFunc) clone(slots []slot) []slot {
	if n := len(f.free); n > 0 {
		buf := f.free[n-1]
		f.free = f.free[:n-1]
		return append(buf[:0], slots...)
	}
	return slices.Clone(slots)
}

func (f *checkedFunc) recycle(slots []slot) {
	if slots != nil {
		f.free = append(f.free, slots)
	}
}

// holder finds a local that holds the value of an operand.
func (f *checkedFunc) holder(o operand) (local int, ok bool) {
	if o.value == 0 {
		return 0, false
	}
	if o.local >= 0 && f.slots[o.local].value == o.value {
		return int(o.local), true
	}
	for i := range f.slots {
		if f.slots[i].value == o.value {
			return i, true
		}
	}
	return 0, false
}

// define is local.set.
func (f *checkedFunc) define(local uint32, o operand) {
	switch i, ok := f.holder(o); {
	case ok:
		f.slots[local] = f.slots[i]
	case o.value != 0:
		f.slots[local] = slot{value: o.value, name: o.name}
	default:
		f.slots[local] = slot{value: f.fresh()}
	}
}

func (f *checkedFunc) read(local uint32) operand {
	s := f.slots[local]
	return operand{value: s.value, local: int32(local), name: s.name}
}

// learn notes, for every local with the value, that it is good up to bound.
func (f *checkedFunc) learn(value int32, bound uint64, fact *source) {
	for i := range f.slots {
		if s := &f.slots[i]; s.value == value {
			s.bound, s.fact = bound, fact
		}
	}
}

// access handles a load or a store of size bytes at the address o plus an offset.
func (f *checkedFunc) access(in instr, o operand, align, offset uint32, size uint64) {
	f.stats.accesses++
	ceil := uint64(offset) + size
	limit := ceil + GuardBytes
	var taken *constant
	local, ok := f.holder(o)
	if o.constant {
		address := uint64(o.number) + uint64(offset)
		local, ok = len(f.slots)-1, address+size <= f.zeroLimit
		ceil, limit = address+size, f.zeroLimit
		taken = &constant{push: o.push, access: in, align: align, offset: uint32(address)}
	}
	if !ok {
		return
	}
	if s := f.slots[local]; s.fact != nil && ceil <= max(s.bound, s.fact.limit) {
		s.fact.demand(ceil)
		s.name.demand(0)
		if taken != nil {
			f.constants = append(f.constants, taken)
		}
		if ceil > s.bound {
			f.learn(s.value, ceil, s.fact)
		}
		return
	}
	f.learn(f.slots[local].value, ceil, f.sources.new(source{
		kind: sourceCheck, local: uint32(local), at: in.start, ceil: ceil, limit: limit, taken: taken,
	}))
}

// enter opens a block whose operands are popped already.
func (f *checkedFunc) enter(op byte, results int) {
	fr := flowFrame{op: op, dead: f.dead, height: len(f.stack), results: results}
	switch {
	case f.dead:
	case op == opIf:
		fr.branch = f.clone(f.slots)
	case op == opLoop:
		// wazero renames every local at the head of a loop: it does not yet know what comes around.
		for i := range f.slots {
			f.slots[i] = slot{value: f.fresh()}
		}
	}
	f.frames = append(f.frames, fr)
}

// branch adds a path to the end of a block. A br_table adds it without facts.
func (f *checkedFunc) branch(depth uint32, facts bool) {
	if int64(depth) >= int64(len(f.frames)) {
		f.unknown = true
		return
	}
	fr := &f.frames[len(f.frames)-1-int(depth)]
	if fr.op == opLoop || fr.op == 0 {
		return
	}
	fr.edges++
	if fr.edges == 1 {
		fr.merged = f.clone(f.slots)
		if !facts {
			for i := range fr.merged {
				fr.merged[i].fact = nil
			}
		}
		return
	}
	for i := range fr.merged {
		m, s := &fr.merged[i], &f.slots[i]
		if m.value != s.value {
			*m = slot{value: -1}
			continue
		}
		m.name = f.sources.join(m.name, s.name)
		if !facts || s.fact == nil || m.fact == nil {
			m.fact = nil
			continue
		}
		m.bound, m.fact = min(m.bound, s.bound), f.sources.join(m.fact, s.fact)
	}
}

// otherwise is else.
func (f *checkedFunc) otherwise() {
	fr := &f.frames[len(f.frames)-1]
	if fr.dead {
		return
	}
	if fr.op != opIf {
		f.unknown = true
		return
	}
	if !f.dead {
		f.branch(0, true)
	}
	f.recycle(f.slots)
	fr.op, f.slots, fr.branch = opElse, fr.branch, nil
	f.dead, f.stack = false, f.stack[:fr.height]
}

// leave is end.
func (f *checkedFunc) leave(in instr) {
	if fr := f.frames[len(f.frames)-1]; fr.op == opIf && !fr.dead {
		f.stats.elses++
		f.out = append(f.out, edit{start: in.start, end: in.start, rank: rankPlain, with: []byte{opElse}})
		f.otherwise()
	}
	if fr := f.frames[len(f.frames)-1]; fr.op != 0 && fr.op != opLoop && !fr.dead && !f.dead {
		f.branch(0, true)
	}
	fr := f.frames[len(f.frames)-1]
	f.frames = f.frames[:len(f.frames)-1]
	if fr.dead || fr.op == 0 {
		return
	}
	f.stack = f.stack[:min(fr.height, len(f.stack))]
	f.pushFresh(fr.results)
	if fr.op == opLoop { // its end has at most one predecessor
		return
	}
	if f.dead = fr.edges == 0; f.dead {
		return
	}
	f.recycle(f.slots)
	f.slots = fr.merged
	if fr.edges > 1 {
		f.merge(in)
	}
}

// merge renames the locals after the end of a block that several paths lead to.
func (f *checkedFunc) merge(in instr) {
	last := len(f.slots) - 1
	for i := range f.slots {
		s := &f.slots[i]
		if s.value < 0 || i < last && f.lastRead[i] < in.end {
			*s = slot{value: f.fresh()}
			continue
		}
		s.name = f.sources.new(source{kind: sourceMerge, local: uint32(i), at: in.end, a: s.name})
	}
}
