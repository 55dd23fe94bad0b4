package wasmbin

import "fmt"

// RenameImports gives each import of a module the module and name that rename returns for it; its kind and type do not
// change. This links a side module: its "env" and "GOT.*" imports are pointed at the instances that hold them. Custom
// sections, including dylink.0, keep the old names. Errors match [ErrFormat].
func RenameImports(bin []byte, rename func(Import) (module, name string)) ([]byte, error) {
	m, err := Parse(bin)
	if err != nil {
		return nil, fmt.Errorf("rename imports: %w", err)
	}
	if len(m.Imports) == 0 {
		return m.sections.bytes(), nil
	}
	r, _ := m.sections.reader(secImport)
	out := appendU32(nil, uint32(r.count(maxVectorLen, "imports")))
	for _, imp := range m.Imports {
		r.name("module name")
		r.name("import name")
		start := r.pos
		m.skipImportDesc(r)
		module, name := rename(imp)
		out = appendName(appendName(out, module), name)
		out = append(out, r.buf[start:r.pos]...)
	}
	m.sections.set(secImport, out)
	return m.sections.bytes(), nil
}
