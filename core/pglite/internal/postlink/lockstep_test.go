package postlink

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// unit is a module's code.
type unit struct {
	code   []byte
	begins []uint64
}

func (u *unit) end(function int) uint64 {
	if function+1 < len(u.begins) {
		return u.begins[function+1]
	}
	return uint64(len(u.code))
}

func (u *unit) rearranged(t testing.TB) *unit {
	t.Helper()
	code, begins, err := Rearrange(u.code, u.begins)
	if err != nil {
		t.Fatal(err)
	}
	return &unit{code, begins}
}

// called returns the function that begins at a place; -1: none.
func (u *unit) called(at uint64) int {
	i := sort.Search(len(u.begins), func(i int) bool { return u.begins[i] >= at })
	if i == len(u.begins) || u.begins[i] != at {
		return -1
	}
	return i
}

// read is an instruction as another decoder reads it.
type read struct {
	at, next uint64
	inst     x86asm.Inst
	bytes    []byte
	to       uint64 // target of an instruction-relative displacement
	relative bool
	same     []byte // the bytes without it
}

// read reads an instruction. What that decoder does not know is read by this package's own; such instructions have no displacement.
func (u *unit) read(at uint64) (r read, err error) {
	b := u.code[at:]
	r.at = at
	inst, err := x86asm.Decode(b[:min(len(b), 16)], 64)
	if err != nil {
		var own instruction
		if !decode(b, &own) || own.kind != plain {
			return r, fmt.Errorf("% x at %d: %v", b[:min(len(b), 16)], at, err)
		}
		r.bytes = b[:own.size]
		r.next, r.same = at+uint64(own.size), r.bytes
		return r, nil
	}
	r.inst, r.bytes, r.next = inst, b[:inst.Len], at+uint64(inst.Len)
	r.same = bytes.Clone(r.bytes)
	if inst.PCRel > 0 {
		r.relative = true
		switch inst.PCRel {
		case 1:
			r.to = r.next + uint64(int64(int8(b[inst.PCRelOff])))
		case 4:
			r.to = r.next + uint64(int64(int32(binary.LittleEndian.Uint32(b[inst.PCRelOff:]))))
		default:
			return r, fmt.Errorf("a displacement of %d bytes at %d", inst.PCRel, at)
		}
		clear(r.same[inst.PCRelOff:][:inst.PCRel])
	}
	return r, nil
}

func (r *read) jumps() bool { return r.inst.Op == x86asm.JMP && r.relative }

// condition returns a branch's condition.
func (r *read) condition() (c byte, ok bool) {
	switch {
	case len(r.bytes) == 2 && r.bytes[0]&0xf0 == 0x70:
		return r.bytes[0] & 15, true
	case len(r.bytes) == 6 && r.bytes[0] == 0x0f && r.bytes[1]&0xf0 == 0x80:
		return r.bytes[1] & 15, true
	}
	return 0, false
}

// pair is a place in the old code, and the one in the new code that does the same from there on.
type pair struct{ old, new uint64 }

// lockstep goes through the old and the new version of a function along all paths, and reports where they do not do the same. It allows
// what Rearrange's documentation says, and nothing else.
type lockstep struct {
	old, new *unit
	function int
	met      map[uint64]uint64
	pending  []pair
	frame    string // what the function takes from the stack, in the form of the code that releases it
	shorter  bool   // it may leave out mov rsp, rbp
	saved    int    // instructions
}

// settle follows jumps.
func (u *unit) settle(at uint64) (read, error) {
	for range 1000 {
		r, err := u.read(at)
		if err != nil || !r.jumps() {
			return r, err
		}
		at = r.to
	}
	return u.read(at) // a loop of jumps only: the first of them
}

func (l *lockstep) run() error {
	l.met = map[uint64]uint64{}
	o, n, err := l.prologue()
	if err != nil {
		return err
	}
	l.pending = append(l.pending, pair{o, n})
	for len(l.pending) > 0 {
		p := l.pending[len(l.pending)-1]
		l.pending = l.pending[:len(l.pending)-1]
		if err := l.walk(p); err != nil {
			return err
		}
	}
	return nil
}

