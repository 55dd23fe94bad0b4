package lean

import (
	"unsafe"

	_ "github.com/tetratelabs/wazero" // whose symbols are linked
)

// Opcodes of wazero 1.12's ssa package, as verify checks.
const (
	opExitIfTrue = 7
	opLoad       = 15
	opStore      = 16
	opUload8     = 17
	opSload8     = 18
	opIstore8    = 19
	opUload16    = 20
	opSload16    = 21
	opIstore16   = 22
	opUload32    = 23
	opSload32    = 24
	opIstore32   = 25
	opIconst     = 28
	opIcmp       = 43
	opIadd       = 46
	opBand       = 91
	opIshl       = 97
	opSshr       = 98
	opUshr       = 99
	opUExtend    = 129
	opSExtend    = 130
	opEnd        = 148
)

// Types of values.
const (
	typeNone = 0
	typeI32  = 1
	typeI64  = 2
)

// value is an ssa.Value: its number in the low bits, the number of the instruction that makes it from bit 32, its type
// from bit 60.
type value uint64

const invalid value = 0xffffffff

const (
	moduleContext = 1 // the number of the parameter by which every function gets its module
	moduleMemory  = 8 // the memory's offset in a module's context: its base, or the instance it is imported from
	instanceBase  = 0 // the base's offset in such an instance
)

func (v value) number() uint32 { return uint32(v) }

// instruction is the layout of ssa.Instruction.
type instruction struct {
	id             int
	opcode         uint32
	u1, u2         uint64
	v, v2, v3      value
	vs             [2]uintptr
	typ            byte
	prev, next     *instruction
	result         value
	results        [2]uintptr
	group          uint32
	source         int64
	isLive, isDone bool
}

// block is the beginning of ssa.basicBlock.
type block struct {
	id         uint32
	root, last *instruction
}

// pool is the layout of a wazevoapi.Pool.
type pool[T any] struct {
	pages            []*[128]T
	reset            func(*T)
	allocated, index int
}

// builder is the beginning of ssa.builder.
type builder struct {
	blocks           pool[block]
	instructions     pool[instruction]
	values           [2]pool[struct{}]
	signatures       uintptr
	signature        uintptr
	order            []*block
	current, return_ *block
	nextValue        uint32
	nextVariable     uint32
	annotations      uintptr
	info             []struct{}
	dominators       []*block // by a block's number: its immediate dominator
	tree             sparseTree
}

// sparseTree is the layout of ssa.dominatorSparseTree, which finds the lowest common dominator of two blocks.
type sparseTree struct {
	time         int32
	euler        []*block
	first, depth []int32
	table        [][]int32
}

// iface is an interface value: its method table, whose second word is the value's type, and a pointer to the value.
type iface struct{ table, data unsafe.Pointer }

// resultTypes returns the types of an instruction's results: the first, and the others.
type resultTypes func(b *builder, i *instruction) (byte, []byte)

//go:linkname table github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.instructionReturnTypes
var table [opEnd]resultTypes

//go:linkname opcodeName github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.Opcode.String
func opcodeName(op uint32) string

//go:linkname newBuilder github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.NewBuilder
func newBuilder() iface

//go:linkname buildSparseTable github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*dominatorSparseTree).buildSparseTable
func buildSparseTable(t *sparseTree)

//go:linkname allocateInstruction github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).AllocateInstruction
func allocateInstruction(b *builder) *instruction

//go:linkname insertInstruction github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).InsertInstruction
func insertInstruction(b *builder, i *instruction)

//go:linkname allocateBlock github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).AllocateBasicBlock
func allocateBlock(b *builder) iface

//go:linkname setCurrentBlock github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).SetCurrentBlock
func setCurrentBlock(b *builder, bb iface)

//go:linkname currentBlock github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).CurrentBlock
func currentBlock(b *builder) iface

//go:linkname allocateValue github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).allocateValue
func allocateValue(b *builder, t byte) value

//go:linkname definition github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*builder).InstructionOfValue
func definition(b *builder, v value) *instruction

//go:linkname asLoad github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsLoad
func asLoad(i *instruction, ptr value, offset uint32, t byte) *instruction

//go:linkname asStore github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsStore
func asStore(i *instruction, op uint32, v, ptr value, offset uint32) *instruction

//go:linkname asUExtend github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsUExtend
func asUExtend(i *instruction, v value, from, to byte) *instruction

//go:linkname asIadd github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsIadd
func asIadd(i *instruction, x, y value) *instruction

//go:linkname asIconst32 github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsIconst32
func asIconst32(i *instruction, v uint32) *instruction

//go:linkname asIconst64 github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsIconst64
func asIconst64(i *instruction, v uint64) *instruction

//go:linkname asIcmp github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsIcmp
func asIcmp(i *instruction, x, y value, cond byte) *instruction

//go:linkname asExitIfTrue github.com/tetratelabs/wazero/internal/engine/wazevo/ssa.(*Instruction).AsExitIfTrueWithCode
func asExitIfTrue(i *instruction, ctx, c value, code uint32) *instruction
