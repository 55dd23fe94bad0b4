package wasmbin

import "fmt"

// Marks are 64-bit constants at the beginning of each function of a marked module, where they are dropped. They tell
// the compiler that its code will only run on a guarded memory. See package lean.
const (
	MarkLocal    = 0x00b1_0b96_117e_5000 + 4*MarkVersion // the memory is the module's own
	MarkInstance = MarkLocal + 1                         // the memory is imported; MarkBase follows
	MarkBase     = MarkLocal + 2
)

// MarkVersion is raised whenever package lean's code for marked functions changes: it is part of a mark, so that
// earlier code is not mistaken for it.
const MarkVersion = 3

// Mark marks all functions of a module. Indexes do not change. A module without a memory stays as it is. Mark a module
// once, not twice. Errors match [ErrFormat].
func Mark(bin []byte) ([]byte, error) {
	m, err := Parse(bin)
	if err == nil {
		err = m.mark()
	}
	if err != nil {
		return nil, fmt.Errorf("mark a module: %w", err)
	}
	return m.sections.bytes(), nil
}

func (m *Module) mark() error {
	r, ok := m.sections.reader(secCode)
	if !ok || len(m.memories) == 0 {
		return nil
	}
	constant := func(out []byte, v int64) []byte { return append(appendS64(append(out, opI64Const), v), opDrop) }
	mark := constant(nil, MarkLocal)
	if m.imported[KindMemory] > 0 {
		mark = constant(constant(nil, MarkInstance), MarkBase)
	}
	n := r.count(maxVectorLen, "function bodies")
	code := make([]byte, 0, r.left()+n*(len(mark)+2))
	for range n {
		body := r.sub(r.u32("body size"), "function body")
		start, end := body.pos, r.pos
		for range body.count(maxVectorLen, "declarations of locals") {
			body.u32("number of locals")
			body.byte("type of locals")
		}
		if body.err != nil {
			return body.err
		}
		code = appendU32(code, uint32(end-start+len(mark)))
		code = append(code, r.buf[start:body.pos]...)
		code = append(code, mark...)
		code = append(code, r.buf[body.pos:end]...)
	}
	if err := r.finish(); err != nil {
		return err
	}
	m.sections.set(secCode, append(appendU32(nil, uint32(n)), code...))
	return nil
}
