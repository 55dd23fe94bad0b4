package wasmbin

import (
	"bytes"
	"slices"
)

// Section ids of the binary format.
const (
	secCustom    = 0
	secType      = 1
	secImport    = 2
	secFunction  = 3
	secTable     = 4
	secMemory    = 5
	secGlobal    = 6
	secExport    = 7
	secStart     = 8
	secElement   = 9
	secCode      = 10
	secData      = 11
	secDataCount = 12
)

const header = "\x00asm\x01\x00\x00\x00"

func sectionName(id byte) string {
	names := [...]string{"custom", "type", "import", "function", "table", "memory",
		"global", "export", "start", "element", "code", "data", "data count"}
	if int(id) < len(names) {
		return names[id]
	}
	return "unknown"
}

// sectionRank is a section's position in a module: the data count section (12) comes between the element and the code
// section.
func sectionRank(id byte) int {
	if id == secDataCount {
		return 2*secElement + 1
	}
	return 2 * int(id)
}

// section is one section of a module. Its original contents are at start..end in the file, both 0 for a new section;
// body holds the current contents.
type section struct {
	id         byte
	start, end int
	body       []byte
}

// sections is a module taken apart, in file order.
type sections struct {
	bin  []byte
	list []section
}

func split(bin []byte) (*sections, error) {
	r := &reader{buf: bin, end: len(bin), section: "header"}
	if len(bin) > maxModuleBytes {
		r.fail(0, "%d bytes, at most %d allowed", len(bin), maxModuleBytes)
		return nil, r.err
	}
	if !bytes.HasPrefix(bin, []byte(header)) {
		r.fail(0, "does not start with the magic number and version 1 of WebAssembly")
		return nil, r.err
	}
	r.pos = len(header)
	s := &sections{bin: bin}
	rank := 0
	for r.pos < r.end {
		at := r.pos
		id := r.byte("section id")
		r.section = sectionName(id)
		if id > secDataCount {
			r.fail(at, "unknown section id %d", id)
			break
		}
		size := r.u32("section length")
		start := r.pos
		body := r.bytes(int(size), "section contents")
		if r.err != nil {
			break
		}
		if id != secCustom {
			if sectionRank(id) <= rank {
				r.fail(at, "section is repeated or out of order")
				break
			}
			rank = sectionRank(id)
		}
		s.list = append(s.list, section{id: id, start: start, end: r.pos, body: body})
	}
	if r.err != nil {
		return nil, r.err
	}
	return s, nil
}

// body returns the contents of a section, nil if the module has none. Not for custom sections.
func (s *sections) body(id byte) []byte {
	for _, sec := range s.list {
		if sec.id == id {
			return sec.body
		}
	}
	return nil
}

// reader returns a cursor over a section as it was in the file; over nothing if the module has none. ok tells the two
// apart.
func (s *sections) reader(id byte) (r *reader, ok bool) {
	for _, sec := range s.list {
		if sec.id == id {
			return &reader{buf: s.bin, pos: sec.start, end: sec.end, section: sectionName(id)}, true
		}
	}
	return &reader{section: sectionName(id)}, false
}

// custom returns a cursor after the name of the first custom section with that name.
func (s *sections) custom(name string) (r *reader, ok bool) {
	for _, sec := range s.list {
		if sec.id != secCustom {
			continue
		}
		r := &reader{buf: s.bin, pos: sec.start, end: sec.end, section: "custom " + name}
		if r.name("section name") == name && r.err == nil {
			return r, true
		}
	}
	return nil, false
}

// set replaces the contents of a section, or inserts a new one in its place.
func (s *sections) set(id byte, body []byte) {
	at := len(s.list)
	for i, sec := range s.list {
		if sec.id == id {
			s.list[i].body = body
			return
		}
		if sec.id != secCustom && sectionRank(sec.id) > sectionRank(id) {
			at = min(at, i)
		}
	}
	s.list = slices.Insert(s.list, at, section{id: id, body: body})
}

func (s *sections) remove(id byte) {
	s.list = slices.DeleteFunc(s.list, func(sec section) bool { return sec.id == id })
}

// bytes reassembles the module.
func (s *sections) bytes() []byte {
	size := len(header)
	for _, sec := range s.list {
		size += 6 + len(sec.body)
	}
	out := append(make([]byte, 0, size), header...)
	for _, sec := range s.list {
		out = appendSection(out, sec.id, sec.body)
	}
	return out
}
