package wasmbin

// Global is an i32 global of a module made by [BuildLink].
type Global struct {
	Name    string
	Mutable bool
	Value   int32
}

// TableEntry is an imported function that [BuildTable] puts in a table.
type TableEntry struct {
	Module, Name    string
	Params, Results []ValType
}

// BuildLink makes a module that exports i32 globals: the bases and the global offset tables of a side module. Names
// must be distinct.
func BuildLink(globals []Global) []byte {
	b := newBuilder()
	for _, g := range globals {
		b.global(g)
	}
	return b.bytes()
}

// BuildTable makes a module that, when instantiated, puts functions into slots base, base+1, ... of an imported
// function table. The table must already be long enough: otherwise wazero 1.12 changes nothing, and returns no error.
// The entries are imports of the module; for each, the table gets a function of the module that calls it, because
// wazero 1.12 gets the index wrong for table entries that refer to imported functions.
func BuildTable(entries []TableEntry, tableModule, tableName string, base uint32) []byte {
	b := newBuilder()
	b.importTable(tableModule, tableName)
	types := make([]FuncType, len(entries))
	for i, e := range entries {
		types[i] = FuncType{Params: e.Params, Results: e.Results}
		b.importFunc(e.Module, e.Name, types[i])
	}
	elems := make([]uint32, len(entries))
	for i, e := range entries {
		c := &code{}
		c.locals()
		for p := range e.Params {
			c.get(uint32(p))
		}
		elems[i] = b.function(e.Name, types[i], c.call(uint32(i)).op(opEnd).out)
	}
	b.elements(base, elems)
	return b.bytes()
}

// BuildTableGrower makes a module over an imported function table that exports
//
//	grow(n i32) i32   appends n null entries; the old size, or -1 if refused
//	size() i32        the number of entries
func BuildTableGrower(tableModule, tableName string) []byte {
	b := newBuilder()
	b.importTable(tableModule, tableName)
	i32 := []ValType{I32}
	c := &code{}
	c.locals()
	c.op(opRefNull, byte(FuncRef)).get(0).op(opMisc, miscTableGrow, 0, opEnd)
	b.export("grow", b.function("grow", FuncType{Params: i32, Results: i32}, c.out))
	c = &code{}
	c.locals()
	c.op(opMisc, miscTableSize, 0, opEnd)
	b.export("size", b.function("size", FuncType{Results: i32}, c.out))
	return b.bytes()
}

// builder collects the sections of a new module. All function imports must be
// added before the first function.
type builder struct {
	typeIndex map[string]uint32 // by encoding
	bodies    map[byte][]byte   // entries by section
	counts    map[byte]int
	funcs     uint32 // size of the function index space
	globals   uint32
	names     []byte // entries of the function names subsection
	named     uint32
}

func newBuilder() *builder {
	return &builder{typeIndex: make(map[string]uint32), bodies: make(map[byte][]byte), counts: make(map[byte]int)}
}

func (b *builder) add(id byte, entry []byte) {
	b.bodies[id] = append(b.bodies[id], entry...)
	b.counts[id]++
}

func (b *builder) typeOf(t FuncType) uint32 {
	enc := appendFuncType(nil, t)
	i, ok := b.typeIndex[string(enc)]
	if !ok {
		i = uint32(len(b.typeIndex))
		b.typeIndex[string(enc)] = i
		b.add(secType, enc)
	}
	return i
}

func (b *builder) importTable(module, name string) {
	entry := append(appendName(appendName(nil, module), name), byte(KindTable), byte(FuncRef))
	b.add(secImport, appendLimits(entry, Limits{}))
}

func (b *builder) importFunc(module, name string, t FuncType) {
	entry := append(appendName(appendName(nil, module), name), byte(KindFunc))
	b.add(secImport, appendU32(entry, b.typeOf(t)))
	b.funcs++
}

func (b *builder) function(name string, t FuncType, body []byte) (index uint32) {
	index = b.funcs
	b.funcs++
	b.add(secFunction, appendU32(nil, b.typeOf(t)))
	b.add(secCode, appendSized(nil, body))
	b.names = appendName(appendU32(b.names, index), name)
	b.named++
	return index
}

func (b *builder) export(name string, fn uint32) {
	b.add(secExport, appendExport(nil, Export{Name: name, Kind: KindFunc, Index: fn}))
}

func (b *builder) global(g Global) {
	entry := []byte{byte(I32), 0, opI32Const}
	if g.Mutable {
		entry[1] = 1
	}
	b.add(secGlobal, append(appendS32(entry, g.Value), opEnd))
	b.add(secExport, appendExport(nil, Export{Name: g.Name, Kind: KindGlobal, Index: b.globals}))
	b.globals++
}

// elements adds an active segment of table 0.
func (b *builder) elements(base uint32, funcs []uint32) {
	entry := append(appendS32([]byte{0, opI32Const}, int32(base)), opEnd)
	entry = appendU32(entry, uint32(len(funcs)))
	for _, f := range funcs {
		entry = appendU32(entry, f)
	}
	b.add(secElement, entry)
}

func (b *builder) bytes() []byte {
	out := []byte(header)
	for id := byte(secType); id <= secCode; id++ {
		if n := b.counts[id]; n > 0 {
			out = appendSection(out, id, append(appendU32(nil, uint32(n)), b.bodies[id]...))
		}
	}
	if b.named > 0 {
		const functionNames = 1
		sub := append(appendU32(nil, b.named), b.names...)
		body := append(appendName(nil, "name"), functionNames)
		out = appendSection(out, secCustom, appendSized(body, sub))
	}
	return out
}
