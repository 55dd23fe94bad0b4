package wasmbin

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// StripInit removes what a main module's instantiation writes into memory: the start function and the contents of all
// active data segments. It is for hosts that fill the memory themselves, from [Module.DataSegments] or from an image.
//
// Instantiation drops active segments afterwards, so if code refers to segments (memory.init, data.drop), an empty
// passive segment replaces each active one and behaves the same; passive segments keep their bytes. Otherwise the data
// sections are removed altogether. Errors match [ErrFormat].
func StripInit(bin []byte) ([]byte, error) { return strip(bin, false) }

// StripData is StripInit for side modules: it keeps the start function, which in position-independent code sets the
// module's own globals from its bases and writes no memory.
func StripData(bin []byte) ([]byte, error) { return strip(bin, true) }

func strip(bin []byte, keepStart bool) ([]byte, error) {
	m, err := Parse(bin)
	if err != nil {
		return nil, fmt.Errorf("strip module: %w", err)
	}
	s := m.sections
	if !keepStart {
		s.remove(secStart)
	}
	used, err := s.usesSegments()
	if err != nil {
		return nil, fmt.Errorf("strip module: %w", err)
	}
	if !used {
		s.remove(secData)
		s.remove(secDataCount)
		return s.bytes(), nil
	}
	list, err := m.readData()
	if err != nil {
		return nil, fmt.Errorf("strip module: %w", err)
	}
	s.set(secData, emptied(list))
	return s.bytes(), nil
}

// usesSegments reports whether any function refers to a data segment.
func (s *sections) usesSegments() (used bool, err error) {
	r, ok := s.reader(secCode)
	if !ok {
		return false, nil
	}
	for range r.count(maxVectorLen, "function bodies") {
		body := r.sub(r.u32("body size"), "function body")
		body.walkBody(func(in instr) {
			used = used || in.op == opMisc && (in.misc == miscMemoryInit || in.misc == miscDataDrop)
		})
		if body.err != nil {
			return false, body.err
		}
	}
	return used, r.finish()
}

// emptied returns the data section with active segments made passive and empty.
func emptied(list []segment) []byte {
	out := appendU32(nil, uint32(len(list)))
	for _, seg := range list {
		if seg.mode != dataPassive {
			seg.data = nil
		}
		out = appendSized(appendU32(out, dataPassive), seg.data)
	}
	return out
}

// outlineSection is the custom section that an outline ends with: the SHA-256 of its module.
const outlineSection = "blobpglite.outline"

// Outline returns a module of the same shape without code: all sections are as they were, and each function consists of
// an unreachable. It is what a host needs of a module whose compiled code it has. It includes the module's hash,
// because modules that differ only in code must not have the same outline: one would be taken for the other.
func Outline(bin []byte) ([]byte, error) {
	s, err := split(bin)
	if err != nil {
		return nil, fmt.Errorf("outline a module: %w", err)
	}
	r, ok := s.reader(secCode)
	if ok {
		n := r.count(maxVectorLen, "function bodies")
		if r.err != nil {
			return nil, fmt.Errorf("outline a module: %w", r.err)
		}
		const noLocals = 0
		code := appendU32(nil, uint32(n))
		for range n {
			code = appendSized(code, []byte{noLocals, opUnreachable, opEnd})
		}
		s.set(secCode, code)
	}
	return append(s.bytes(), outlineEnd(bin)...), nil
}

// outlineEnd returns the end of a module's outline.
func outlineEnd(bin []byte) []byte {
	sum := sha256.Sum256(bin)
	return appendSection(nil, secCustom, append(appendName(nil, outlineSection), sum[:]...))
}

// IsOutline reports whether outline is that of the module of.
func IsOutline(outline, of []byte) bool { return bytes.HasSuffix(outline, outlineEnd(of)) }
