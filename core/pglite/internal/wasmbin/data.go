package wasmbin

import "fmt"

// Segment is an active data segment.
type Segment struct {
	Base   int    // index of the imported global that holds the start; -1: none
	Offset uint32 // added to the base, or the start itself
	Data   []byte // part of the binary: read only
}

// DataSegments returns the active data segments of a module in file order: what instantiation writes into its memory,
// for a host that does this itself and instantiates the result of [StripInit]. Errors match [ErrFormat].
func (m *Module) DataSegments() ([]Segment, error) {
	list, err := m.readData()
	if err != nil {
		return nil, fmt.Errorf("read data segments: %w", err)
	}
	var active []Segment
	for _, seg := range list {
		if seg.mode == dataPassive {
			continue
		}
		if !seg.start.known {
			r, _ := m.sections.reader(secData)
			r.fail(seg.at, "start of a data segment is neither a constant nor an imported global plus a constant")
			return nil, fmt.Errorf("read data segments: %w", r.err)
		}
		active = append(active, Segment{Base: seg.start.base, Offset: seg.start.offset, Data: seg.data})
	}
	return active, nil
}

// Modes of a data segment.
const (
	dataActive   = 0
	dataPassive  = 1
	dataExplicit = 2 // active, with a memory index
)

// segment is a data segment of any mode, as in the file.
type segment struct {
	at    int // offset in the module
	mode  uint32
	start value // unless passive
	data  []byte
}

// readData reads the data section; nil if there is none.
func (m *Module) readData() ([]segment, error) {
	r, ok := m.sections.reader(secData)
	if !ok {
		return nil, nil
	}
	n := r.count(maxVectorLen, "data segments")
	list := make([]segment, 0, n)
	for range n {
		seg := segment{at: r.pos}
		seg.mode = r.u32("segment mode")
		switch seg.mode {
		case dataExplicit:
			r.zeroByte("memory index")
			fallthrough
		case dataActive:
			seg.start = m.constExpr(r)
		case dataPassive:
		default:
			r.fail(seg.at, "data segment mode %d is not handled", seg.mode)
		}
		seg.data = r.bytes(int(r.u32("segment size")), "segment contents")
		list = append(list, seg)
	}
	return list, r.finish()
}

// Memory returns the size of the module's first memory, in pages of 64 KiB; zero if it has none.
func (m *Module) Memory() Limits {
	if len(m.memories) == 0 {
		return Limits{}
	}
	return m.memories[0]
}

// DataOnly returns a module reduced to what is needed to read its data segments, for a host that has the rest
// elsewhere. It cannot be run. Errors match [ErrFormat].
func DataOnly(bin []byte) ([]byte, error) {
	s, err := split(bin)
	if err != nil {
		return nil, fmt.Errorf("take the data of a module: %w", err)
	}
	for _, id := range []byte{secFunction, secTable, secExport, secStart, secElement, secCode, secDataCount, secCustom} {
		s.remove(id)
	}
	return s.bytes(), nil
}
