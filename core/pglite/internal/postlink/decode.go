package postlink

import "encoding/binary"

// kind is what an instruction does to the flow, or what of it depends on where it is.
type kind uint8

const (
	plain    kind = iota
	jump          // to target
	branch        // to target, or on
	indirect      // a jump by a table, which follows it
	end           // a return
	trap          // ud2, int3
	call          // of the function at target
	relative      // has the address of target; its own is plain
)

// instruction is one of the function that is worked on.
type instruction struct {
	at     uint32 // from the function's first byte
	size   uint8
	kind   kind
	disp   uint8 // where in it the displacement is, of kinds with a target
	out    uint8 // how many bytes it becomes
	target int32 // from the function's first byte; as decode returns it, from the instruction's
	with   int32 // where in replaced those are; -1: they are its own
}

// In disp of instructions that are plain.
const (
	mayShorten = 1 // a test, or an operation with an immediate of eight bits
	mayGrow    = 2 // a call of what is in memory
)

func (in *instruction) next() uint32 { return in.at + uint32(in.size) }

// shape is what follows an opcode.
type shape uint8

const (
	none   shape = 0
	unread shape = 1 << iota // not among what is known here
	modrm
	imm8
	imm32  // of 16 bits with an operand-size prefix
	immReg // of 64 bits with REX.W
	rel32
)

// one and two are the opcodes of one byte, and those after 0F: what wazero emits and its relatives. Others are not known.
var one, two = func() (one, two [256]shape) {
	for i := range 256 {
		one[i], two[i] = unread, unread
	}
	set := func(t *[256]shape, s shape, from, to int) {
		for i := from; i <= to; i++ {
			t[i] = s
		}
	}
	for base := 0; base < 0x40; base += 8 { // arithmetic
		set(&one, modrm, base, base+3)
		set(&one, imm8, base+4, base+4)
		set(&one, imm32, base+5, base+5)
	}
	one[0x0f] = unread
	set(&one, none, 0x50, 0x5f) // push, pop
	set(&one, modrm, 0x63, 0x63)
	set(&one, imm32, 0x68, 0x68)
	set(&one, modrm|imm32, 0x69, 0x69)
	set(&one, imm8, 0x6a, 0x6a)
	set(&one, modrm|imm8, 0x6b, 0x6b)
	set(&one, modrm|imm8, 0x80, 0x80)
	set(&one, modrm|imm32, 0x81, 0x81)
	set(&one, modrm|imm8, 0x83, 0x83)
	set(&one, modrm, 0x84, 0x8b)
	set(&one, modrm, 0x8d, 0x8d)
	set(&one, none, 0x90, 0x90)
	set(&one, none, 0x98, 0x99)
	set(&one, imm8, 0xa8, 0xa8)
	set(&one, imm32, 0xa9, 0xa9)
	set(&one, imm8, 0xb0, 0xb7)
	set(&one, immReg, 0xb8, 0xbf)
	set(&one, modrm|imm8, 0xc0, 0xc1)
	set(&one, none, 0xc3, 0xc3)
	set(&one, modrm|imm8, 0xc6, 0xc6)
	set(&one, modrm|imm32, 0xc7, 0xc7)
	set(&one, none, 0xcc, 0xcc)
	set(&one, modrm, 0xd0, 0xd3)
	set(&one, rel32, 0xe8, 0xe9)
	set(&one, modrm, 0xf6, 0xf7) // whose immediates are asked for apart
	set(&one, modrm, 0xfe, 0xff)
	set(&two, none, 0x0b, 0x0b)
	set(&two, modrm, 0x10, 0x17)
	set(&two, modrm, 0x1f, 0x1f)
	set(&two, modrm, 0x28, 0x2f)
	set(&two, modrm, 0x40, 0x6f)
	set(&two, modrm|imm8, 0x70, 0x73)
	set(&two, modrm, 0x74, 0x76)
	set(&two, modrm, 0x7c, 0x7f)
	set(&two, rel32, 0x80, 0x8f)
	set(&two, modrm, 0x90, 0x9f)
	set(&two, modrm, 0xa3, 0xa3)
	set(&two, modrm, 0xab, 0xab)
	set(&two, modrm, 0xae, 0xb1)
	set(&two, modrm, 0xb6, 0xb8)
	set(&two, modrm|imm8, 0xba, 0xba)
	set(&two, modrm, 0xbb, 0xc1)
	set(&two, modrm|imm8, 0xc2, 0xc2)
	set(&two, modrm|imm8, 0xc4, 0xc6)
	set(&two, none, 0xc8, 0xcf) // bswap
	set(&two, modrm, 0xd0, 0xff)
	return one, two
}()

