package postlink

import "encoding/binary"

// kind is an instruction's effect on control flow, or what in it depends on its position.
type kind uint8

const (
	plain    kind = iota
	jump          // to target
	branch        // to target, or falls through
	indirect      // a jump by a table, which follows the instruction
	end           // a return
	trap          // ud2, int3
	call          // of the function at target
	relative      // holds the address of target; its effect is plain
)

// instruction is one instruction of the current function.
type instruction struct {
	at     uint32 // from the function's first byte
	size   uint8
	kind   kind
	disp   uint8 // offset of the displacement, for kinds with a target
	out    uint8 // size in the output, in bytes
	target int32 // from the function's first byte; when decode returns, from the instruction's
	with   int32 // offset of its output bytes in replaced; -1: its own bytes
}

// Values of disp for plain instructions.
const (
	mayShorten = 1 // a test, or an operation with an immediate of eight bits
	mayGrow    = 2 // a call through memory
)

func (in *instruction) next() uint32 { return in.at + uint32(in.size) }

// shape describes what follows an opcode.
type shape uint8

const (
	none   shape = 0
	unread shape = 1 << iota // not known here
	modrm
	imm8
	imm32  // of 16 bits with an operand-size prefix
	immReg // of 64 bits with REX.W
	rel32
)

// opcodes is a range of opcodes with the same shape.
type opcodes struct {
	from, to byte
	shape    shape
}

// one and two are the one-byte opcodes, and those after 0F: what wazero emits, and related ones. Others are unknown.
var (
	one = shapes(append(arithmetic(),
		opcodes{0x50, 0x5f, none}, // push, pop
		opcodes{0x63, 0x63, modrm}, opcodes{0x68, 0x68, imm32}, opcodes{0x69, 0x69, modrm | imm32}, opcodes{0x6a, 0x6a, imm8}, opcodes{0x6b, 0x6b, modrm | imm8},
		opcodes{0x80, 0x80, modrm | imm8}, opcodes{0x81, 0x81, modrm | imm32}, opcodes{0x83, 0x83, modrm | imm8}, opcodes{0x84, 0x8b, modrm}, opcodes{0x8d, 0x8d, modrm},
		opcodes{0x90, 0x90, none}, opcodes{0x98, 0x99, none}, opcodes{0xa8, 0xa8, imm8}, opcodes{0xa9, 0xa9, imm32}, opcodes{0xb0, 0xb7, imm8}, opcodes{0xb8, 0xbf, immReg},
		opcodes{0xc0, 0xc1, modrm | imm8}, opcodes{0xc3, 0xc3, none}, opcodes{0xc6, 0xc6, modrm | imm8}, opcodes{0xc7, 0xc7, modrm | imm32}, opcodes{0xcc, 0xcc, none},
		opcodes{0xd0, 0xd3, modrm}, opcodes{0xe8, 0xe9, rel32}, opcodes{0xf6, 0xf7, modrm}, opcodes{0xfe, 0xff, modrm}, // f6, f7: see immediate
	))
	two = shapes([]opcodes{
		{0x0b, 0x0b, none}, {0x10, 0x17, modrm}, {0x1f, 0x1f, modrm}, {0x28, 0x2f, modrm}, {0x38, 0x38, modrm}, {0x3a, 0x3a, modrm | imm8}, // 38, 3a: another byte follows
		{0x40, 0x6f, modrm}, {0x70, 0x73, modrm | imm8}, {0x74, 0x76, modrm}, {0x7c, 0x7f, modrm}, {0x80, 0x8f, rel32}, {0x90, 0x9f, modrm},
		{0xa3, 0xa3, modrm}, {0xab, 0xab, modrm}, {0xae, 0xb1, modrm}, {0xb6, 0xb8, modrm}, {0xba, 0xba, modrm | imm8}, {0xbb, 0xc1, modrm},
		{0xc2, 0xc2, modrm | imm8}, {0xc4, 0xc6, modrm | imm8}, {0xc8, 0xcf, none}, {0xd0, 0xff, modrm}, // c8: bswap
	})
)

// arithmetic returns add, or, adc, sbb, and, sub, xor, cmp: eight opcodes each, of which two are other instructions.
func arithmetic() (rows []opcodes) {
	for base := byte(0); base < 0x40; base += 8 {
		rows = append(rows, opcodes{base, base + 3, modrm}, opcodes{base + 4, base + 4, imm8}, opcodes{base + 5, base + 5, imm32})
	}
	return rows
}

