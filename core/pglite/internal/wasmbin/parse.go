package wasmbin

import "slices"

// Module is what a module declares: everything except the code and the data.
type Module struct {
	Imports []Import
	Exports []Export
	Funcs   []FuncType  // by function index, imported ones first
	Globals []GlobalDef // by global index, imported ones first
	Elems   []Elem      // active segments of table 0, in file order
	Dylink  *Dylink     // nil if there is no dylink.0 section

	types    []FuncType
	memories []Limits
	imported [4]int // number of imports by kind
	sections *sections
}

// Parse reads the declarations of a module. The result's strings share no memory with bin, but the result keeps bin
// alive. Errors match [ErrFormat].
func Parse(bin []byte) (*Module, error) {
	s, err := split(bin)
	if err != nil {
		return nil, err
	}
	m := &Module{sections: s}
	steps := []struct {
		id   byte
		read func(*reader)
	}{
		{secType, m.readTypes},
		{secImport, m.readImports},
		{secFunction, m.readFuncs},
		{secMemory, m.readMemories},
		{secGlobal, m.readGlobals},
		{secExport, m.readExports},
		{secElement, m.readElems},
	}
	for _, step := range steps {
		r, ok := s.reader(step.id)
		if !ok {
			continue
		}
		step.read(r)
		if err := r.finish(); err != nil {
			return nil, err
		}
	}
	if r, ok := s.custom("dylink.0"); ok {
		m.Dylink = &Dylink{}
		m.Dylink.read(r)
		if r.err != nil {
			return nil, r.err
		}
	}
	return m, nil
}

// Bodies returns the number of the module's own functions.
func (m *Module) Bodies() int { return len(m.Funcs) - m.imported[KindFunc] }

// Consts returns the values of the exported immutable i32 globals that are constants. In a side module these are the
// addresses of its exported data, relative to its memory base.
func (m *Module) Consts() map[string]int32 {
	consts := make(map[string]int32)
	for _, e := range m.Exports {
		if e.Kind != KindGlobal {
			continue
		}
		if g := m.Globals[e.Index]; g.HasConst && !g.Mutable {
			consts[e.Name] = g.Const
		}
	}
	return consts
}

// ElemFuncs maps each function in table 0 to its first slot there. In a module whose segments start at an imported
// global (a side module, __table_base) the slots are relative to that global.
func (m *Module) ElemFuncs() map[uint32]uint32 {
	slots := make(map[uint32]uint32)
	for _, e := range m.Elems {
		for i, f := range e.Funcs {
			slot := e.Offset + uint32(i)
			if old, ok := slots[f]; f != NullFunc && (!ok || slot < old) {
				slots[f] = slot
			}
		}
	}
	return slots
}

func (m *Module) readTypes(r *reader) {
	n := r.count(maxVectorLen, "types")
	m.types = make([]FuncType, 0, n)
	for range n {
		m.types = append(m.types, r.funcType())
	}
}

func (m *Module) typeAt(r *reader) FuncType {
	at := r.pos
	i := r.u32("type index")
	if r.err == nil && int64(i) >= int64(len(m.types)) {
		r.fail(at, "type index %d, the module has %d types", i, len(m.types))
	}
	if r.err != nil {
		return FuncType{}
	}
	return m.types[i]
}

func (m *Module) readImports(r *reader) {
	n := r.count(maxVectorLen, "imports")
	m.Imports = make([]Import, 0, n)
	for range n {
		imp := Import{Module: r.name("module name"), Name: r.name("import name")}
		at := r.pos
		imp.Kind = Kind(r.byte("import kind"))
		switch imp.Kind {
		case KindFunc:
			imp.Func = m.typeAt(r)
			m.Funcs = append(m.Funcs, imp.Func)
		case KindTable:
			imp.Type = r.refType("table type")
			imp.Limits = r.limits(^uint32(0), "table")
		case KindMemory:
			imp.Limits = r.limits(maxMemoryPages, "memory")
			m.memories = append(m.memories, imp.Limits)
		case KindGlobal:
			imp.Type, imp.Mutable = r.globalType()
			m.Globals = append(m.Globals, GlobalDef{Type: imp.Type, Mutable: imp.Mutable, Imported: true})
		default:
			r.fail(at, "import kind %d is not handled", imp.Kind)
		}
		if r.err != nil {
			return
		}
		m.imported[imp.Kind]++
		m.Imports = append(m.Imports, imp)
	}
}

func (m *Module) readFuncs(r *reader) {
	n := r.count(maxVectorLen, "functions")
	m.Funcs = slices.Grow(m.Funcs, n)
	for range n {
		m.Funcs = append(m.Funcs, m.typeAt(r))
	}
}

func (m *Module) readMemories(r *reader) {
	for range r.count(maxVectorLen, "memories") {
		m.memories = append(m.memories, r.limits(maxMemoryPages, "memory"))
	}
	if len(m.memories) > 1 {
		r.fail(r.pos, "%d memories, only one is handled", len(m.memories))
	}
}

func (m *Module) readGlobals(r *reader) {
	for range r.count(maxVectorLen, "globals") {
		var g GlobalDef
		g.Type, g.Mutable = r.globalType()
		init := m.constExpr(r)
		if init.known && init.base < 0 && g.Type == I32 {
			g.HasConst, g.Const = true, int32(init.offset)
		}
		m.Globals = append(m.Globals, g)
	}
}

func (m *Module) readExports(r *reader) {
	n := r.count(maxVectorLen, "exports")
	m.Exports = make([]Export, 0, n)
	seen := make(map[string]bool, n)
	for range n {
		at := r.pos
		e := Export{Name: r.name("export name"), Kind: Kind(r.byte("export kind"))}
		e.Index = r.u32("export index")
		if e.Kind > KindGlobal {
			r.fail(at, "export %q: kind %d is not handled", e.Name, e.Kind)
		}
		if seen[e.Name] {
			r.fail(at, "export %q is repeated", e.Name)
		}
		bound := map[Kind]int{KindFunc: len(m.Funcs), KindGlobal: len(m.Globals)}
		if n, ok := bound[e.Kind]; ok && int64(e.Index) >= int64(n) {
			r.fail(at, "export %q: %v %d of %d", e.Name, e.Kind, e.Index, n)
		}
		if r.err != nil {
			return
		}
		seen[e.Name] = true
		m.Exports = append(m.Exports, e)
	}
}
