package lean

import (
	"slices"
	"sync"
	"sync/atomic"

	"blobpglite/core/pglite/internal/wasmbin"
)

// function is the marked function that a builder is building.
type function struct {
	b        *builder
	base     *instruction // loads the memory's base
	instance *instruction // loads the instance that the memory is imported from; nil: it is the module's own
}

// compiling is the number of compilations of marked modules; functions are those that their builders are building. A
// builder serves one module, all of whose functions are marked, so its entry is the function that it is currently
// building. Entries are kept until no compilation is left: another module's builder could get the address of one that is
// gone.
var (
	mu        sync.Mutex
	compiling int
	functions atomic.Pointer[[]*function] // replaced as a whole
)

// Compile runs f, which compiles a marked module. If lean is not [Available], the code is checked like any other.
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

// at returns the marked function that b is building; nil: none.
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

// keptRows is how many rows of a builder's table of dominators a function leaves to the next one.
const keptRows = 512

// enter is called at a function's mark.
func enter(b *builder) *function {
	// The compiler never shortens that table, and walks all of it for each function: if one function of a module has
	// forty thousand rows, they slow down each of the ten thousand after it. A row is kept in a table only for its
	// memory.
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

// onConstant turns a function's mark into the load of the memory's base, or into the two loads that it takes.
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

// drop turns an instruction into one without effect or result, which dead code elimination removes.
func drop(i *instruction) {
	i.opcode, i.typ, i.u1, i.u2, i.v, i.v2, i.result = opIconst, typeI64, 0, 0, invalid, invalid, invalid
}

// before inserts an instruction before i, the last of the block, with a result of type t.
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

// onExit leaves out the check of a load or store. Memory copies and fills keep their checks.
func onExit(b *builder, i *instruction) (byte, []byte) {
	if f := at(b); f != nil && f.base != nil && uint32(i.u1) == exitMemoryOutOfBounds && checksAccess(b, i) {
		drop(i)
	}
	return typeNone, nil
}

// checksAccess reports whether i is the check of a load or store: the memory's size is less than the sum of an address
// and a constant, which is not one of the program's own.
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

// extended marks, in u2, which constants do not use, a constant that was the extension of another.
const extended = 1

// from32 is u1 of an extension from 32 bits to 64.
const from32 = 32<<8 | 64

// onExtend makes one constant of an extended one that looks negative: as part of an address, wazero would sign-extend it.
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

// swapped gives, for each condition of a comparison, the one to use after its operands have changed places.
var swapped = [...]uint64{1: 1, 2, 5, 6, 3, 4, 9, 10, 7, 8}

// onCompare moves an and to the left: with a zero there, wazero would take the comparison for one of the and with zero.
// (That it is a zero may become known only later, because it may come from a variable.)
func onCompare(b *builder, i *instruction) (byte, []byte) {
	if at(b) != nil && i.u1 < uint64(len(swapped)) {
		if and := origin(b, i.v2); and != nil && and.opcode == opBand {
			i.v, i.v2, i.u1 = i.v2, i.v, swapped[i.u1]
		}
	}
	return typeI32, nil
}

// origin returns the instruction that makes a 32-bit value: shifts by zero bits are removed later, and their operands
// take their place.
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

// onAdd removes the zero extension of an address. Every 32-bit operation leaves zeros in the upper half, except signed
// loads, which onSignedLoad splits in two. (A constant above 2^31 that comes from a variable is not known here to be one,
// and is taken for negative. No memory has such an address, and the reservation has room for it below the memory.)
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
		case opLoad: // would become an operand of the addition, which would read 64 bits
			of.opcode = opUload32
		}
	}
	i.v2 = ext.v
	return i.typ, nil
}

// onLoad reuses the memory's base if the function has already loaded it.
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

// onSignedLoad splits a load of 8 or 16 bits that is sign-extended to 32 into two instructions: wazero's single one
// extends to 64.
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

// ownAddress gives a load or store an addition of its own, which becomes part of its address. (A shared addition does
// not.)
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

// keepTogether keeps a comparison and the branch that uses it in one machine instruction when the branch's edge is split:
// the branch that replaces it belongs to no group of instructions, and only instructions of one group are merged. The
// only instructions made after the blocks' dominators are known are such branches; the block that is split off is the
// newest, and its noted dominator is the block with the branch.
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