// prologue compares the two prologues, as far as they differ.
func (l *lockstep) prologue() (o, n uint64, err error) {
	o, n = l.old.begins[l.function], l.new.begins[l.function]
	var olds, news [5]read
	for i, at := 0, o; i < 5 && err == nil; i++ {
		olds[i], err = l.old.read(at)
		at = olds[i].next
	}
	for i, at := 0, n; i < 4 && err == nil; i++ {
		news[i], err = l.new.read(at)
		at = news[i].next
	}
	if err != nil { // it is shorter
		return o, n, nil
	}
	if olds[1].inst.String() != "MOV RBP, RSP" || bytes.Equal(olds[1].same, news[1].same) {
		return o, n, nil
	}
	size, ok := olds[2].inst.Args[1].(x86asm.Imm)
	if m, ok := news[1].inst.Args[1].(x86asm.Mem); !ok || m.Base != x86asm.RSP || m.Index != 0 || m.Disp != -int64(size) ||
		news[1].inst.Args[0] != x86asm.RBP || news[0].inst.String() != "PUSH RBP" || news[2].inst.String() != "CMP RBP, [RAX+0x28]" {
		return o, n, fmt.Errorf("prologue: %s, %s, %s", news[0].inst, news[1].inst, news[2].inst)
	}
	oc, ook := olds[4].condition()
	nc, nok := news[3].condition()
	if !ok || olds[2].inst.String() != fmt.Sprintf("SUB RSP, %#x", int64(size)) || olds[3].inst.String() != "CMP RSP, [RAX+0x28]" || !ook || !nok || oc != 7 {
		return o, n, fmt.Errorf("prologue of another form: %s, %s, %s", olds[2].inst, olds[3].inst, olds[4].inst)
	}
	enough, grow := pair{olds[4].to, news[3].to}, pair{olds[4].next, news[3].next}
	if nc == oc^1 {
		enough.new, grow.new = grow.new, enough.new
	} else if nc != oc {
		return o, n, fmt.Errorf("prologue: condition %d", nc)
	}
	for _, p := range []*pair{&enough, &grow} {
		ro, err := l.old.read(p.old)
		rn, errNew := l.new.settle(p.new)
		if err != nil || errNew != nil || ro.inst.String() != fmt.Sprintf("ADD RSP, %#x", int64(size)) || rn.inst.String() != "MOV RBP, RSP" {
			return o, n, fmt.Errorf("prologue: %s became %s", ro.inst, rn.inst)
		}
		p.old, p.new = ro.next, rn.next
	}
	l.shorter, l.frame = true, ""
	for at := enough.old; ; {
		r, err := l.old.read(at)
		if err != nil {
			return o, n, err
		}
		at = r.next
		if r.inst.Op == x86asm.PUSH {
			l.frame = fmt.Sprintf("POP %s ", r.inst.Args[0]) + l.frame
			continue
		}
		if r.inst.Op == x86asm.SUB && r.inst.Args[0] == x86asm.RSP {
			l.frame = fmt.Sprintf("ADD RSP, %s ", r.inst.Args[1]) + l.frame
		}
		break
	}
	l.pending = append(l.pending, grow)
	return enough.old, enough.new, nil
}

// walk follows both from a pair.
func (l *lockstep) walk(p pair) error {
	var before read
	row := ""
	for {
		o, err := l.old.settle(p.old)
		if err != nil {
			return err
		}
		if o.at != p.old { // jumped
			before, row = read{}, ""
		}
		n, err := l.new.settle(p.new)
		if err != nil {
			return err
		}
		if at, ok := l.met[o.at]; ok {
			if at != n.at {
				return fmt.Errorf("%d is at %d and at %d", o.at, at, n.at)
			}
			return nil
		}
		text := o.inst.String()
		switch {
		case l.dropped(o, n, before, row):
			l.saved++
			before, row = o, row+text+" "
			p = pair{o.next, n.at}
			continue
		case l.neither(o):
			l.saved++
			p = pair{o.next, n.at}
			continue
		}
		l.met[o.at] = n.at
		if err := l.equal(o, n); err != nil {
			return fmt.Errorf("%s at %d became %s at %d: %w", text, o.at, n.inst, n.at, err)
		}
		oc, branches := o.condition()
		switch {
		case branches:
			nc, _ := n.condition()
			if nc == oc {
				l.pending = append(l.pending, pair{o.to, n.to})
				p = pair{o.next, n.next}
			} else {
				l.pending = append(l.pending, pair{o.to, n.next})
				p = pair{o.next, n.to}
			}
			before, row = read{}, ""
			continue
		case o.inst.Op == x86asm.RET || o.inst.Op == x86asm.UD2:
			return nil
		case o.inst.Op == x86asm.JMP:
			return l.tables(o, n)
		}
		if row += text + " "; len(row) > 400 {
			row = row[len(row)-400:]
		}
		before = o
		p = pair{o.next, n.next}
	}
}

