package wasmbin

// helpers are the indexes of the functions that [RewriteMain] adds.
//
// Two of them replace instructions. wazero compiles each memory.copy and memory.fill to a call of Go's memmove, and
// because that may change every vector register, each function with such an instruction saves eight of them on every
// call, needed or not. So long copies and fills are left to functions that do nothing else.
//
// Another does nothing. The loop of an interpreter, such as the one that evaluates PostgreSQL's expressions, begins
// with everything that the function has in registers; so every path back to its head, and nearly all pass a call, loads
// that again, and the head stores what one of the paths loads. After a call, little is left in registers, and each path
// loads only what it needs.
type helpers struct {
	fill, copy         uint32
	longFill, longCopy uint32
	nothing            uint32
}

// helperFuncs is their number.
const helperFuncs = 5

func newHelpers(first uint32) helpers {
	return helpers{fill: first, copy: first + 1, longFill: first + 2, longCopy: first + 3, nothing: first + 4}
}

// appendHelpers appends their bodies to the code, and their types to the module.
func (m *Module) appendHelpers(code []byte, h helpers) []byte {
	three := uint32(len(m.types))
	none := three + 1
	added := appendFuncType(appendFuncType(nil, helperType()), FuncType{})
	m.sections.set(secType, extendVector(m.sections.body(secType), 2, added))
	var types []byte
	for _, t := range [helperFuncs]uint32{three, three, three, three, none} {
		types = appendU32(types, t)
	}
	m.sections.set(secFunction, extendVector(m.sections.body(secFunction), helperFuncs, types))
	for _, body := range [helperFuncs][]byte{
		fillBody(h.longFill), copyBody(h.longCopy), longBody(miscMemoryFill, 0), longBody(miscMemoryCopy, 0, 0), {0, opEnd},
	} {
		code = appendSized(code, body)
	}
	return code
}

// helperType is the type of memory.copy and memory.fill, and of their replacements.
func helperType() FuncType { return FuncType{Params: []ValType{I32, I32, I32}} }

// longBody returns a function that executes the instruction.
func longBody(misc ...byte) []byte {
	c := &code{}
	c.locals()
	return c.get(0).get(1).get(2).op(opMisc).op(misc...).op(opEnd).out
}

// callOf returns a call of a function.
func callOf(fn uint32) []byte { return appendU32([]byte{opCall}, fn) }

// interpreterWays is the minimum number of targets of the br_table in an interpreter's loop.
const interpreterWays = 64

// interpreters finds the loops of a function's interpreters: those with a br_table to many ends of blocks, all inside
// the loop.
type interpreters struct{ open []frame }

// frame is an open block, loop or if.
type frame struct {
	loop  bool
	start int  // its offset in the module
	found bool // it is an interpreter's
}

// visit looks at the next instruction; at the br_table of such a loop it returns where the loop begins, once.
func (l *interpreters) visit(in instr, buf []byte) (at int, ok bool) {
	switch in.op {
	case opBlock, opLoop, opIf:
		l.open = append(l.open, frame{loop: in.op == opLoop, start: in.start})
	case opEnd:
		if n := len(l.open); n > 0 {
			l.open = l.open[:n-1]
		}
	case opBrTable:
		r := reader{buf: buf, pos: in.start + 1, end: in.end}
		ways := int(r.u32("number of labels"))
		for i := len(l.open) - 1; i >= 0; i-- {
			loop := &l.open[i]
			if !loop.loop {
				continue
			}
			blocks := len(l.open) - 1 - i
			if ways < interpreterWays || blocks < ways/2 || loop.found {
				break
			}
			loop.found = true
			return loop.start, true
		}
	}
	return 0, false
}
