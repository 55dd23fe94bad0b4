package wasmbin

import (
	"fmt"
	"strings"
)

// Expr is an instruction of a function body, with the instructions that made its operands.
type Expr struct {
	Op    byte
	Misc  uint32  // the second opcode, if Op is a prefix
	Value int64   // a constant, or the index of a function, type, local, global, or label
	Off   uint32  // of a load or a store
	Args  []*Expr // in the order pushed; nil if the value is a block's
}

// Code gives access to the bodies of a module's functions.
type Code struct {
	m      *Module
	walk   typeWalk
	bodies []reader
}

// Code finds the bodies of the module's own functions. Errors match [ErrFormat].
func (m *Module) Code() (*Code, error) {
	c := &Code{m: m}
	c.walk.m = m
	r, n, _ := m.bodies()
	for range n {
		c.bodies = append(c.bodies, *r.sub(r.u32("body size"), "function body"))
	}
	if err := r.finish(); err != nil {
		return nil, fmt.Errorf("read the code: %w", err)
	}
	return c, nil
}

// First returns the index of the first function that is not imported.
func (c *Code) First() uint32 { return uint32(c.m.imported[KindFunc]) }

// Each calls visit for each instruction of a function, reachable or not, without its arguments. The instruction is
// valid only until visit returns.
func (c *Code) Each(f uint32, visit func(*Expr)) error {
	body, err := c.body(f)
	if err != nil {
		return err
	}
	var e Expr
	body.walkBody(func(in instr) {
		e = operands(in, body.buf)
		visit(&e)
	})
	return body.err
}

// Tree returns the instructions of a function that leave no value, in order, each with all its operands; blocks,
// branches and ends are in this list too. Unreachable code is left out. The value of a block with a result is that of
// the branch that falls through.
func (c *Code) Tree(f uint32) ([]*Expr, error) {
	body, err := c.body(f)
	if err != nil {
		return nil, err
	}
	t := treeBuilder{walk: &c.walk}
	if err := c.walk.function(c.m.Funcs[f], &body, func(in instr) { t.visit(in, body.buf) }); err != nil {
		return nil, fmt.Errorf("read function %d: %w", f, err)
	}
	t.settle(0)
	return t.out, nil
}

func (c *Code) body(f uint32) (reader, error) {
	i := int64(f) - int64(c.First())
	if i < 0 || i >= int64(len(c.bodies)) {
		return reader{}, fmt.Errorf("read function %d: %w: it has no body with this index", f, ErrFormat)
	}
	return c.bodies[i], nil
}

type treeBuilder struct {
	walk  *typeWalk
	stack []*Expr
	out   []*Expr
}

// settle makes the stack's height that of the walk: values that a block left unused become statements of their own,
// those that came by a branch are unknown.
func (t *treeBuilder) settle(height int) {
	for len(t.stack) < height {
		t.stack = append(t.stack, nil)
	}
	for _, e := range t.stack[height:] {
		if e != nil {
			t.out = append(t.out, e)
		}
	}
	t.stack = t.stack[:height]
}

func (t *treeBuilder) visit(in instr, buf []byte) {
	height := len(t.walk.stack)
	if in.op == opElse {
		height = t.walk.floor() // the value of the first arm
	}
	t.settle(height)
	e := operands(in, buf)
	pops, pushes := 0, 0
	switch in.op {
	case opBlock, opLoop, opElse, opBr, opUnreachable:
	case opIf, opBrTable:
		pops = 1
	case opReturn:
		pops = len(t.walk.frames[0].kind.Results)
	case opEnd:
		if len(t.walk.frames) == 1 { // the function's
			pops = len(t.walk.frames[0].kind.Results)
		}
	default:
		p, results, ok := t.walk.effect(in, buf)
		if !ok {
			return // the walk reports it
		}
		pops, pushes = p, len(results)
	}
	t.settle(max(len(t.stack), pops)) // an end that only branches reach
	e.Args = append(e.Args, t.stack[len(t.stack)-pops:]...)
	t.stack = t.stack[:len(t.stack)-pops]
	if pushes == 0 {
		t.out = append(t.out, &e)
		return
	}
	for range pushes {
		t.stack = append(t.stack, &e)
	}
}

// operands returns an instruction with its immediate operands.
func operands(in instr, buf []byte) Expr {
	e := Expr{Op: in.op, Misc: in.misc}
	r := reader{buf: buf, pos: in.start + 1, end: in.end}
	switch op := in.op; {
	case op == opI32Const:
		e.Value = r.signed(32, "i32 constant")
	case op == opI64Const:
		e.Value = r.signed(64, "i64 constant")
	case op >= opI32Load && op <= opI64Store32:
		r.u32("alignment")
		e.Off = r.u32("offset")
	case op == opBr, op == opBrIf, op == opCall, op == opCallIndirect, op >= opLocalGet && op <= opTableSet, op == opRefFunc:
		e.Value = int64(r.u32("index"))
	}
	return e
}

// Name returns the instruction's name in the text format; call, and local.get, .set and .tee without "local.".
func (e *Expr) Name() string { return opNames[e.Op] }

// String returns the tree in a short form for searching: a constant is its value, a local l and its index, a call f and
// the function's.
func (e *Expr) String() string {
	var b strings.Builder
	e.write(&b)
	return b.String()
}

func (e *Expr) write(b *strings.Builder) {
	if e == nil {
		b.WriteByte('_')
		return
	}
	switch op := e.Op; {
	case op == opI32Const, op == opI64Const:
		fmt.Fprint(b, e.Value)
	case op == opLocalGet:
		fmt.Fprintf(b, "l%d", e.Value)
	case op == opCall:
		fmt.Fprintf(b, "f%d", e.Value)
	default:
		b.WriteString(e.Name())
	}
	switch op := e.Op; {
	case op == opSIMD, op == opMisc:
		fmt.Fprintf(b, ".%d", e.Misc)
	case op == opBr, op == opBrIf, op == opLocalSet, op == opLocalTee, op == opGlobalGet, op == opGlobalSet, op == opCallIndirect:
		fmt.Fprintf(b, " %d", e.Value)
	case e.Off != 0:
		fmt.Fprintf(b, "+%d", e.Off)
	}
	for i, a := range e.Args {
		b.WriteString([]string{"(", ", "}[min(i, 1)])
		a.write(b)
	}
	if len(e.Args) > 0 {
		b.WriteByte(')')
	}
}
