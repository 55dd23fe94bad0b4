package layout

import (
	"fmt"
	"strconv"
	"strings"
)

// A shape describes a piece of a function, written as [wasmbin.Expr] writes it, with names for what is to be found or is
// known already:
//
//	i32.store($MyProc, _); ...; f$OwnLatch(i32.add(i32.load($MyProc), $PGPROC.procLatch))
//
//	_            anything
//	12           this constant
//	$name        a constant: an address; with a dot in the name, the offset of a field ($sizeof.name: a size)
//	&name        a constant: the slot of this function in the table
//	"text"       a constant: the address of this text
//	f$name(...)  a call of this function
//	%a           a local, the same for every %a
//	op+12(...)   a load or store with this offset; op+$name likewise, op+_ any. Without one, of an address: offset and address added
//	op           the instruction, with any operands
//
// set and tee may name their local (set %a(_)); a tee that the shape lacks is looked through. Parts between semicolons
// are consecutive instructions of the function's row, "..." is any number of them (as few as fit), and ^ before the first
// means that it begins the function. A shape of one part may also be nested inside an instruction.
type shape struct {
	text  string
	parts []*pattern // nil: any number of instructions
	begin bool
}

// pattern is one instruction of a shape.
type pattern struct {
	any   bool
	op    string  // "" for a constant
	value operand // of a constant, or which function is called
	off   operand
	local string // "%a"
	text  string // of a string
	args  []*pattern
	bare  bool // any operands
}

// operand is a number or its name.
type operand struct {
	given bool
	any   bool   // any number
	name  string // "" for a number; begins with $ or &
	value int64
}

// parseShape reads a shape; an error is a mistake in this package.
func parseShape(text string) (*shape, error) {
	s := &shape{text: text}
	rest, begin := strings.CutPrefix(strings.TrimSpace(text), "^")
	s.begin = begin
	p := &shapeParser{rest: rest}
	for {
		p.space()
		if strings.HasPrefix(p.rest, "...") {
			p.rest = p.rest[3:]
			s.parts = append(s.parts, nil)
		} else {
			part, err := p.pattern()
			if err != nil {
				return nil, fmt.Errorf("shape %q: %w", text, err)
			}
			s.parts = append(s.parts, part)
		}
		if p.space(); p.rest == "" {
			return s, nil
		}
		if !p.take(';') {
			return nil, fmt.Errorf("shape %q: a semicolon is missing before %q", text, p.rest)
		}
	}
}

type shapeParser struct{ rest string }

func (p *shapeParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

func (p *shapeParser) take(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// word takes letters, digits and the other characters of names.
func (p *shapeParser) word() string {
	i := 0
	for i < len(p.rest) && (p.rest[i] == '_' || p.rest[i] == '.' || p.rest[i] == '-' || p.rest[i] >= '0' && p.rest[i] <= '9' ||
		p.rest[i] >= 'a' && p.rest[i] <= 'z' || p.rest[i] >= 'A' && p.rest[i] <= 'Z') {
		i++
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

func (p *shapeParser) pattern() (*pattern, error) {
	p.space()
	if p.rest == "" {
		return nil, fmt.Errorf("an instruction is expected at its end")
	}
	switch c := p.rest[0]; {
	case c == '"':
		end := strings.IndexByte(p.rest[1:], '"')
		if end < 0 {
			return nil, fmt.Errorf("a closing quote is missing")
		}
		out := &pattern{text: p.rest[1 : 1+end]}
		p.rest = p.rest[end+2:]
		return out, nil
	case c == '$', c == '&', c == '-', c >= '0' && c <= '9':
		v, err := p.operand()
		return &pattern{value: v}, err
	case c == '%':
		p.rest = p.rest[1:]
		return &pattern{op: "get", local: p.word()}, nil
	}
	if p.rest[0] == '_' {
		p.rest = p.rest[1:]
		return &pattern{any: true}, nil
	}
	return p.instruction()
}

func (p *shapeParser) operand() (operand, error) {
	if p.rest != "" && (p.rest[0] == '$' || p.rest[0] == '&') {
		mark := p.rest[:1]
		p.rest = p.rest[1:]
		if w := p.word(); w != "" {
			return operand{given: true, name: mark + w}, nil
		}
		return operand{}, fmt.Errorf("a name is missing before %q", p.rest)
	}
	w := p.word()
	v, err := strconv.ParseInt(w, 10, 64)
	if err != nil {
		return operand{}, fmt.Errorf("%q is not a number", w)
	}
	return operand{given: true, value: v}, nil
}

func (p *shapeParser) instruction() (_ *pattern, err error) {
	out := &pattern{op: p.word(), bare: true}
	if out.op == "" {
		return nil, fmt.Errorf("%q is not an instruction", p.rest)
	}
	switch {
	case out.op == "f" && strings.HasPrefix(p.rest, "$"):
		out.op = "call"
		out.value, err = p.operand()
	case strings.HasPrefix(p.rest, " %"):
		p.rest = p.rest[2:]
		out.local = p.word()
	case strings.HasPrefix(p.rest, "+_"):
		p.rest = p.rest[2:]
		out.off = operand{given: true, any: true}
	case strings.HasPrefix(p.rest, "+"):
		p.rest = p.rest[1:]
		out.off, err = p.operand()
	}
	if err != nil || !p.take('(') {
		return out, err
	}
	out.bare = false
	for !p.take(')') {
		if len(out.args) > 0 && !p.take(',') {
			return nil, fmt.Errorf("a comma is missing before %q", p.rest)
		}
		arg, err := p.pattern()
		if err != nil {
			return nil, err
		}
		out.args = append(out.args, arg)
	}
	return out, nil
}
