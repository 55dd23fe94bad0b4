package wasmbin

// Opcodes that the rewriting or the built modules need by name.
const (
	opUnreachable       = 0x00
	opNop               = 0x01
	opBlock             = 0x02
	opLoop              = 0x03
	opIf                = 0x04
	opElse              = 0x05
	opEnd               = 0x0b
	opBr                = 0x0c
	opBrIf              = 0x0d
	opBrTable           = 0x0e
	opReturn            = 0x0f
	opCall              = 0x10
	opCallIndirect      = 0x11
	opDrop              = 0x1a
	opSelect            = 0x1b
	opSelectTyped       = 0x1c
	opTableGet          = 0x25
	opTableSet          = 0x26
	opI32Eqz            = 0x45
	opRefIsNull         = 0xd1
	opLocalGet          = 0x20
	opLocalSet          = 0x21
	opLocalTee          = 0x22
	opGlobalGet         = 0x23
	opGlobalSet         = 0x24
	opI32Load           = 0x28
	opI64Load           = 0x29
	opI32Load8U         = 0x2d
	opI32Store          = 0x36
	opI64Store          = 0x37
	opI32Store8         = 0x3a
	opI64Store32        = 0x3e
	opMemorySize        = 0x3f
	opMemoryGrow        = 0x40
	opI32Const          = 0x41
	opI64Const          = 0x42
	opF32Const          = 0x43
	opF64Const          = 0x44
	opI32Eq             = 0x46
	opI32Ne             = 0x47
	opI32LtS            = 0x48
	opI32LtU            = 0x49
	opI32GtS            = 0x4a
	opI32GtU            = 0x4b
	opI32GeU            = 0x4f
	opI64Eq             = 0x51
	opI64Ne             = 0x52
	opI64LtS            = 0x53
	opI64GtU            = 0x56
	opI64GeU            = 0x5a
	opI32Add            = 0x6a
	opI32Sub            = 0x6b
	opI32Mul            = 0x6c
	opI32RemU           = 0x70
	opI32Xor            = 0x73
	opI32And            = 0x71
	opI32ShrU           = 0x76
	opI64Add            = 0x7c
	opI64Sub            = 0x7d
	opI64Mul            = 0x7e
	opI64GeS            = 0x59
	opI64Or             = 0x84
	opI64ShrU           = 0x88
	opF32Mul            = 0x94
	opF64Mul            = 0xa2
	opF32ConvertI64S    = 0xb4
	opF32ConvertI64U    = 0xb5
	opF64ConvertI64S    = 0xb9
	opF64ConvertI64U    = 0xba
	opI64And            = 0x83
	opI64Shl            = 0x86
	opI32WrapI64        = 0xa7
	opI64ExtendU        = 0xad
	opI32ReinterpretF32 = 0xbc
	opI64ReinterpretF64 = 0xbd
	opF32ReinterpretI32 = 0xbe
	opF64ReinterpretI64 = 0xbf
	opRefNull           = 0xd0
	opRefFunc           = 0xd2
	opMisc              = 0xfc
	opSIMD              = 0xfd

	blockEmpty = 0x40

	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableGrow  = 15
	miscTableSize  = 16

	simdV128Load   = 0
	simdV128Store  = 11
	simdV128Const  = 12
	simdI8x16Splt  = 15
	simdI32x4Splt  = 17
	simdI32x4Extr  = 27
	simdV128And    = 78
	simdV128Bitsel = 82
	simdV128Xor    = 81
	simdI32x4ShrU  = 173
	simdI32x4Mul   = 181
)

// instr is one instruction of a function body.
type instr struct {
	start, end int // offsets in the module
	op         byte
	misc       uint32 // second opcode after opMisc or opSIMD
}

