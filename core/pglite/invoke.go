package pglite

import (
	"context"
	"fmt"
	"strings"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/table"
	"github.com/tetratelabs/wazero/sys"
)

// The guest's setjmp and longjmp are Emscripten's: a function that calls setjmp makes its calls through imports named invoke_<signature>,
// and longjmp is an import that throws. Here a throw is a Go panic; invoke catches it, restores the stack pointer, and tells the guest by
// setThrew. The same panic carries exit(3) and traps, which invoke lets pass.

// unwind says why the guest's stack is being unwound.
type unwind uint8

const (
	unwindNone unwind = iota
	unwindLongjmp
	unwindExit
	unwindTrap
)

// errUnwind is the value of every panic that unwinds the guest; the reason is in Instance.unwinding. wazero passes an ExitError through its
// call boundaries unchanged; around any other error it would format a stack trace.
var errUnwind = sys.NewExitError(0xffff_fff0)

// signature is the type of a table function, as in the name of an invoke import: result first, v for none.
type signature struct {
	name            string
	params, results []api.ValueType
}

// sigOf parses a signature such as "viij".
func sigOf(name string) *signature {
	s, err := parseSignature(name)
	if err != nil {
		panic(err) // a constant of this package
	}
	return s
}

func parseSignature(name string) (*signature, error) {
	if name == "" {
		return nil, fmt.Errorf("parse signature %q: empty", name)
	}
	s := &signature{name: name}
	for i, c := range name {
		var t api.ValueType
		switch c {
		case 'v':
			if i != 0 {
				return nil, fmt.Errorf("parse signature %q: v is only a result", name)
			}
			continue
		case 'i':
			t = api.ValueTypeI32
		case 'j':
			t = api.ValueTypeI64
		case 'f':
			t = api.ValueTypeF32
		case 'd':
			t = api.ValueTypeF64
		default:
			return nil, fmt.Errorf("parse signature %q: unknown type %q", name, c)
		}
		if i == 0 {
			s.results = []api.ValueType{t}
		} else {
			s.params = append(s.params, t)
		}
	}
	return s, nil
}

// slot is a callable entry of the guest's function table. An api.Function is not re-entrant, so each nested call of a slot has its own;
// looking one up allocates, so they are kept.
type slot struct {
	sig   *signature
	calls []api.Function
	depth int
}

// enter returns the function of table entry index for one more nested call; leave must follow. It panics if the function has another type,
// as call_indirect would trap.
func (in *Instance) enter(index uint32, sig *signature) api.Function {
	for int(index) >= len(in.table) {
		in.table = append(in.table, make([]*slot, int(index)+1-len(in.table)+256)...)
	}
	sl := in.table[index]
	if sl == nil {
		sl = &slot{}
		in.table[index] = sl
	}
	if sl.sig != sig && (sl.sig == nil || sl.sig.name != sig.name) {
		if sl.depth > 0 {
			in.trapf("table entry %d is called as %s within a call as %s", index, sig.name, sl.sig.name)
		}
		sl.sig, sl.calls = sig, nil
	}
	if sl.depth == len(sl.calls) {
		sl.calls = append(sl.calls, table.LookupFunction(in.module, 0, index, sig.params, sig.results))
	}
	sl.depth++
	return sl.calls[sl.depth-1]
}

func (in *Instance) leave(index uint32) { in.table[index].depth-- }

// invoke is the import invoke_<sig>.
func invoke(sig *signature) hostFunc {
	hasResult := len(sig.results) > 0
	return func(in *Instance, s []uint64) {
		index := uint32(s[0])
		args := s[1:]
		if len(args) == 0 && hasResult {
			args = in.scratch[:1] // invoke_i and invoke_j have no room for the result after the index
		}
		f := in.enter(index, sig)
		sp := in.stackPointer.Get()
		err := f.CallWithStack(in.ctx, args)
		in.leave(index)
		if err == nil {
			if hasResult {
				s[0] = args[0]
			}
			return
		}
		if in.unwinding != unwindLongjmp {
			in.passOn(err)
		}
		in.unwinding = unwindNone
		in.stackPointer.Set(sp)
		if err := in.fn.setThrew.CallWithStack(in.ctx, in.threw()); err != nil {
			in.passOn(err)
		}
		s[0] = 0
	}
}

// threw returns the arguments of setThrew.
func (in *Instance) threw() []uint64 {
	in.scratch[2], in.scratch[3] = 1, 0
	return in.scratch[2:4]
}

