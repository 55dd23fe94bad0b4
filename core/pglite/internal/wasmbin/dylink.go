package wasmbin

// Dylink is the dylink.0 section of a module made for dynamic linking, as defined by the WebAssembly tool conventions.
type Dylink struct {
	MemorySize  uint32 // bytes to reserve for its data, at __memory_base
	MemoryAlign uint32 // power of two of the alignment in bytes
	TableSize   uint32 // slots to reserve, at __table_base
	TableAlign  uint32 // power of two of the alignment in slots
	Needed      []string
	Imports     []DylinkImport // only those with flags
	Exports     []DylinkExport // only those with flags
}

// DylinkImport gives the flags of an import.
type DylinkImport struct {
	Module, Name string
	Flags        SymbolFlags
}

// DylinkExport gives the flags of an export.
type DylinkExport struct {
	Name  string
	Flags SymbolFlags
}

// SymbolFlags are the flags of a symbol in the object file format.
type SymbolFlags uint32

// Weak reports whether an import may stay unresolved: its address is then 0.
func (f SymbolFlags) Weak() bool { return f&0x1 != 0 }

// TLS reports whether an export is the offset of a thread-local variable.
func (f SymbolFlags) TLS() bool { return f&0x100 != 0 }

// Subsections of dylink.0.
const (
	dylinkMemInfo    = 1
	dylinkNeeded     = 2
	dylinkExportInfo = 3
	dylinkImportInfo = 4
)

func (d *Dylink) read(r *reader) {
	for r.pos < r.end {
		kind := r.byte("subsection type")
		sub := r.sub(r.u32("subsection length"), "subsection")
		switch kind {
		case dylinkMemInfo:
			d.MemorySize = sub.u32("memory size")
			d.MemoryAlign = sub.u32("memory alignment")
			d.TableSize = sub.u32("table size")
			d.TableAlign = sub.u32("table alignment")
		case dylinkNeeded:
			for range sub.count(maxVectorLen, "needed libraries") {
				d.Needed = append(d.Needed, sub.name("library name"))
			}
		case dylinkExportInfo:
			for range sub.count(maxVectorLen, "export flags") {
				e := DylinkExport{Name: sub.name("export name")}
				e.Flags = SymbolFlags(sub.u32("flags"))
				d.Exports = append(d.Exports, e)
			}
		case dylinkImportInfo:
			for range sub.count(maxVectorLen, "import flags") {
				i := DylinkImport{Module: sub.name("module name"), Name: sub.name("import name")}
				i.Flags = SymbolFlags(sub.u32("flags"))
				d.Imports = append(d.Imports, i)
			}
		default: // run-time paths and future additions
			sub.pos = sub.end
		}
		if err := sub.finish(); err != nil && r.err == nil {
			r.err, r.pos = err, r.end
		}
	}
	if r.err == nil && (d.MemoryAlign > 31 || d.TableAlign > 31) {
		r.fail(r.pos, "alignment 2^%d or 2^%d is out of range", d.MemoryAlign, d.TableAlign)
	}
}
