package wasmbin

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
)

// compareCode undoes the rewriting of each body from what it finds there, without the pass's knowledge, and checks that only the original
// remains.
func compareCode(t *testing.T, before, after []byte) {
	t.Helper()
	old, now := mustParse(t, before), mustParse(t, after)
	helper := uint32(len(old.Funcs))
	if !reflect.DeepEqual(now.Funcs[:helper], old.Funcs) || len(now.Funcs) != int(helper)+helperFuncs {
		t.Fatal("functions moved")
	}
	oldCode, _ := old.sections.reader(secCode)
	nowCode, _ := now.sections.reader(secCode)
	n := oldCode.count(maxVectorLen, "bodies")
	if nowCode.count(maxVectorLen, "bodies") != n+helperFuncs {
		t.Fatal("not the helpers more")
	}
	for i := range n {
		oldBody, nowBody := *oldCode, *nowCode
		oldText := oldBody.bytes(int(oldBody.u32("body size")), "body")
		if r, ok := newReplacer().find(oldText); ok {
			if !bytes.Equal(nowBody.bytes(int(nowBody.u32("body size")), "body"), r.body()) {
				t.Errorf("%s is not replaced by what stands in for it", r.name)
			}
			oldCode.pos, nowCode.pos = oldBody.pos, nowBody.pos
			continue
		}
		u := undo{before: before, after: after, helpers: newHelpers(helper)}
		u.a, u.locals = bodyOf(t, oldCode)
		u.b, _ = bodyOf(t, nowCode)
		u.locals += uint32(len(old.Funcs[old.imported[KindFunc]+i].Params))
		for len(u.b) > 0 {
			if !u.added() && !u.same() {
				t.Fatalf("function %d: % x became % x", i, before[u.a[0].start:u.a[0].end], after[u.b[0].start:u.b[0].end])
			}
		}
		if len(u.a) > 0 || len(u.constants) > 0 {
			t.Fatalf("function %d: %d instructions are missing, %d constants were not added to an offset", i, len(u.a), len(u.constants))
		}
	}
}

// undo walks a body before and after side by side.
type undo struct {
	before, after []byte
	a, b          []instr
	locals        uint32 // of the original: the index of the zero local
	helpers       helpers
	constants     []uint32 // replaced by the zero local, not yet seen in an offset
}

func (u *undo) textA(n int) []byte {
	if n > len(u.a) {
		return nil
	}
	return u.before[u.a[0].start:u.a[n-1].end]
}

func (u *undo) textB(n int) []byte {
	if n > len(u.b) {
		return nil
	}
	return u.after[u.b[0].start:u.b[n-1].end]
}

// added consumes instructions that do nothing: a local set to itself, an empty else, a load that is dropped, the call before a loop.
func (u *undo) added() bool {
	op := func(i int) byte {
		if i < len(u.b) {
			return u.b[i].op
		}
		return opNop
	}
	n := 0
	switch {
	case op(0) == opLocalGet && op(1) == opLocalSet && immediate(u.after, u.b[0]) == immediate(u.after, u.b[1]):
		n = 2
	case op(0) == opLocalGet && op(1) == opI32Load8U && op(2) == opDrop:
		n = 3
	case op(0) == opElse && op(1) == opEnd:
		n = 1
	case op(0) == opCall && op(1) == opLoop && bytes.Equal(u.textB(1), callOf(u.helpers.nothing)):
		n = 1
	}
	if n == 0 || bytes.Equal(u.textA(n), u.textB(n)) {
		return false
	}
	u.b = u.b[n:]
	return true
}