func shapes(rows []opcodes) (of [256]shape) {
	for i := range of {
		of[i] = unread
	}
	for _, r := range rows {
		for op := int(r.from); op <= int(r.to); op++ {
			of[op] = r.shape
		}
	}
	return of
}

// decoding is the state of reading an instruction.
type decoding struct {
	i           int  // bytes read
	wide, short bool // by prefix: 64 bits, 16 bits
	after0f     bool
	op, reg     byte
	shape       shape
	ripAt       int // offset of the RIP-relative displacement; 0: none
}

// decode reads the instruction at the beginning of b into in. It returns false if the instruction is unknown or cut
// off.
func decode(b []byte, in *instruction) bool {
	var d decoding
	if !d.opcode(b) || d.shape&modrm != 0 && !d.operands(b) {
		return false
	}
	rel := d.i
	d.i += d.immediate()
	if d.i > len(b) || d.i > 15 {
		return false
	}
	*in = instruction{size: uint8(d.i), out: uint8(d.i), with: -1}
	to := func(at int) int32 { return int32(d.i) + int32(binary.LittleEndian.Uint32(b[at:])) }
	switch op := d.op; {
	case d.after0f && op == 0x0b, !d.after0f && op == 0xcc:
		in.kind = trap
	case !d.after0f && op == 0xc3:
		in.kind = end
	case d.shape&rel32 != 0:
		in.kind, in.disp, in.target = jump, uint8(rel), to(rel)
		if d.after0f {
			in.kind = branch
		} else if op == 0xe8 {
			in.kind = call
		}
	case !d.after0f && op == 0xff && d.reg == 4:
		in.kind = indirect
	case d.ripAt > 0 && to(d.ripAt) != 0:
		in.kind, in.disp, in.target = relative, uint8(d.ripAt), to(d.ripAt)
	case d.after0f:
	case op == 0x83 || op == 0x85:
		in.disp = mayShorten
	case op == 0xff && d.reg == 2:
		in.disp = mayGrow
	}
	return true
}

// opcode reads prefixes and the opcode.
func (d *decoding) opcode(b []byte) bool {
	for ; d.i < len(b); d.i++ {
		if b[d.i] == 0x66 {
			d.short = true
		} else if b[d.i] != 0xf0 && b[d.i] != 0xf2 && b[d.i] != 0xf3 {
			break
		}
	}
	if d.i < len(b) && b[d.i]&0xf0 == 0x40 {
		d.wide = b[d.i]&8 != 0
		d.i++
	}
	if d.i >= len(b) {
		return false
	}
	d.op, d.shape = b[d.i], one[b[d.i]]
	d.i++
	if d.op == 0x0f {
		if d.i >= len(b) {
			return false
		}
		d.after0f, d.op, d.shape = true, b[d.i], two[b[d.i]]
		if d.i++; d.op == 0x38 || d.op == 0x3a {
			d.i++
		}
	}
	return d.shape&unread == 0
}

// operands reads the ModRM byte and what follows from it.
func (d *decoding) operands(b []byte) bool {
	if d.i >= len(b) {
		return false
	}
	m := b[d.i]
	mode, rm := m>>6, m&7
	d.reg = m >> 3 & 7
	d.i++
	if mode != 3 && rm == 4 { // a SIB byte
		if d.i >= len(b) {
			return false
		}
		if b[d.i]&7 == 5 && mode == 0 {
			d.i += 4
		}
		d.i++
	}
	switch {
	case mode == 0 && rm == 5:
		d.ripAt = d.i
		d.i += 4
	case mode == 1:
		d.i++
	case mode == 2:
		d.i += 4
	}
	return true
}

// immediate returns the size of what follows the operands.
func (d *decoding) immediate() int {
	s := d.shape
	if !d.after0f && d.reg < 2 { // test; the rest of this group has none
		switch d.op {
		case 0xf6:
			s |= imm8
		case 0xf7:
			s |= imm32
		}
	}
	switch {
	case s&imm8 != 0:
		return 1
	case s&immReg != 0 && d.wide:
		return 8
	case s&(imm32|immReg) != 0 && d.short:
		return 2
	case s&(imm32|immReg|rel32) != 0:
		return 4
	}
	return 0
}
