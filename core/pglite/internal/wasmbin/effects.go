package wasmbin

// plainResults are the results of the opcodes from i32.eqz (0x45) to i64.extend32_s (0xc4), in runs.
var plainResults = []struct {
	last   byte
	result ValType
}{
	{0x66, I32},                                        // comparisons
	{0x78, I32}, {0x8a, I64}, {0x98, F32}, {0xa6, F64}, // arithmetic
	{0xab, I32}, {0xb1, I64}, {0xb6, F32}, {0xbb, F64}, // conversions
	{0xbc, I32}, {0xbd, I64}, {0xbe, F32}, {0xbf, F64}, // reinterpretations
	{0xc1, I32}, {0xc4, I64}, // sign extensions
}

// loadResults are the results of the loads from i32.load (0x28) to i64.load32_u (0x35).
var loadResults = [...]ValType{I32, I64, F32, F64, I32, I32, I32, I32, I64, I64, I64, I64, I64, I64}

// plainEffect returns the effect of a one-byte opcode whose types do not depend on the module.
func plainEffect(op byte) (pops int, pushes []ValType, ok bool) {
	switch {
	case op == opNop:
		return 0, nil, true
	case op >= opI32Load && int(op-opI32Load) < len(loadResults):
		return 1, one(loadResults[op-opI32Load]), true
	case op >= opI32Store && op <= opI64Store32:
		return 2, nil, true
	case op == opMemorySize, op == opI32Const:
		return 0, typeI32, true
	case op == opMemoryGrow:
		return 1, typeI32, true
	case op == opI64Const:
		return 0, typeI64, true
	case op == opF32Const:
		return 0, typeF32, true
	case op == opF64Const:
		return 0, typeF64, true
	case op == opRefFunc, op == opRefNull: // a reference; selects of those need no mending
		return 0, []ValType{FuncRef}, true
	case op == opRefIsNull:
		return 1, typeI32, true
	case op == opTableGet:
		return 1, []ValType{FuncRef}, true
	case op == opTableSet:
		return 2, nil, true
	}
	pops, _, ok = stackEffect(instr{op: op})
	for _, run := range plainResults {
		if ok && op >= opI32Eqz && op <= run.last {
			return pops, one(run.result), true
		}
	}
	return 0, nil, false
}

// miscEffect returns the effect of saturating conversions, bulk memory and table instructions.
func miscEffect(op uint32) (pops int, pushes []ValType, ok bool) {
	switch {
	case op < 4:
		return 1, typeI32, true
	case op < 8:
		return 1, typeI64, true
	case op == miscDataDrop, op == 13: // and elem.drop
		return 0, nil, true
	case op == miscTableGrow:
		return 2, typeI32, true
	case op == miscTableSize:
		return 0, typeI32, true
	case op <= 17: // init, copy and fill, of a memory and of a table
		return 3, nil, true
	}
	return 0, nil, false
}

// simdRuns are the effects of vector instructions, in runs up to an opcode: the number of operands, and the result; 0:
// none.
var simdRuns = []struct {
	last   uint32
	pops   int
	result ValType
}{
	{10, 1, V128}, {11, 2, 0}, {12, 0, V128}, {14, 2, V128}, {20, 1, V128}, // loads, store, const, shuffles, splats
	{22, 1, I32}, {23, 2, V128}, {25, 1, I32}, {26, 2, V128}, {27, 1, I32}, {28, 2, V128}, // lanes
	{29, 1, I64}, {30, 2, V128}, {31, 1, F32}, {32, 2, V128}, {33, 1, F64}, {34, 2, V128},
	{76, 2, V128}, {77, 1, V128}, {81, 2, V128}, {82, 3, V128}, {83, 1, I32}, // comparisons, bits
	{87, 2, V128}, {91, 2, 0}, {95, 1, V128}, // lanes in memory, zero-extending loads, demote and promote
	{98, 1, V128}, {100, 1, I32}, {102, 2, V128}, {106, 1, V128}, {115, 2, V128}, {117, 1, V128}, {121, 2, V128}, // 8 bit
	{122, 1, V128}, {123, 2, V128}, {129, 1, V128}, {130, 2, V128}, {132, 1, I32}, {134, 2, V128}, {138, 1, V128}, // 16
	{147, 2, V128}, {148, 1, V128}, {159, 2, V128},
	{161, 1, V128}, {164, 1, I32}, {170, 1, V128}, {191, 2, V128}, // 32
	{193, 1, V128}, {196, 1, I32}, {202, 1, V128}, {223, 2, V128}, // 64
	{227, 1, V128}, {235, 2, V128}, {239, 1, V128}, {247, 2, V128}, {255, 1, V128}, // floats, conversions
}

func simdEffect(op uint32) (pops int, pushes []ValType, ok bool) {
	for _, run := range simdRuns {
		if op > run.last {
			continue
		}
		if run.result == 0 {
			return run.pops, nil, true
		}
		return run.pops, one(run.result), true
	}
	return 0, nil, false
}