// same consumes an instruction that stayed, or that became another.
func (u *undo) same() bool {
	if len(u.a) == 0 {
		return false
	}
	a, b, taken := u.a[0], u.b[0], 1
	switch {
	case a.op == opMemorySize:
		taken = 3
		if !bytes.Equal(u.textB(3), []byte{opMemorySize, 0, opI32Const, 1, opI32Sub}) {
			return false
		}
	case bytes.Equal(u.textA(1), u.textB(1)):
	case a.op == opMisc && a.misc == miscMemoryFill:
		if !bytes.Equal(u.textB(1), callOf(u.helpers.fill)) {
			return false
		}
	case a.op == opMisc && a.misc == miscMemoryCopy:
		if !bytes.Equal(u.textB(1), callOf(u.helpers.copy)) {
			return false
		}
	case a.op == opI32Const && b.op == opLocalGet && immediate(u.after, b) == u.locals:
		r := reader{buf: u.before, pos: a.start + 1, end: a.end}
		u.constants = append(u.constants, uint32(r.signed(32, "constant")))
	case a.op >= opI32Load && a.op <= opI64Store32 && a.op == b.op:
		ra := reader{buf: u.before, pos: a.start + 1, end: a.end}
		rb := reader{buf: u.after, pos: b.start + 1, end: b.end}
		if ra.u32("alignment") != rb.u32("alignment") {
			return false
		}
		i := slices.Index(u.constants, rb.u32("offset")-ra.u32("offset"))
		if i < 0 {
			return false
		}
		u.constants = slices.Delete(u.constants, i, i+1)
	default:
		return false
	}
	u.a, u.b = u.a[1:], u.b[taken:]
	return true
}

// undoBranches reverses what [ArrangeBranches] arranged, from what it finds; an if around only a branch becomes that branch, whatever its
// origin, and trailing br_table targets equal to the default are left out.
func undoBranches(t *testing.T, bin []byte) []byte {
	t.Helper()
	m := mustParse(t, bin)
	r, _ := m.sections.reader(secCode)
	n := r.count(maxVectorLen, "bodies")
	code := appendU32(nil, uint32(n))
	for range n {
		sized := *r
		sized.u32("body size")
		all, _ := bodyOf(t, r)
		op := func(i int) byte {
			if i < len(all) {
				return all[i].op
			}
			return opNop
		}
		start, added := sized.pos, false
		var out []byte
		for i := 0; i < len(all); i++ {
			text := bin[all[i].start:all[i].end]
			turned, comparison := opposite(op(i))
			switch {
			case compared(bin, all[i:]):
				added = true
				var labels []uint32
				for i++; op(i) == opLocalGet; i++ {
					way := 0
					if i++; op(i) == opI32Const {
						way = int(immediate(bin, all[i]))
						i++
					}
					i++
					for len(labels) <= way {
						labels = append(labels, ^uint32(0))
					}
					labels[way] = immediate(bin, all[i])
				}
				rest := immediate(bin, all[i])
				out = appendU32(append(out, opBrTable), uint32(len(labels)))
				for _, label := range append(labels, rest) {
					if label == ^uint32(0) {
						label = rest
					}
					out = appendU32(out, label)
				}
			case op(i) == opIf && op(i+1) == opBr && op(i+2) == opEnd:
				out = appendU32(append(out, opBrIf), immediate(bin, all[i+1])-1)
				i += 2
			case op(i+1) == opIf && op(i+2) == opElse:
				switch {
				case op(i) == opI32Eqz:
				case comparison:
					out = append(out, turned)
				default:
					out = append(append(out, text...), opI32Eqz)
				}
				out = append(out, opIf, blockEmpty)
				i += 2
			default:
				out = append(out, text...)
			}
		}
		decls := slices.Clone(bin[start:all[0].start])
		if added { // the last declaration
			r := reader{buf: decls, end: len(decls)}
			n := r.u32("declarations")
			decls = append(appendU32(nil, n-1), decls[r.pos:len(decls)-2]...)
		}
		code = appendSized(code, append(decls, out...))
	}
	m.sections.set(secCode, code)
	return m.sections.bytes()
}

// compared reports whether code begins with what [ArrangeBranches] makes of a br_table.
func compared(bin []byte, code []instr) bool {
	op := func(i int) byte {
		if i < len(code) {
			return code[i].op
		}
		return opNop
	}
	if op(0) != opLocalSet {
		return false
	}
	i := 1
	for op(i) == opLocalGet && immediate(bin, code[i]) == immediate(bin, code[0]) {
		if i++; op(i) == opI32Const {
			i++
		}
		if op(i) != opI32Eqz && op(i) != opI32Eq || op(i+1) != opBrIf {
			return false
		}
		i += 2
	}
	return i > 1 && op(i) == opBr
}
