package lean

import (
	"slices"
	"sync"
	"sync/atomic"

	"blobpglite/core/pglite/internal/wasmbin"
)

// function is the marked function that a builder is at.
type function struct {
	b        *builder
	base     *instruction // loads the memory's base
	instance *instruction // loads the instance that the memory is imported from; nil: it is the module's own
}

// compiling is how many compilations of marked modules there are; functions, what their builders are at. A builder serves one
// module, all of whose functions are marked, so what is noted of it is of the function that it is at. It is kept until no
// compilation is left: the address of one that is gone could be another module's.
var (
	mu        sync.Mutex
	compiling int
	functions atomic.Pointer[[]*function] // replaced as a whole
)

// Compile runs f, which compiles a marked module. Without [Available] the code is checked, as any other.
func Compile(f func() error) error {
	mu.Lock()
	compiling++
	if compiling == 1 {
		functions.Store(&[]*function{})
	}
	mu.Unlock()
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		if compiling--; compiling == 0 {
			functions.Store(nil)
		}
	}()
	return f()
}

// at is the marked function that b is at; nil: none.
func at(b *builder) *function {
	if list := functions.Load(); list != nil {
		for _, f := range *list {
			if f.b == b {
				return f
			}
		}
	}
	return nil
}

// keptRows is how many rows of a builder's table of dominators a function leaves for the next one.
const keptRows = 512

// enter is called at a function's mark.
func enter(b *builder) *function {
	// The compiler never shortens that table, and goes through all of it for each function: where one function of a module has forty thousand
	// rows, each of the ten thousand after it waits for them. A row in a table is kept for its memory only.
	if t := b.tree.table; len(t) > keptRows {
		b.tree.table = t[:keptRows:keptRows]
	}
	if f := at(b); f != nil {
		f.base, f.instance = nil, nil
		return f
	}
	mu.Lock()
	defer mu.Unlock()
	list := functions.Load()
	if list == nil {
		return nil
	}
	f := &function{b: b}
	f.keepTogether()
	more := append(slices.Clone(*list), f)
	functions.Store(&more)
	return f
}

// stock is the table as wazero made it.
var stock [opEnd]resultTypes

// hook replaces the entries of the table.
func hook() {
	stock = table
	table[opIconst] = onConstant
	table[opExitIfTrue] = onExit
	table[opUExtend] = onExtend
	table[opIadd] = onAdd
	table[opIcmp] = onCompare
	table[opLoad] = onLoad
	for _, op := range []uint32{opUload8, opUload16, opUload32, opSload32} {
		table[op] = onOtherLoad
	}
	table[opSload8], table[opSload16] = onSignedLoad, onSignedLoad
	for _, op := range []uint32{opStore, opIstore8, opIstore16, opIstore32} {
		table[op] = onStore
	}
}

// onConstant makes the load of the memory's base, or both loads that it takes, of a function's mark.
func onConstant(b *builder, i *instruction) (byte, []byte) {
	if i.u1 < wasmbin.MarkLocal || i.u1 > wasmbin.MarkBase || i.typ != typeI64 || (*block)(currentBlock(b).data).id != 0 {
		return i.typ, nil
	}
	ptr, offset := value(moduleContext)|typeI64<<60, uint32(moduleMemory)
	if i.u1 == wasmbin.MarkBase {
		f := at(b)
		if f == nil || f.instance == nil || f.base != nil {
			return i.typ, nil
		}
		f.base = i
		ptr, offset = f.instance.result, instanceBase
	} else {
		f := enter(b)
		switch {
		case f == nil:
			return i.typ, nil
		case i.u1 == wasmbin.MarkLocal:
			f.base = i
		default:
			f.instance = i
		}
	}
	asLoad(i, ptr, offset, typeI64)
	return typeI64, nil
}

// drop makes an instruction one without effect or result, which the elimination of dead code removes.
func drop(i *instruction) {
	i.opcode, i.typ, i.u1, i.u2, i.v, i.v2, i.result = opIconst, typeI64, 0, 0, invalid, invalid, invalid
}

// before puts an instruction in front of i, the last of the block, with a result of type t.
func before(b *builder, i, n *instruction, t byte) value {
	n.result = allocateValue(b, t) | value(n.id)<<32
	n.prev, n.next = i.prev, i
	if i.prev != nil {
		i.prev.next = n
	} else {
		(*block)(currentBlock(b).data).root = n
	}
	i.prev = n
	return n.result
}

const exitMemoryOutOfBounds = 4

// onExit leaves out the check of a load or store. What copies and fills keeps its checks.
func onExit(b *builder, i *instruction) (byte, []byte) {
	if f := at(b); f != nil && f.base != nil && uint32(i.u1) == exitMemoryOutOfBounds && checksAccess(b, i) {
		drop(i)
	}
	return typeNone, nil
}

// checksAccess says whether i is a check as loads and stores have it: the memory's size is less than the sum of an address and a
// constant, and that constant is none of the program's.
func checksAccess(b *builder, i *instruction) bool {
	cmp := i.prev
	if cmp == nil || cmp.opcode != opIcmp || cmp.result != i.v2 {
		return false
	}
	add := cmp.prev
	if add == nil || add.opcode != opIadd || add.result != cmp.v2 {
		return false
	}
	ceil := definition(b, add.v2)
	return ceil != nil && ceil.opcode == opIconst && ceil.u2 != extended
}

// extended is in u2, which constants do not use, of one that was the extension of another.
const extended = 1

// from32 is what an extension of 32 bits to 64 has in u1.
const from32 = 32<<8 | 64

