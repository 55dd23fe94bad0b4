package wasmbin

import (
	"fmt"
	"strconv"
)

// GlobalExportPrefix starts the names under which [RewriteMain] exports mutable
// globals; the index of the global follows in decimal.
const GlobalExportPrefix = "blobpglite_global_"

// RewriteMain makes a main module (pglite.wasm, initdb.wasm) fit for a Go host:
//
//   - an imported memory becomes a memory of the module with the same limits,
//     since a host module in Go cannot export one; it is exported as "memory";
//   - each mutable global without an export is exported under
//     [GlobalExportPrefix] and its index, so that an image can hold it;
//   - each memory.fill becomes a call of a function added at the end, which
//     does the same and is faster for short lengths.
//
// Function, global, table and memory indexes stay as they were. Errors match
// [ErrFormat].
func RewriteMain(bin []byte) ([]byte, error) {
	out, _, err := rewriteMain(bin)
	return out, err
}

// rewriteMain also gives the number of memory.fill instructions replaced.
func rewriteMain(bin []byte) (out []byte, fills int, err error) {
	m, err := Parse(bin)
	if err != nil {
		return nil, 0, fmt.Errorf("rewrite main module: %w", err)
	}
	if len(m.memories) != 1 {
		return nil, 0, fmt.Errorf("rewrite main module: %w: it has %d memories, one expected", ErrFormat, len(m.memories))
	}
	fills, err = m.replaceFills()
	if err != nil {
		return nil, 0, fmt.Errorf("rewrite main module: %w", err)
	}
	if m.imported[KindMemory] > 0 {
		m.defineMemory()
	}
	if err := m.exportState(); err != nil {
		return nil, 0, fmt.Errorf("rewrite main module: %w", err)
	}
	return m.sections.bytes(), fills, nil
}

// defineMemory moves the imported memory to the memory section.
func (m *Module) defineMemory() {
	var kept []byte
	n := uint32(0)
	r, _ := m.sections.reader(secImport)
	for range r.count(maxVectorLen, "imports") {
		start := r.pos
		if m.skipImport(r) == KindMemory {
			continue
		}
		kept = append(kept, r.buf[start:r.pos]...)
		n++
	}
	if n == 0 {
		m.sections.remove(secImport)
	} else {
		m.sections.set(secImport, append(appendU32(nil, n), kept...))
	}
	m.sections.set(secMemory, appendLimits([]byte{1}, m.memories[0]))
}

// skipImport moves past an import that was read before.
func (m *Module) skipImport(r *reader) Kind {
	r.name("module name")
	r.name("import name")
	return m.skipImportDesc(r)
}

func (m *Module) skipImportDesc(r *reader) Kind {
	kind := Kind(r.byte("import kind"))
	switch kind {
	case KindFunc:
		r.u32("type index")
	case KindTable:
		r.byte("table type")
		r.limits(^uint32(0), "table")
	case KindMemory:
		r.limits(maxMemoryPages, "memory")
	case KindGlobal:
		r.globalType()
	}
	return kind
}

// exportState adds exports for the memory and the mutable globals that have none.
func (m *Module) exportState() error {
	taken := make(map[string]bool, len(m.Exports))
	memory, globals := false, make([]bool, len(m.Globals))
	for _, e := range m.Exports {
		taken[e.Name] = true
		switch e.Kind {
		case KindMemory:
			memory = memory || e.Name == "memory"
		case KindGlobal:
			globals[e.Index] = true
		}
	}
	var add []Export
	if !memory {
		add = append(add, Export{Name: "memory", Kind: KindMemory})
	}
	for i, g := range m.Globals {
		if g.Mutable && !globals[i] {
			add = append(add, Export{Name: GlobalExportPrefix + strconv.Itoa(i), Kind: KindGlobal, Index: uint32(i)})
		}
	}
	var entries []byte
	for _, e := range add {
		if taken[e.Name] {
			return fmt.Errorf("%w: it exports %q already, as something else", ErrFormat, e.Name)
		}
		entries = appendExport(entries, e)
	}
	if len(add) > 0 {
		m.sections.set(secExport, extendVector(m.sections.body(secExport), len(add), entries))
	}
	return nil
}

// replaceFills walks all function bodies and turns memory.fill into calls of
// the helper, which it appends if there is anything to replace.
func (m *Module) replaceFills() (fills int, err error) {
	r, ok := m.sections.reader(secCode)
	if !ok {
		return 0, nil
	}
	at := r.pos
	n := r.count(maxVectorLen, "function bodies")
	if defined := len(m.Funcs) - m.imported[KindFunc]; r.err == nil && n != defined {
		r.fail(at, "%d function bodies for %d functions", n, defined)
	}
	helper := uint32(len(m.Funcs))
	call := appendU32([]byte{opCall}, helper)
	code := make([]byte, 0, r.left()+r.left()/64+256)
	code = appendU32(code, uint32(n)+1)
	var sites []instr
	for range n {
		body := r.sub(r.u32("body size"), "function body")
		start := body.pos
		sites = sites[:0]
		body.walkBody(func(in instr) {
			if in.op == opMisc && in.misc == miscMemoryFill {
				sites = append(sites, in)
			}
		})
		if body.err != nil {
			return 0, body.err
		}
		code = appendPatched(code, r.buf[start:r.pos], start, sites, call)
		fills += len(sites)
	}
	if err := r.finish(); err != nil || fills == 0 {
		return 0, err
	}
	m.sections.set(secCode, appendSized(code, fillBody()))
	m.sections.set(secType, extendVector(m.sections.body(secType), 1, appendFuncType(nil, fillType())))
	m.sections.set(secFunction, extendVector(m.sections.body(secFunction), 1, appendU32(nil, uint32(len(m.types)))))
	return fills, nil
}

// appendPatched appends a sized function body with each site replaced by call.
// start is the offset of the body in the module.
func appendPatched(out, body []byte, start int, sites []instr, call []byte) []byte {
	size := len(body)
	for _, in := range sites {
		size += len(call) - (in.end - in.start)
	}
	out = appendU32(out, uint32(size))
	done := 0
	for _, in := range sites {
		out = append(out, body[done:in.start-start]...)
		out = append(out, call...)
		done = in.end - start
	}
	return append(out, body[done:]...)
}
