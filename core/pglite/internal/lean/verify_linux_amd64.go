package lean

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"unsafe"

	"blobpglite/core/pglite/internal/wasmbin"
)

// What this package was written for.
const (
	module       = "github.com/tetratelabs/wazero"
	version      = "v1.12.0"
	sum          = "h1:DuWcpNu/FzgEXgGBDp8J1Spc+CWOvvtvVyjKlaZopYU="
	tablePrint   = 0x30ca04414f7a0b9 // of the opcodes' names, and of which opcodes share a function
	checkedByEnv = "BLOBPGLITE_CHECKED"
)

var unavailable = install()

// Available returns why code is compiled with bounds checks; nil: marked code is compiled without.
func Available() error { return unavailable }

// install replaces the table's functions if everything is as expected.
func install() (err error) {
	if v := os.Getenv(checkedByEnv); v != "" && v != "0" {
		return fmt.Errorf("%s is set", checkedByEnv)
	}
	if err := rightBuild(debug.ReadBuildInfo()); err != nil {
		return err
	}
	if got := fingerprint(); got != tablePrint {
		return fmt.Errorf("the compiler's table of operations differs from that of %s %s: %#x", module, version, got)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the compiler's data layout differs from that of %s %s: %v", module, version, r)
		}
	}()
	if err := rightLayout(); err != nil {
		return err
	}
	hook()
	return nil
}

// rightBuild returns an error unless the program was built with the compiler that this package was written for. A program
// that does not say what it was built with is refused, except a test binary, which lists no modules: for it the other
// checks must do.
func rightBuild(info *debug.BuildInfo, ok bool) error {
	if !ok {
		return errors.New("the program does not say what it was built with: build it with the go command, in module mode")
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil || m.Version != version || m.Sum != sum {
			return fmt.Errorf("the program was not built with %s %s as published, but with %s", module, version, m.Version)
		}
		return nil
	}
	if len(info.Deps) == 0 && strings.HasSuffix(info.Path, testBinary) {
		return nil
	}
	return fmt.Errorf("the program was not built with %s", module)
}

// testBinary is the suffix that the go command gives to a test binary's path.
const testBinary = ".test"

// fingerprint hashes the opcodes' names in order, and which opcodes share a function for their results.
func fingerprint() uint64 {
	h := fnv.New64a()
	seen := map[uintptr]int{}
	for op, f := range table {
		p := reflect.ValueOf(f).Pointer()
		if _, ok := seen[p]; !ok {
			seen[p] = len(seen)
		}
		fmt.Fprintf(h, "%d %s %d\n", op, opcodeName(uint32(op)), seen[p])
	}
	return h.Sum64()
}

var errLayout = errors.New("the compiler's layout is not the expected one")

// rightTree checks the mirror of the builder's dominator tree by the names of its fields, and fills a tree.
func rightTree(b any) error {
	mine := reflect.TypeFor[builder]()
	its, ok := reflect.TypeOf(b).Elem().FieldByName("sparseTree")
	if tree, _ := mine.FieldByName("tree"); !ok || its.Offset != tree.Offset || its.Type.Size() != tree.Type.Size() {
		return fmt.Errorf("%w: the dominator tree is at another offset", errLayout)
	}
	table, ok := its.Type.FieldByName("table")
	if is, _ := reflect.TypeFor[sparseTree]().FieldByName("table"); !ok || table.Offset != is.Offset || table.Type != is.Type {
		return fmt.Errorf("%w: the dominator table is at another offset", errLayout)
	}
	t := sparseTree{depth: []int32{0, 1, 0, 2, 1}}
	buildSparseTable(&t)
	if rows := len(t.table); rows != len(t.depth)+1 || t.table[rows-1][0] != int32(rows-1) || t.table[0][2] != 2 {
		return fmt.Errorf("%w: the dominator table has other contents", errLayout)
	}
	return nil
}

// dynamic returns the value in an interface of any type.
func (i iface) dynamic() any {
	e := iface{(*[2]unsafe.Pointer)(i.table)[1], i.data}
	return *(*any)(unsafe.Pointer(&e))
}

// rightLayout builds a few instructions with the compiler's own functions, and examines them through this package's
// mirror of them.
func rightLayout() error {
	made := newBuilder()
	if err := rightTree(made.dynamic()); err != nil {
		return err
	}
	b := (*builder)(made.data)
	if b.return_ == nil || b.return_.id != 1<<32-1 || b.instructions.reset == nil || b.signatures == 0 || b.annotations == 0 || b.dominators != nil {
		return fmt.Errorf("%w: the builder has other fields", errLayout)
	}
	bb := allocateBlock(b)
	setCurrentBlock(b, bb)
	first, second := allocateInstruction(b), allocateInstruction(b)
	if uintptr(unsafe.Pointer(second))-uintptr(unsafe.Pointer(first)) != unsafe.Sizeof(instruction{}) {
		return fmt.Errorf("%w: an instruction has another size", errLayout)
	}
	ok := first.id == 1 && second.id == 2 && first.v == invalid && first.v2 == invalid && first.v3 == invalid && first.result == invalid
	asIconst64(first, wasmbin.MarkLocal)
	ok = ok && first.opcode == opIconst && first.u1 == wasmbin.MarkLocal && first.typ == typeI64
	insertInstruction(b, first)
	asLoad(second, first.result, 77, typeI64)
	insertInstruction(b, second)
	blk := (*block)(bb.data)
	ok = ok && currentBlock(b).data == bb.data && blk.id == 0 && blk.root == first && blk.last == second &&
		first.next == second && second.prev == first && first.prev == nil &&
		first.result == typeI64<<60|1<<32 && second.result == typeI64<<60|2<<32|1 &&
		second.opcode == opLoad && second.v == first.result && second.u1 == 77 && second.typ == typeI64 &&
		definition(b, second.result) == second && definition(b, 1) == nil
	store, narrow, extend, add, cmp, exit := allocateInstruction(b), allocateInstruction(b), allocateInstruction(b), allocateInstruction(b), allocateInstruction(b), allocateInstruction(b)
	asStore(store, opIstore8, first.result, second.result, 5)
	asIconst32(narrow, 1<<31)
	insertInstruction(b, narrow)
	asUExtend(extend, narrow.result, 32, 64)
	insertInstruction(b, extend)
	asIadd(add, second.result, extend.result)
	insertInstruction(b, add)
	asIcmp(cmp, first.result, add.result, 4)
	insertInstruction(b, cmp)
	asExitIfTrue(exit, first.result, cmp.result, exitMemoryOutOfBounds)
	ok = ok && b.current == (*block)(bb.data) && b.blocks.allocated == 1 && b.instructions.allocated == 8 && b.nextValue == 6
	if !ok || store.opcode != opIstore8 || store.v != first.result || store.v2 != second.result || store.u1 != 8<<32|5 ||
		narrow.typ != typeI32 || narrow.u1 != 1<<31 || narrow.result != typeI32<<60|value(narrow.id)<<32|2 ||
		extend.opcode != opUExtend || extend.u1 != from32 || extend.v != narrow.result ||
		add.opcode != opIadd || add.v != second.result || add.v2 != extend.result || add.typ != typeI64 ||
		cmp.opcode != opIcmp || cmp.v2 != add.result || exit.opcode != opExitIfTrue || exit.v2 != cmp.result || exit.u1 != exitMemoryOutOfBounds {
		return errLayout
	}
	return nil
}
