package wasmbin

import (
	"slices"
	"testing"
)

// instructions are encoded instructions, one of each shape of operands. Operands hold the bytes of end (0b) and of memory.fill (fc 0b 00),
// which must not be taken for instructions.
func instructions() map[string][]byte {
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	sixteen := []byte{0x0b, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0, 0xfc, 0x0b, 0}
	return map[string][]byte{
		"unreachable":          {opUnreachable},
		"nop":                  {0x01},
		"br":                   {opBr, 0x0b},
		"br_if":                {opBrIf, 0xfc, 0x0b},
		"br_table":             {opBrTable, 3, 0x0b, 0xfc, 0x0b, 0x0b, 0x0b},
		"return":               {opReturn},
		"call":                 {opCall, 0xfc, 0x8b, 0x00},
		"call_indirect":        {0x11, 0xfc, 0x0b, 0x0b},
		"drop":                 {0x1a},
		"select":               {0x1b},
		"select t":             {0x1c, 1, byte(V128)},
		"local.get":            {opLocalGet, 0x0b},
		"local.set":            {opLocalSet, 0xfc, 0x0b},
		"local.tee":            {opLocalTee, 0x0b},
		"global.get":           {opGlobalGet, 0x0b},
		"global.set":           {0x24, 0x0b},
		"table.get":            {0x25, 0x0b},
		"table.set":            {0x26, 0x0b},
		"i32.load":             {0x28, 2, 0xfc, 0x0b},
		"i64.store32":          {0x3e, 2, 0x0b},
		"memory.size":          {opMemorySize, 0},
		"memory.grow":          {0x40, 0},
		"i32.const":            {opI32Const, 0xfc, 0x8b, 0x00},
		"i64.const":            {opI64Const, 0xfc, 0x8b, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00},
		"f32.const":            {opF32Const, 0xfc, 0x0b, 0, 0x0b},
		"f64.const":            {opF64Const, 0xfc, 0x0b, 0, 0x0b, 0xfc, 0x0b, 0, 0x0b},
		"i32.eqz":              {0x45},
		"f64.reinterpret":      {0xbf},
		"i64.extend32_s":       {0xc4},
		"ref.null":             {opRefNull, byte(ExternRef)},
		"ref.is_null":          {0xd1},
		"ref.func":             {opRefFunc, 0x0b},
		"i64.trunc_sat_f64_u":  {opMisc, 7},
		"memory.init":          {opMisc, miscMemoryInit, 0x0b, 0},
		"data.drop":            {opMisc, miscDataDrop, 0x0b},
		"memory.copy":          {opMisc, 10, 0, 0},
		"memory.fill":          {opMisc, miscMemoryFill, 0},
		"memory.fill padded":   {opMisc, 0x8b, 0x80, 0x00, 0},
		"table.init":           {opMisc, 12, 0x0b, 0x0b},
		"elem.drop":            {opMisc, 13, 0x0b},
		"table.copy":           {opMisc, 14, 0x0b, 0x0b},
		"table.grow":           {opMisc, miscTableGrow, 0x0b},
		"table.size":           {opMisc, miscTableSize, 0x0b},
		"table.fill":           {opMisc, 17, 0x0b},
		"v128.load":            {opSIMD, 0, 4, 0xfc, 0x0b},
		"v128.store":           {opSIMD, simdV128Store, 4, 0x0b},
		"v128.const":           cat([]byte{opSIMD, simdV128Const}, sixteen),
		"i8x16.shuffle":        cat([]byte{opSIMD, 13}, sixteen),
		"i8x16.swizzle":        {opSIMD, 14},
		"i8x16.splat":          {opSIMD, simdI8x16Splt},
		"i8x16.extract_lane_s": {opSIMD, 21, 0x0b},
		"f64x2.replace_lane":   {opSIMD, 34, 1},
		"i8x16.eq":             {opSIMD, 35},
		"v128.load8_lane":      {opSIMD, 84, 0, 0x0b, 0x0b},
		"v128.store64_lane":    {opSIMD, 91, 3, 0x0b, 1},
		"v128.load32_zero":     {opSIMD, 92, 2, 0x0b},
		"v128.load64_zero":     {opSIMD, 93, 3, 0x0b},
		"f32x4.demote":         {opSIMD, 94},
		"i32x4.trunc_sat":      {opSIMD, 0xff, 0x01},
	}
}

func walk(bin []byte) ([]instr, error) {
	r := &reader{buf: bin, end: len(bin), section: "code"}
	var seen []instr
	r.walkBody(func(in instr) { seen = append(seen, in) })
	return seen, r.err
}

func TestWalkMeasuresEachInstruction(t *testing.T) {
	for name, enc := range instructions() {
		// no locals; the instruction; a memory.fill to find; end
		seen, err := walk(slices.Concat([]byte{0}, enc, []byte{opMisc, miscMemoryFill, 0, opEnd}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(seen) != 3 || seen[0].start != 1 || seen[0].end != 1+len(enc) || seen[1].op != opMisc || seen[1].misc != miscMemoryFill {
			t.Errorf("%s: walked as %+v", name, seen)
		}
		for n := range len(enc) {
			if seen, err := walk(slices.Concat([]byte{0}, enc[:n])); err == nil {
				t.Errorf("%s cut to %d bytes was walked as %+v", name, n, seen)
			}
		}
	}
}

func TestWalkBlocks(t *testing.T) {
	nested := []byte{2, 0xfc, 0x0b, byte(I32), 1, byte(V128), // local declarations
		opBlock, blockEmpty, opLoop, byte(I32), opIf, 0xfc, 0x0b, opElse, opEnd, opEnd, opEnd, opEnd}
	seen, err := walk(nested)
	if err != nil || len(seen) != 8 {
		t.Errorf("%d instructions, %v, want 8", len(seen), err)
	}
	if _, err := walk(append(slices.Clone(nested), 0x01)); err == nil {
		t.Error("an instruction behind the end was accepted")
	}
	if _, err := walk(nested[:len(nested)-1]); err == nil {
		t.Error("a body without end was accepted")
	}
}

func TestWalkRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, enc := range map[string][]byte{
		"try (exceptions)":          {0x06},
		"return_call":               {0x12},
		"call_ref":                  {0x14},
		"try_table":                 {0x1f},
		"first gap":                 {0x27},
		"behind sign extension":     {0xc5},
		"ref.as_non_null":           {0xd4},
		"garbage collection":        {0xfb, 0},
		"threads":                   {0xfe, 0},
		"memory.discard":            {opMisc, 18, 0},
		"relaxed SIMD":              {opSIMD, 0x80, 0x02},
		"second memory":             {0x28, 0x42, 0, 0},
		"memory.fill of a second":   {opMisc, miscMemoryFill, 1},
		"memory.size of a second":   {opMemorySize, 1},
		"reference to a heap type":  {opRefNull, 0x6e},
		"local of an unknown type?": nil,
	} {
		bin := slices.Concat([]byte{0}, enc, []byte{opEnd})
		if enc == nil {
			bin = []byte{1, 1, 0x40, opEnd}
		}
		if seen, err := walk(bin); err == nil {
			t.Errorf("%s was walked as %+v", name, seen)
		}
	}
}
