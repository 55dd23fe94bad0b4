package wasmbin

func appendU32(out []byte, v uint32) []byte {
	for v >= 0x80 {
		out = append(out, byte(v)|0x80)
		v >>= 7
	}
	return append(out, byte(v))
}

func appendS32(out []byte, v int32) []byte { return appendS64(out, int64(v)) }

func appendS64(out []byte, v int64) []byte {
	for v < -64 || v > 63 {
		out = append(out, byte(v)&0x7f|0x80)
		v >>= 7
	}
	return append(out, byte(v)&0x7f)
}

func appendName(out []byte, s string) []byte {
	return append(appendU32(out, uint32(len(s))), s...)
}

// appendSized appends the length of b and b.
func appendSized(out, b []byte) []byte {
	return append(appendU32(out, uint32(len(b))), b...)
}

func appendSection(out []byte, id byte, body []byte) []byte {
	return appendSized(append(out, id), body)
}

func appendFuncType(out []byte, t FuncType) []byte {
	out = append(out, 0x60)
	out = appendU32(out, uint32(len(t.Params)))
	for _, p := range t.Params {
		out = append(out, byte(p))
	}
	out = appendU32(out, uint32(len(t.Results)))
	for _, p := range t.Results {
		out = append(out, byte(p))
	}
	return out
}

func appendLimits(out []byte, l Limits) []byte {
	if !l.HasMax {
		return appendU32(append(out, 0), l.Min)
	}
	return appendU32(appendU32(append(out, 1), l.Min), l.Max)
}

func appendExport(out []byte, e Export) []byte {
	out = append(appendName(out, e.Name), byte(e.Kind))
	return appendU32(out, e.Index)
}

// extendVector appends n encoded entries to the vector in a section; an empty body is an empty vector.
func extendVector(body []byte, n int, entries []byte) []byte {
	r := &reader{buf: body, end: len(body)}
	old := uint32(0)
	if len(body) > 0 {
		old = r.u32("count")
	}
	out := appendU32(make([]byte, 0, len(body)+len(entries)+5), old+uint32(n))
	out = append(out, body[r.pos:]...)
	return append(out, entries...)
}