// passOn continues an unwinding that a nested call reported; an error that no host function raised is a trap.
func (in *Instance) passOn(err error) {
	if in.unwinding == unwindNone {
		in.unwinding, in.trap = unwindTrap, err
	}
	panic(errUnwind)
}

func throwLongjmp(in *Instance, _ []uint64) {
	if in.wasKilled() { // PostgreSQL must not handle the error with which Kill stops it
		in.trapf("%w", errKilled)
	}
	in.unwinding = unwindLongjmp
	panic(errUnwind)
}

// featureNotSupported is SQLSTATE 0A000 as PostgreSQL packs it: six bits per character, counted from '0'.
const featureNotSupported = ('A' - '0') << 6

// levelError is ERROR of elog.h.
const levelError = 21

// raise is ereport(ERROR): it unwinds the guest's call stack up to its error handler.
func (in *Instance) raise(sqlstate uint64, message string) {
	frame := (uint32(in.stackPointer.Get()) - uint32(len(message)) - 1 - 8) &^ 15
	in.stackPointer.Set(uint64(frame)) // the handler restores it
	text := frame + 8
	in.mem.putU32(frame, text)    // the variable arguments
	in.mem.putCstr(frame+4, "%s") // the format
	in.mem.putCstr(text, message)
	raise := func(name string, args ...uint64) { in.call(in.module.ExportedFunction(name), args...) }
	raise("errstart", levelError, 0)
	raise("errcode", sqlstate)
	raise("errmsg", uint64(frame+4), uint64(frame))
	raise("errfinish", 0, 0, 0)
}

// callTable calls a table entry from a host function.
func (in *Instance) callTable(index uint32, sig *signature, args ...uint64) uint64 {
	buf := sig.arguments(args)
	f := in.enter(index, sig)
	err := f.CallWithStack(in.ctx, buf)
	in.leave(index)
	if err != nil {
		in.passOn(err)
	}
	if len(sig.results) == 1 && is32(sig.results[0]) {
		return uint64(uint32(buf[0]))
	}
	return buf[0]
}

// call calls an export from a host function, which may itself run inside the guest.
func (in *Instance) call(f api.Function, args ...uint64) uint64 {
	buf := make([]uint64, max(len(args), 1))
	copy(buf, args)
	if err := f.CallWithStack(in.ctx, buf); err != nil {
		in.passOn(err)
	}
	return buf[0]
}

// hostFunc is an import: s holds its arguments and then its result.
type hostFunc func(in *Instance, s []uint64)

// guestContext carries the instance to host functions. It is the context of every call into the guest, so a type assertion finds the
// instance without a walk through context values.
type guestContext struct {
	context.Context
	in *Instance
}

// goFunc adapts a host function to wazero. A 32-bit value occupies a 64-bit slot: wazero writes only the lower half of an argument, and may
// read all of a result, whose slot is that of the first argument's register. So the upper halves are cleared here, whatever they held (a
// negative int, earlier stack contents, the rest of an argument whose slot the result shares).
func goFunc(f hostFunc, params, results []api.ValueType) api.GoFunc {
	var narrow []int // the 32-bit arguments
	for i, t := range params {
		if is32(t) {
			narrow = append(narrow, i)
		}
	}
	narrowResult := len(results) == 1 && is32(results[0])
	return func(ctx context.Context, stack []uint64) {
		for _, i := range narrow {
			stack[i] = uint64(uint32(stack[i]))
		}
		f(ctx.(*guestContext).in, stack)
		if narrowResult {
			stack[0] = uint64(uint32(stack[0]))
		}
	}
}

// is32 reports whether a value of the type has 32 bits.
func is32(t api.ValueType) bool { return t == api.ValueTypeI32 || t == api.ValueTypeF32 }

// arguments returns args as a call takes them: the upper halves of 32-bit values are cleared.
func (s *signature) arguments(args []uint64) []uint64 {
	buf := make([]uint64, max(len(args), 1))
	copy(buf, args)
	for i, t := range s.params[:min(len(s.params), len(args))] {
		if is32(t) {
			buf[i] = uint64(uint32(buf[i]))
		}
	}
	return buf
}

// invokeSignature returns the signature in the name of an invoke import, or "".
func invokeSignature(name string) string {
	s, ok := strings.CutPrefix(name, "invoke_")
	if !ok {
		return ""
	}
	return s
}
