package layout

import (
	"bytes"
	"errors"
	"slices"

	"blobpglite/core/pglite/internal/wasmbin"
)

// program is a parsed pglite.wasm, prepared for searches.
type program struct {
	module *wasmbin.Module
	code   *wasmbin.Code
	memory []byte // as filled by the data segments

	named   map[string]uint32   // exported or imported functions
	data    map[string]uint32   // addresses of exported variables
	slots   map[uint32]uint32   // functions, by their place in the table
	callers map[uint32][]uint32 // of each function, in order
	users   map[uint32][]uint32 // functions that use a constant, in order
}

// maxMemory bounds the memory that data segments fill.
const maxMemory = 64 << 20

func readProgram(bin []byte) (*program, error) {
	m, err := wasmbin.Parse(bin)
	if err != nil {
		return nil, err
	}
	p := &program{
		module: m, named: map[string]uint32{}, data: map[string]uint32{}, slots: map[uint32]uint32{},
		callers: map[uint32][]uint32{}, users: map[uint32][]uint32{},
	}
	imported := uint32(0)
	for _, i := range m.Imports {
		if i.Kind == wasmbin.KindFunc {
			p.named[i.Name] = imported
			imported++
		}
	}
	for _, e := range m.Exports {
		if e.Kind == wasmbin.KindFunc {
			p.named[e.Name] = e.Index
		}
	}
	for name, at := range m.Consts() {
		p.data[name] = uint32(at)
	}
	for _, e := range m.Elems {
		for i, f := range e.Funcs {
			if f != wasmbin.NullFunc {
				p.slots[e.Offset+uint32(i)] = f
			}
		}
	}
	if err := p.readMemory(); err != nil {
		return nil, err
	}
	return p, p.readCode()
}

func (p *program) readMemory() error {
	segments, err := p.module.DataSegments()
	if err != nil {
		return err
	}
	for _, s := range segments {
		end := uint64(s.Offset) + uint64(len(s.Data))
		if s.Base >= 0 || end > maxMemory {
			return errors.New("its data is not at fixed addresses, or the addresses are too large")
		}
		if n := int(end) - len(p.memory); n > 0 {
			p.memory = append(p.memory, make([]byte, n)...)
		}
		copy(p.memory[s.Offset:], s.Data)
	}
	return nil
}

// readCode notes which functions each function calls, and which constants it uses.
func (p *program) readCode() (err error) {
	if p.code, err = p.module.Code(); err != nil {
		return err
	}
	note := func(m map[uint32][]uint32, key, f uint32) {
		if l := m[key]; len(l) == 0 || l[len(l)-1] != f {
			m[key] = append(l, f)
		}
	}
	for f := p.code.First(); int(f) < len(p.module.Funcs); f++ {
		err := p.code.Each(f, func(e *wasmbin.Expr) {
			switch {
			case e.Op == opCall:
				note(p.callers, uint32(e.Value), f)
			case e.Op == opConst && e.Value > 0:
				note(p.users, uint32(e.Value), f)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// The opcodes used here.
const (
	opCall     = 0x10
	opLocalGet = 0x20
	opLocalTee = 0x22
	opConst    = 0x41
	opConst64  = 0x42
	opAdd      = 0x6a

	opFirstAccess, opLastAccess = 0x28, 0x3e
)

// u32 reads the memory; zero where there is no data.
func (p *program) u32(at uint32) uint32 {
	if uint64(at)+4 > uint64(len(p.memory)) {
		return 0
	}
	b := p.memory[at:]
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// isString reports whether the C string s is at an address.
func (p *program) isString(at uint32, s string) bool {
	end := uint64(at) + uint64(len(s))
	return end < uint64(len(p.memory)) && at > 0 && string(p.memory[at:end]) == s && p.memory[end] == 0
}

// strings returns the addresses of s. The linker lets a string be the tail of another.
func (p *program) strings(s string) (all []uint32) {
	text := append([]byte(s), 0)
	for from := 0; ; from++ {
		i := bytes.Index(p.memory[from:], text)
		if i < 0 {
			return all
		}
		from += i
		all = append(all, uint32(from))
	}
}

// naming returns the functions that refer to all of these strings. A function that reports an error names its source file
// and itself.
func (p *program) naming(texts ...string) (found []uint32) {
	for i, s := range texts {
		var with []uint32
		for _, at := range p.strings(s) {
			with = append(with, p.users[at]...)
		}
		slices.Sort(with)
		with = slices.Compact(with)
		if i > 0 {
			with = slices.DeleteFunc(with, func(f uint32) bool { return !slices.Contains(found, f) })
		}
		found = with
	}
	return found
}

// bound returns an upper bound for the end of zero-initialized data: the stack follows that data, and grows down from here.
func (p *program) bound() uint32 {
	for _, e := range p.module.Exports {
		if e.Kind == wasmbin.KindGlobal && e.Name == "__stack_pointer" {
			return uint32(p.module.Globals[e.Index].Const)
		}
	}
	return 0
}
