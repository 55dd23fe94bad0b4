package wasmbin

import "fmt"

// Settle places a main module that was built to be placed anywhere (pg_dump.wasm): what its loader would have provided
// becomes its own. Each imported i32 global gets the value that place returns for it, and is exported if it is mutable;
// the imported table becomes a table of the module, one larger than the import for the null entry, and is exported
// under its import's name; segments that start at an imported global start at its value. Neither indexes nor the start
// function change. Errors match [ErrFormat].
func Settle(bin []byte, place func(Import) (value int32, ok bool)) ([]byte, error) {
	m, err := Parse(bin)
	if err == nil {
		s := settler{m: m}
		err = s.settle(place)
	}
	if err != nil {
		return nil, fmt.Errorf("settle module: %w", err)
	}
	return m.sections.bytes(), nil
}

// settler moves imports into the module.
type settler struct {
	m       *Module
	values  []int32 // of the imported globals
	globals []byte  // their definitions
	exports []byte  // entries to add
	added   int
}

func (s *settler) settle(place func(Import) (int32, bool)) error {
	if _, ok := s.m.sections.reader(secTable); ok {
		return fmt.Errorf("%w: it defines its own table", ErrFormat)
	}
	if err := s.imports(place); err != nil {
		return err
	}
	for i, g := range s.m.Globals[len(s.values):] {
		if g.Type == I32 && !g.HasConst {
			return fmt.Errorf("%w: the initial value of global %d is not a constant", ErrFormat, len(s.values)+i)
		}
	}
	list := s.m.sections
	if body := list.body(secGlobal); len(s.values) > 0 {
		list.set(secGlobal, prependVector(body, len(s.values), s.globals))
	}
	if s.added > 0 {
		list.set(secExport, extendVector(list.body(secExport), s.added, s.exports))
	}
	if err := s.elements(); err != nil {
		return err
	}
	return s.data()
}

// imports keeps functions and the memory, and defines the rest.
func (s *settler) imports(place func(Import) (int32, bool)) error {
	var kept []byte
	n, table := uint32(0), false
	r, _ := s.m.sections.reader(secImport)
	r.count(maxVectorLen, "imports")
	for _, i := range s.m.Imports {
		start := r.pos
		s.m.skipImport(r)
		switch i.Kind {
		case KindGlobal:
			value, ok := place(i)
			if !ok || i.Type != I32 {
				return fmt.Errorf("%w: it imports the global %s.%s, which has no address", ErrFormat, i.Module, i.Name)
			}
			mutable := byte(0)
			if i.Mutable {
				mutable = 1
				s.export(i.Name, KindGlobal, uint32(len(s.values)))
			}
			s.values = append(s.values, value)
			s.globals = append(appendS32(append(s.globals, byte(I32), mutable, opI32Const), value), opEnd)
		case KindTable:
			if table || i.Type != FuncRef {
				return fmt.Errorf("%w: one function table is expected", ErrFormat)
			}
			table = true
			i.Limits.Min++
			s.m.sections.set(secTable, appendLimits([]byte{1, byte(FuncRef)}, i.Limits))
			s.export(i.Name, KindTable, 0)
		default:
			kept = append(kept, r.buf[start:r.pos]...)
			n++
		}
	}
	s.m.sections.set(secImport, append(appendU32(nil, n), kept...))
	return r.finish()
}

// export adds an export, unless the module has one of that name.
func (s *settler) export(name string, kind Kind, index uint32) {
	for _, e := range s.m.Exports {
		if e.Name == name {
			return
		}
	}
	s.exports = appendExport(s.exports, Export{Name: name, Kind: kind, Index: index})
	s.added++
}

// start returns the expression for a segment's start, now that its base has a value.
func (s *settler) start(base int, offset uint32) []byte {
	if base >= 0 {
		offset += uint32(s.values[base])
	}
	return append(appendS32([]byte{opI32Const}, int32(offset)), opEnd)
}

// elements rewrites the element segments. All must be active.
func (s *settler) elements() error {
	r, ok := s.m.sections.reader(secElement)
	if !ok {
		return nil
	}
	if n := r.count(maxVectorLen, "element segments"); n != len(s.m.Elems) {
		return fmt.Errorf("%w: of %d element segments only %d fill the table", ErrFormat, n, len(s.m.Elems))
	}
	out := appendU32(nil, uint32(len(s.m.Elems)))
	for _, e := range s.m.Elems {
		out = append(append(out, 0), s.start(e.Base, e.Offset)...)
		out = appendU32(out, uint32(len(e.Funcs)))
		for _, f := range e.Funcs {
			if f == NullFunc {
				return fmt.Errorf("%w: a null entry in an element segment is not handled", ErrFormat)
			}
			out = appendU32(out, f)
		}
	}
	s.m.sections.set(secElement, out)
	return nil
}

// data rewrites the data segments.
func (s *settler) data() error {
	list, err := s.m.readData()
	if err != nil || list == nil {
		return err
	}
	out := appendU32(nil, uint32(len(list)))
	for _, seg := range list {
		if seg.mode == dataPassive {
			out = appendSized(append(out, dataPassive), seg.data)
			continue
		}
		if !seg.start.known {
			return fmt.Errorf("%w: a data segment starts at an unknown address", ErrFormat)
		}
		out = append(append(out, dataActive), s.start(seg.start.base, seg.start.offset)...)
		out = appendSized(out, seg.data)
	}
	s.m.sections.set(secData, out)
	return nil
}

// prependVector puts n encoded entries before those of a vector.
func prependVector(body []byte, n int, entries []byte) []byte {
	r := &reader{buf: body, end: len(body)}
	old := uint32(0)
	if len(body) > 0 {
		old = r.u32("count")
	}
	return append(append(appendU32(nil, old+uint32(n)), entries...), body[r.pos:]...)
}