// onExtend makes one constant of an extended one that looks negative: where it becomes part of an address, wazero extends it with
// its sign.
func onExtend(b *builder, i *instruction) (byte, []byte) {
	if i.u1 == from32 && at(b) != nil {
		if c := origin(b, i.v); c != nil && c.opcode == opIconst && uint32(c.u1)>>31 != 0 {
			v := uint64(uint32(c.u1))
			i.v = invalid
			asIconst64(i, v).u2 = extended
		}
	}
	return i.typ, nil
}

// swapped is the condition of a comparison whose operands have changed places, by the condition.
var swapped = [...]uint64{1: 1, 2, 5, 6, 3, 4, 9, 10, 7, 8}

// onCompare puts an and to the left: where a zero is there, wazero takes the comparison for one of the and with zero. (That it is a zero
// may be found later: it may come in a variable.)
func onCompare(b *builder, i *instruction) (byte, []byte) {
	if at(b) != nil && i.u1 < uint64(len(swapped)) {
		if and := origin(b, i.v2); and != nil && and.opcode == opBand {
			i.v, i.v2, i.u1 = i.v2, i.v, swapped[i.u1]
		}
	}
	return typeI32, nil
}

// origin is what makes a value of 32 bits: shifts by no bits are removed later, and what they shift takes their place.
func origin(b *builder, v value) *instruction {
	for {
		i := definition(b, v)
		if i == nil || i.opcode != opIshl && i.opcode != opSshr && i.opcode != opUshr {
			return i
		}
		by := definition(b, i.v2)
		if by == nil || by.opcode != opIconst || by.u1&31 != 0 {
			return i
		}
		v = i.v
	}
}

// onAdd takes the zero extension off an address. Every operation of 32 bits leaves zeros above them, but for signed loads, of which
// onSignedLoad makes two operations. (A constant above 2^31, of which is not known here that it is one, for it comes in a variable,
// is taken for negative. No memory has such an address, and below a memory there is room for it in the reservation.)
func onAdd(b *builder, i *instruction) (byte, []byte) {
	f := at(b)
	if f == nil || f.base == nil || i.typ != typeI64 || i.v != f.base.result {
		return i.typ, nil
	}
	ext := definition(b, i.v2)
	if ext == nil || ext.opcode != opUExtend || ext.u1 != from32 {
		return i.typ, nil
	}
	if of := origin(b, ext.v); of != nil {
		switch of.opcode {
		case opIshl, opSExtend, opUExtend: // would become part of the address without what they do in 32 bits
			return i.typ, nil
		case opLoad: // would become an operand of the addition, and 64 bits be read
			of.opcode = opUload32
		}
	}
	i.v2 = ext.v
	return i.typ, nil
}

// onLoad takes the memory's base from where the function has it already.
func onLoad(b *builder, i *instruction) (byte, []byte) {
	f := at(b)
	if f == nil {
		return i.typ, nil
	}
	if i.typ == typeI64 {
		from := f.base
		switch {
		case i.v.number() == moduleContext && uint32(i.u1) == moduleMemory:
			if f.instance != nil {
				from = f.instance
			}
		case f.instance != nil && i.v == f.instance.result && uint32(i.u1) == instanceBase:
		default:
			from = nil
		}
		if from != nil && from != i {
			drop(i)
			i.result = from.result
			return typeNone, nil
		}
	}
	ownAddress(b, f, i, &i.v)
	return i.typ, nil
}

func onOtherLoad(b *builder, i *instruction) (byte, []byte) {
	if f := at(b); f != nil {
		ownAddress(b, f, i, &i.v)
	}
	return i.typ, nil
}

func onStore(b *builder, i *instruction) (byte, []byte) {
	if f := at(b); f != nil {
		ownAddress(b, f, i, &i.v2)
	}
	return typeNone, nil
}

// onSignedLoad makes two instructions of a load of 8 or 16 bits that gives 32 with their sign: wazero's one gives 64.
func onSignedLoad(b *builder, i *instruction) (byte, []byte) {
	f := at(b)
	if f == nil {
		return i.typ, nil
	}
	if i.typ != typeI32 {
		ownAddress(b, f, i, &i.v)
		return i.typ, nil
	}
	load := allocateInstruction(b)
	load.opcode, load.v, load.u1, load.typ = opUload8, i.v, i.u1, typeI32
	bits := uint64(8)
	if i.opcode == opSload16 {
		load.opcode, bits = opUload16, 16
	}
	v := before(b, i, load, typeI32)
	ownAddress(b, f, load, &load.v)
	i.opcode, i.v, i.u1 = opSExtend, v, bits<<8|32
	return typeI32, nil
}

// ownAddress gives a load or store an addition of its own, which becomes part of its address. (One that several use does not.)
func ownAddress(b *builder, f *function, i *instruction, ptr *value) {
	if f.base == nil || uint32(i.u1)>>31 != 0 {
		return
	}
	add := definition(b, *ptr)
	if add == nil || add.opcode != opIadd || add.v != f.base.result || add == i.prev {
		return
	}
	n := allocateInstruction(b)
	n.opcode, n.v, n.v2, n.typ = opIadd, add.v, add.v2, typeI64
	*ptr = before(b, i, n, typeI64)
}

// keepTogether has a comparison and the branch that uses it stay one instruction where the branch's edge is split: the branch that
// takes its place is of no group of instructions, and only what is of one group is merged. The only instructions that are made once
// the blocks' dominators are known are such branches; the block that is split off is the newest, and the one with the branch is
// noted as its dominator.
func (f *function) keepTogether() {
	b, reset := f.b, f.b.instructions.reset
	b.instructions.reset = func(i *instruction) {
		reset(i)
		if len(b.dominators) == 0 || b.blocks.allocated > len(b.dominators) {
			return
		}
		if from := b.dominators[b.blocks.allocated-1]; from != nil && from.last != nil && from.last.prev != nil {
			i.group = from.last.prev.group
		}
	}
}
