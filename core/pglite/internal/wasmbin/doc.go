// Package wasmbin reads WebAssembly binaries, rewrites those that contain PostgreSQL to suit a host written in Go, and
// builds the small modules that dynamic linking needs. It runs nothing: bytes in, bytes out.
//
//	main, err := wasmbin.RewriteMain(pgliteWasm)    // once, result is cached
//	clone, err := wasmbin.StripInit(main)           // for restored memories
//	fixed, err := wasmbin.Settle(pgDumpWasm, place) // a main module for any place gets one
//	side, err := wasmbin.Parse(plpgsqlSo)           // imports, exports, dylink.0
//	linked, err := wasmbin.RenameImports(plpgsqlSo, resolve)
//	link := wasmbin.BuildLink([]wasmbin.Global{{Name: "__memory_base", Value: 1 << 20}})
//
// A module is a header and a sequence of sections, each with its own length:
//
//	00 61 73 6d  01 00 00 00
//	id  length  contents          id 1..12 once each, in a fixed order
//	0   length  name  contents    custom sections, anywhere
//
// # Bounds checks
//
// wazero checks every load and store against the size of the memory: a comparison, a branch that is always taken, and
// some fifty bytes of code for the trap in between. That accounts for most of the time that PostgreSQL takes longer
// than on V8, which leaves it to the processor to catch such accesses. wazero 1.12 leaves out a check that it can see
// to be superfluous: per value (a name in its SSA form, of an i32 that was used as an address) it remembers the largest
// end of an access checked so far (frontend/lower.go, memOpSetup). That knowledge holds across calls and in every block
// with one predecessor. It is lost
//
//   - after an if without else: the missing arm is never closed, so the
//     merge finds nothing known there;
//   - after any merge, because the local gets a new name at its second use there,
//     even if all paths carry the same value (ssa/builder.go, findValue);
//   - at the targets of br_table, whose edges pass through blocks of their own;
//   - at the head of a loop, where every local gets a new name;
//   - for constants: each i32.const is a value of its own.
//
// So the pass over each function (checks.go, checksflow.go, checkswalk.go) does the same bookkeeping once, forward over
// the structured code, and then edits the code:
//
//	if … end                       if … else end
//	end (several ways lead here)   end local.get p local.set p    if p is used as an address
//	                               that every path has checked, and is not checked again
//	i32.const C  i32.load o        local.get zero  i32.load C+o   zero is a new local, never set
//	local.get p  i32.load o        local.get p i32.load8_u K drop local.get p  i32.load o
//
// The last raises a check: K is the last byte of all accesses off the same value of p that rely on this check, however
// much later. wazero keeps the check of the added load, drops the load itself, and has nothing left to check up to K.
// An edit is made only if an access needs it.
//
// Why that is sound. An empty else, and a local set to itself, do nothing. A constant address plus its offset keeps its
// sum, which is below the minimum size of the memory, so that it traps neither before nor after. A raised check could
// trap a program that would not have trapped: the access at K may never come. So it may reach at most [GuardBytes]
// further than the access that follows it, and the memory is that much larger than the program believes: memory.size
// does not count the last page, and the host that grows the memory leaves the program one page less (memory.grow in the
// code is refused). An access inside what the program knows as its memory, plus GuardBytes, is inside the memory.
// Conversely, a stray access to that last page alone no longer traps; nothing lives there. None of this depends on
// correct bookkeeping: where it is wrong, a check is made twice, or a raised one is useless.
//
// The tests run functions before and after side by side, including random ones, undo the edits in PostgreSQL itself by
// a method other than the one that made them, and verify that wazero still forgets what is listed above. The rewriting
// is deterministic: the same input gives the same output.
//
// A few whole functions, identified by the hash of their bodies, are replaced too (replace.go).
//
// A few whole functions are replaced too, known by the hash of their bodies (replace.go).
//
// # Calls and branches
//
// What remains of the distance to V8 is mostly wazero's register allocator. It does not know how often a path is taken,
// and once a path that leads to the same point has a call, it knows no better place for a value than the stack. Some
// code is arranged for it, without changing what is executed: memory.copy and memory.fill are called, so that only the
// function that has the instruction saves the vector registers (helpers.go, copy.go, fill.go); an interpreter's loop
// begins after a call (helpers.go); and, in code without bounds checks, where paths meet, one without a call comes
// first, and a br_table with few targets becomes comparisons (branches.go). The final order of the code is not arranged
// here, but in the compiled code (package postlink). The results of scenario sql show what this gains in PostgreSQL.
//
// # Faults
//
// Input is not trusted: every count and every length is checked against the remaining bytes and against a named bound
// before anything is allocated, and a damaged file gives an [*Error] with the section and the offset, never a panic.
// Validity in the sense of the WebAssembly specification (types of operands, indexes in function bodies) is not
// checked: the runtime that compiles the result does that.
package wasmbin
