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
//   - each memory.copy and memory.fill becomes a call of a function added at the
//     end, which does the same and is faster for short lengths, and the calling
//     function saves fewer registers;
//   - the loop of an interpreter is preceded by a call that does nothing (see
//     [helpers]);
//   - the memory gets one more page, which memory.size does not report, and bounds
//     checks are arranged so that wazero leaves out many (see the package
//     documentation);
//   - what wazero miscompiles is replaced ([Mend]);
//   - a few functions of PostgreSQL are replaced by ones with vector instructions.
//
// The host must grow the memory by [GuardBytes] more than the program requests, and report a limit smaller by as much.
// Rewrite a module once, not twice. Function, global, table and memory indexes do not change. Errors match [ErrFormat].
func RewriteMain(bin []byte) ([]byte, error) {
	out, _, err := rewriteMain(bin, arrangeChecks)
	return out, err
}

// RewriteUnchecked is [RewriteMain] for a module that will be marked ([Mark]): it does not change bounds checks,
// because the compiler leaves them out, and it arranges branches ([ArrangeBranches]).
func RewriteUnchecked(bin []byte) ([]byte, error) {
	out, _, err := rewriteMain(bin, leaveChecks)
	return out, err
}

// checkMode says what to do with bounds checks.
type checkMode bool

const (
	arrangeChecks checkMode = true
	leaveChecks   checkMode = false
)

// rewriteStats counts what was rewritten.
type rewriteStats struct {
	fills    int // memory.fill
	copies   int // memory.copy
	loops    int // of interpreters
	sizes    int // memory.size
	replaced int // whole functions
	mended   mendStats
	branches branchStats
	checks   checkStats
}

// rewriteMain also returns what was rewritten.
func rewriteMain(bin []byte, checks checkMode) (out []byte, stats rewriteStats, err error) {
	out, stats, unmended, err := rewriteHosted(bin, checks)
	if err != nil {
		return nil, stats, err
	}
	out, stats.mended, err = mendThese(out, unmended)
	if err == nil && checks == leaveChecks {
		out, stats.branches, err = arrangeBranches(out)
	}
	return out, stats, err
}

// rewriteHosted does all of it except [Mend], and returns which of the module's own functions Mend must look at.
func rewriteHosted(bin []byte, checks checkMode) (out []byte, stats rewriteStats, unmended []bool, err error) {
	m, err := Parse(bin)
	if err != nil {
		return nil, stats, nil, fmt.Errorf("rewrite main module: %w", err)
	}
	if len(m.memories) != 1 {
		return nil, stats, nil, fmt.Errorf("rewrite main module: %w: it has %d memories, one expected", ErrFormat, len(m.memories))
	}
	if m.memories[0].Min >= maxMemoryPages {
		return nil, stats, nil, fmt.Errorf("rewrite main module: %w: its memory leaves no room for the guard page", ErrFormat)
	}
	stats, unmended, err = m.rewriteCode(checks)
	if err != nil {
		return nil, stats, nil, fmt.Errorf("rewrite main module: %w", err)
	}
	m.defineMemory()
	if err := m.exportState(); err != nil {
		return nil, stats, nil, fmt.Errorf("rewrite main module: %w", err)
	}
	return m.sections.bytes(), stats, unmended, nil
}

// defineMemory moves an imported memory to the memory section, and adds the guard page.
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
	limits := m.memories[0]
	limits.Min += GuardBytes / pageBytes
	limits.Max = max(limits.Max, limits.Min)
	m.sections.set(secMemory, appendLimits([]byte{1}, limits))
}

// skipImport skips an import that was read before.
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
			return fmt.Errorf("%w: it already exports %q, as something else", ErrFormat, e.Name)
		}
		entries = appendExport(entries, e)
	}
	if len(add) > 0 {
		m.sections.set(secExport, extendVector(m.sections.body(secExport), len(add), entries))
	}
	return nil
}

// bodies returns a reader before the first function body, and the number of bodies: as many as functions, or the reader
// has failed.
func (m *Module) bodies() (r *reader, n int, ok bool) {
	r, ok = m.sections.reader(secCode)
	at := r.pos
	n = r.count(maxVectorLen, "function bodies")
	if defined := len(m.Funcs) - m.imported[KindFunc]; r.err == nil && n != defined {
		r.fail(at, "%d function bodies for %d functions", n, defined)
	}
	return r, n, ok
}

// rewriteCode walks all function bodies: it turns memory.copy and memory.fill into calls of helpers, which it appends,
// puts a call before the loops of interpreters, hides the guard page from memory.size, and saves bounds checks.
func (m *Module) rewriteCode(mode checkMode) (stats rewriteStats, unmended []bool, err error) {
	r, n, ok := m.bodies()
	if !ok {
		return stats, unmended, nil
	}
	imported := m.imported[KindFunc]
	helpers := newHelpers(uint32(len(m.Funcs)))
	code := make([]byte, 0, r.left()+r.left()/8+256)
	replaced := newReplacer()
	checks := &checkedFunc{m: m, zeroLimit: uint64(m.memories[0].Min) * pageBytes}
	for i := range n {
		body := r.sub(r.u32("body size"), "function body")
		start, whole := body.pos, *body
		if body.err == nil {
			if by, ok := replaced.find(r.buf[start:r.pos]); ok {
				stats.replaced++
				unmended = append(unmended, true)
				code = appendSized(code, by.body())
				continue
			}
		}
		edits, asked, err := m.plainEdits(m.Funcs[imported+i], body, helpers, &stats)
		unmended = append(unmended, asked)
		if err != nil {
			return stats, nil, err
		}
		if mode == arrangeChecks {
			more, err := checks.rewriteChecks(len(m.Funcs[imported+i].Params), &whole)
			if err != nil {
				return stats, nil, err
			}
			stats.checks.add(checks.stats)
			edits = append(edits, more...)
		}
		sortEdits(edits)
		code = appendEdited(code, r.buf[start:r.pos], start, edits)
	}
	if err := r.finish(); err != nil {
		return stats, nil, err
	}
	if stats.fills+stats.copies+stats.loops > 0 {
		n += helperFuncs
		code = m.appendHelpers(code, helpers)
	}
	m.sections.set(secCode, append(appendU32(nil, uint32(n)), code...))
	return stats, unmended, nil
}

// plainEdits returns the edits that concern a single instruction; unmended: Mend must look at the function.
func (m *Module) plainEdits(kind FuncType, body *reader, h helpers, stats *rewriteStats) (edits []edit, unmended bool, err error) {
	var loops interpreters
	asked := suspect{m: m}
	asked.locals(kind, *body)
	body.walkBody(func(in instr) {
		asked.visit(in, body.buf)
		e := edit{start: in.start, end: in.end, rank: rankPlain}
		if at, ok := loops.visit(in, body.buf); ok {
			stats.loops++
			edits = append(edits, edit{start: at, end: at, rank: rankPlain, with: callOf(h.nothing)})
			return
		}
		switch {
		case in.op == opMisc && in.misc == miscMemoryFill:
			stats.fills++
			e.with = callOf(h.fill)
		case in.op == opMisc && in.misc == miscMemoryCopy:
			stats.copies++
			e.with = callOf(h.copy)
		case in.op == opMemorySize:
			stats.sizes++
			e.with = []byte{opMemorySize, 0, opI32Const, GuardBytes / pageBytes, opI32Sub}
		case in.op == opMemoryGrow:
			body.fail(in.start, "memory.grow is not handled: the host grows the memory")
			return
		default:
			return
		}
		edits = append(edits, e)
	})
	return edits, asked.found(), body.err
}
