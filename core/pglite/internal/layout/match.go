package layout

import (
	"maps"

	"blobpglite/core/pglite/internal/wasmbin"
)

// found maps names in a shape, with their mark ($MyProc, &wrapper_handler, f$ for a function), or locals (%a), to
// numbers.
type found map[string]int64

// matcher looks for shapes. known returns what is already known about a name in the shape.
type matcher struct {
	p     *program
	known func(mark string) (int64, bool)
}

// search returns the numbers of a shape's names for each place in a function where it fits; equal fits count once.
func (m *matcher) search(s *shape, row []*wasmbin.Expr) (all []found) {
	add := func(got found) {
		got = maps.Clone(got)
		maps.DeleteFunc(got, func(name string, _ int64) bool { return name[0] == '%' })
		for _, other := range all {
			if maps.Equal(got, other) {
				return
			}
		}
		all = append(all, got)
	}
	for i := range row {
		if s.begin && i > 0 {
			break
		}
		if len(s.parts) == 1 {
			m.inside(s.parts[0], row[i], add)
		} else {
			m.rest(s.parts, row[i:], found{}, add)
		}
	}
	return all
}

// inside looks in an instruction and in all its operands.
func (m *matcher) inside(p *pattern, e *wasmbin.Expr, add func(found)) {
	if e == nil {
		return
	}
	if got := (found{}); m.fits(p, e, got) {
		add(got)
	}
	for _, a := range e.Args {
		m.inside(p, a, add)
	}
}

// rest fits the parts of a shape to a row from its beginning; a part that stands for any number of instructions takes as
// few as possible.
func (m *matcher) rest(parts []*pattern, row []*wasmbin.Expr, got found, add func(found)) bool {
	for {
		switch {
		case len(parts) == 0:
			add(got)
			return true
		case parts[0] == nil:
			for i := range row {
				if m.rest(parts[1:], row[i:], maps.Clone(got), add) {
					return true
				}
			}
			return false
		case len(row) == 0 || !m.fits(parts[0], row[0], got):
			return false
		}
		parts, row = parts[1:], row[1:]
	}
}

// fits compares one instruction, and adds to got.
func (m *matcher) fits(p *pattern, e *wasmbin.Expr, got found) bool {
	if p.any {
		return true
	}
	if e == nil {
		return false
	}
	if e.Op == opLocalTee && p.op != "tee" {
		return m.fits(p, e.Args[0], got)
	}
	if p.op == "" {
		v, ok := constant(e)
		return ok && (p.text != "" && m.p.isString(uint32(v), p.text) || p.text == "" && m.number(p.value, v, got))
	}
	if p.op != e.Name() {
		return false
	}
	if p.local != "" && !m.same("%"+p.local, e.Value, got) {
		return false
	}
	if p.op == "call" {
		v := p.value
		v.name = "f" + v.name
		if !m.number(v, e.Value, got) {
			return false
		}
	}
	if p.bare {
		return true
	}
	args := e.Args
	if e.Op >= opFirstAccess && e.Op <= opLastAccess {
		var ok bool
		if args, ok = m.access(p, e, got); !ok {
			return false
		}
	}
	if len(p.args) != len(args) {
		return false
	}
	for i, a := range args {
		if !m.fits(p.args[i], a, got) {
			return false
		}
	}
	return true
}

// access compares the offset of a load or a store, which is part of an address that is a constant. args are the remaining
// operands.
func (m *matcher) access(p *pattern, e *wasmbin.Expr, got found) (args []*wasmbin.Expr, ok bool) {
	if p.off.given {
		return e.Args, m.number(p.off, int64(e.Off), got)
	}
	if len(e.Args) == 0 || len(p.args) == 0 {
		return nil, false
	}
	if p.args[0].op == "tee" {
		return e.Args, e.Off == 0
	}
	base := e.Args[0]
	for base != nil && base.Op == opLocalTee {
		base = base.Args[0]
	}
	if base == nil || base.Op != opConst {
		return e.Args, e.Off == 0
	}
	whole := &wasmbin.Expr{Op: opConst, Value: base.Value + int64(e.Off)}
	return append([]*wasmbin.Expr{whole}, e.Args[1:]...), true
}

// constant returns the value of a constant. The compiler sometimes adds a local that holds zero to it.
func constant(e *wasmbin.Expr) (int64, bool) {
	if e.Op == opAdd && e.Args[0] != nil && e.Args[0].Op == opLocalGet && e.Args[1] != nil {
		e = e.Args[1]
	}
	return e.Value, e.Op == opConst || e.Op == opConst64
}

// number compares a number with one in a shape, or learns it.
func (m *matcher) number(o operand, v int64, got found) bool {
	if o.any {
		return true
	}
	if o.name == "" || o.name == "f" {
		return o.value == v
	}
	return m.same(o.name, v, got)
}

// same compares a number with that of a name, or learns it.
func (m *matcher) same(name string, v int64, got found) bool {
	want, ok := got[name]
	if !ok {
		want, ok = m.known(name)
	}
	if !ok {
		got[name] = v
		return true
	}
	return want == v
}