// walkBody calls visit for each instruction of a body, after its local declarations, and checks that the last one is
// the end that closes it.
func (r *reader) walkBody(visit func(instr)) {
	r.skipLocals()
	depth := 1
	for depth > 0 && r.err == nil {
		in := instr{start: r.pos}
		in.op = r.byte("instruction")
		switch in.op {
		case opBlock, opLoop, opIf:
			depth++
			r.signed(33, "block type")
		case opEnd:
			depth--
		case opMisc:
			in.misc = r.u32("opcode")
			r.skipMisc(in)
		case opSIMD:
			in.misc = r.u32("opcode")
			r.skipSIMD(in)
		default:
			r.skipImmediates(in)
		}
		in.end = r.pos
		if r.err == nil {
			visit(in)
		}
	}
	if r.err == nil && r.pos != r.end {
		r.fail(r.pos, "%d bytes after the end of a function body", r.left())
	}
}

func (r *reader) skipLocals() {
	for range r.count(maxVectorLen, "local declarations") {
		r.u32("number of locals")
		r.valType("local type")
	}
}

// skipImmediates moves past the operands of a one-byte opcode.
func (r *reader) skipImmediates(in instr) {
	switch op := in.op; {
	case op <= 0x01, op == opElse, op == opReturn, op == 0x1a, op == 0x1b, op == 0xd1:
		// unreachable, nop, else, return, drop, select, ref.is_null
	case op == opBr, op == opBrIf, op == opCall, op >= 0x20 && op <= 0x26, op == opRefFunc:
		r.u32("index")
	case op == opBrTable:
		for range r.count(maxBranchTable, "branch targets") {
			r.u32("branch target")
		}
		r.u32("branch target")
	case op == opCallIndirect:
		r.u32("type index")
		r.u32("table index")
	case op == opSelectTyped:
		r.valTypes("types of a select")
	case op >= 0x28 && op <= 0x3e: // loads and stores
		r.skipMemArg()
	case op == opMemorySize, op == opMemoryGrow:
		r.zeroByte("memory index")
	case op == opI32Const:
		r.signed(32, "i32 constant")
	case op == opI64Const:
		r.signed(64, "i64 constant")
	case op == opF32Const:
		r.bytes(4, "f32 constant")
	case op == opF64Const:
		r.bytes(8, "f64 constant")
	case op >= 0x45 && op <= 0xc4: // comparisons, arithmetic, conversions, sign extension
	case op == opRefNull:
		r.refType("null reference")
	default:
		r.fail(in.start, "opcode %#02x is not handled", op)
	}
}

// skipMisc moves past the operands of saturating conversions, bulk memory and
// table instructions.
func (r *reader) skipMisc(in instr) {
	switch {
	case in.misc <= 7: // saturating truncations
	case in.misc == miscMemoryInit:
		r.u32("data index")
		r.zeroByte("memory index")
	case in.misc == miscMemoryCopy:
		r.zeroByte("memory index")
		r.zeroByte("memory index")
	case in.misc == miscMemoryFill:
		r.zeroByte("memory index")
	case in.misc == 12, in.misc == 14: // table.init, table.copy
		r.u32("index")
		r.u32("index")
	case in.misc == miscDataDrop, in.misc == 13, in.misc >= miscTableGrow && in.misc <= 17: // elem.drop, table.fill
		r.u32("index")
	default:
		r.fail(in.start, "opcode 0xfc %d is not handled", in.misc)
	}
}

// skipSIMD moves past the operands of a vector instruction.
func (r *reader) skipSIMD(in instr) {
	switch {
	case in.misc <= simdV128Store, in.misc == 92, in.misc == 93: // loads and the store
		r.skipMemArg()
	case in.misc == simdV128Const, in.misc == 13: // i8x16.shuffle
		r.bytes(16, "vector immediate")
	case in.misc >= 21 && in.misc <= 34: // extract and replace lane
		r.byte("lane")
	case in.misc >= 84 && in.misc <= 91: // load and store lane
		r.skipMemArg()
		r.byte("lane")
	case in.misc > 255:
		r.fail(in.start, "opcode 0xfd %d is not handled", in.misc)
	}
}

func (r *reader) skipMemArg() {
	at := r.pos
	if align := r.u32("alignment"); align > 4 {
		r.fail(at, "alignment 2^%d, at most 2^4 allowed", align)
	}
	r.u32("offset")
}

func (r *reader) zeroByte(what string) {
	at := r.pos
	if b := r.byte(what); b != 0 {
		r.fail(at, "%s %d, only 0 is handled", what, b)
	}
}