// dropped reports whether o may be left out: n is what follows it.
func (l *lockstep) dropped(o, n, before read, row string) bool {
	after, err := l.old.settle(o.next)
	if err != nil || !bytes.Equal(after.same, n.same) && !l.turned(after, n) {
		return false
	}
	switch {
	case o.inst.Op == x86asm.TEST && o.inst.Args[0] == o.inst.Args[1] && before.next == o.at && o.inst.Args[0] == before.inst.Args[0]:
		return (before.inst.Op == x86asm.AND || before.inst.Op == x86asm.OR || before.inst.Op == x86asm.XOR) && !bytes.Equal(o.same, n.same)
	case o.inst.String() == "MOV RSP, RBP":
		return l.shorter && n.inst.String() == "POP RBP" && len(row) >= len(l.frame) && row[len(row)-len(l.frame):] == l.frame
	}
	return false
}

// turned reports whether two branches are opposite or equal, whatever their length.
func (l *lockstep) turned(o, n read) bool {
	oc, ok := o.condition()
	nc, also := n.condition()
	return ok && also && (oc == nc || oc == nc^1)
}

// neither reports whether both ways of branch o lead to the same place.
func (l *lockstep) neither(o read) bool {
	if _, ok := o.condition(); !ok {
		return false
	}
	a, err := l.old.settle(o.to)
	b, errNext := l.old.settle(o.next)
	return err == nil && errNext == nil && a.at == b.at
}

// equal returns how two instructions differ.
func (l *lockstep) equal(o, n read) error {
	if l.turned(o, n) {
		return nil
	}
	if o.inst.Op == x86asm.CMP && o.inst.Args[1] == x86asm.Imm(0) && n.inst.Op == x86asm.TEST && n.inst.Args[0] == n.inst.Args[1] && n.inst.Args[0] == o.inst.Args[0] {
		return nil
	}
	if !bytes.Equal(o.same, n.same) {
		return fmt.Errorf("% x, and % x", o.bytes, n.bytes)
	}
	if !o.relative {
		return nil
	}
	if o.inst.Op == x86asm.CALL {
		if a, b := l.old.called(o.to), l.new.called(n.to); a < 0 || a != b {
			return fmt.Errorf("calls function %d instead of %d", b, a)
		}
		return nil
	}
	if o.to == o.at && n.to == n.at {
		return nil
	}
	if o.to == o.at || o.to >= l.old.end(l.function) || n.to >= l.new.end(l.function) {
		return fmt.Errorf("an address of elsewhere")
	}
	if o.inst.Op == x86asm.LEA {
		for at := o.next; at < o.to; { // the address of a table, after the jump by it
			r, err := l.old.read(at)
			if err != nil {
				break
			}
			if at = r.next; at == o.to && r.inst.Op == x86asm.JMP && !r.relative {
				return nil // see tables
			}
		}
	}
	size := min(16, l.old.end(l.function)-o.to)
	if n.to+size > uint64(len(l.new.code)) || !bytes.Equal(l.old.code[o.to:][:size], l.new.code[n.to:][:size]) || o.to%16 != n.to%16 {
		return fmt.Errorf("another constant, at %d and %d", o.to, n.to)
	}
	return nil
}

// tables compares the tables after two indirect jumps: as many entries as in the old one lead into the function.
func (l *lockstep) tables(o, n read) error {
	ways := l.ways(o)
	if ways == 0 {
		return fmt.Errorf("no table after the jump at %d", o.at)
	}
	for i := range uint64(ways) {
		to := func(u *unit, table uint64) uint64 { return table + binary.LittleEndian.Uint64(u.code[table+8*i:]) }
		l.pending = append(l.pending, pair{to(l.old, o.next), to(l.new, n.next)})
	}
	return nil
}

// ways returns how many entries a table has: it ends at the first later code or constant that something leads to, or at an entry that leads
// nowhere.
func (l *lockstep) ways(o read) (ways int) {
	begin, end := l.old.begins[l.function], l.old.end(l.function)
	for at := o.next; at+8 <= end; at += 8 {
		to := o.next + binary.LittleEndian.Uint64(l.old.code[at:])
		if to < begin || to >= end {
			break
		}
		ways++
	}
	return ways
}

// compareUnits compares every n-th function of two units.
func compareUnits(t *testing.T, old, new *unit, every int) {
	t.Helper()
	if len(old.begins) != len(new.begins) {
		t.Fatalf("%d functions instead of %d", len(new.begins), len(old.begins))
	}
	bad, saved, met := 0, 0, 0
	for i := 0; i < len(old.begins) && bad < 10; i += every {
		l := &lockstep{old: old, new: new, function: i}
		if err := l.run(); err != nil {
			bad++
			t.Errorf("function %d, at %d and %d: %v", i, old.begins[i], new.begins[i], err)
		}
		saved += l.saved
		met += len(l.met)
	}
	t.Logf("%d functions of %d bytes became %d bytes; of every %d. one, %d instructions are the same, %d left out", len(old.begins), len(old.code), len(new.code), every, met, saved)
}