// decode reads the instruction at the beginning of b. ok is false of what is not known here, or is cut off.
func decode(b []byte, in *instruction) (ok bool) {
	i, wide, short := 0, false, false
	for ; i < len(b); i++ {
		if b[i] == 0x66 {
			short = true
		} else if b[i] != 0xf0 && b[i] != 0xf2 && b[i] != 0xf3 {
			break
		}
	}
	if i < len(b) && b[i]&0xf0 == 0x40 {
		wide = b[i]&8 != 0
		i++
	}
	if i >= len(b) {
		return false
	}
	op := b[i]
	s, after0f := one[op], false
	i++
	if op == 0x0f {
		if i >= len(b) {
			return false
		}
		after0f, op = true, b[i]
		i++
		switch s = two[op]; op {
		case 0x38, 0x3a:
			if s = modrm; op == 0x3a {
				s |= imm8
			}
			if i++; i > len(b) {
				return false
			}
		}
	}
	if s&unread != 0 {
		return false
	}
	reg, ripAt := byte(0), 0
	if s&modrm != 0 {
		if i >= len(b) {
			return false
		}
		m := b[i]
		mode, rm := m>>6, m&7
		reg = m >> 3 & 7
		i++
		if mode != 3 && rm == 4 {
			if i >= len(b) {
				return false
			}
			if b[i]&7 == 5 && mode == 0 {
				i += 4
			}
			i++
		}
		switch {
		case mode == 0 && rm == 5:
			ripAt = i
			i += 4
		case mode == 1:
			i++
		case mode == 2:
			i += 4
		}
		if !after0f && (op == 0xf6 || op == 0xf7) && reg < 2 {
			if s |= imm8; op == 0xf7 {
				s = modrm | imm32
			}
		}
	}
	relAt := i
	switch {
	case s&imm8 != 0:
		i++
	case s&imm32 != 0 && short:
		i += 2
	case s&imm32 != 0:
		i += 4
	case s&immReg != 0 && wide:
		i += 8
	case s&immReg != 0 && short:
		i += 2
	case s&immReg != 0:
		i += 4
	case s&rel32 != 0:
		i += 4
	}
	if i > len(b) || i > 15 {
		return false
	}
	*in = instruction{size: uint8(i), out: uint8(i), with: -1}
	to := func(at int) int32 { return int32(i) + int32(binary.LittleEndian.Uint32(b[at:])) }
	switch {
	case after0f && op == 0x0b, !after0f && op == 0xcc:
		in.kind = trap
	case !after0f && op == 0xc3:
		in.kind = end
	case s&rel32 != 0:
		in.disp, in.target = uint8(relAt), to(relAt)
		switch {
		case after0f:
			in.kind = branch
		case op == 0xe8:
			in.kind = call
		default:
			in.kind = jump
		}
	case !after0f && op == 0xff && reg == 4:
		in.kind = indirect
	case ripAt > 0 && to(ripAt) != 0:
		in.kind, in.disp, in.target = relative, uint8(ripAt), to(ripAt)
	case after0f:
	case op == 0x83 || op == 0x85:
		in.disp = mayShorten
	case op == 0xff && reg == 2:
		in.disp = mayGrow
	}
	return true
}
