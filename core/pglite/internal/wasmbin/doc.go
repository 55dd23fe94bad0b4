// Package wasmbin reads WebAssembly binaries, rewrites the ones that hold
// PostgreSQL so that they suit a host written in Go, and builds the small
// modules that dynamic linking needs. It runs nothing: bytes in, bytes out.
//
//	main, err := wasmbin.RewriteMain(pgliteWasm)    // once, result is cached
//	clone, err := wasmbin.StripInit(main)           // for restored memories
//	fixed, err := wasmbin.Settle(pgDumpWasm, place) // a main module for any place gets one
//	side, err := wasmbin.Parse(plpgsqlSo)           // imports, exports, dylink.0
//	linked, err := wasmbin.RenameImports(plpgsqlSo, resolve)
//	link := wasmbin.BuildLink([]wasmbin.Global{{Name: "__memory_base", Value: 1 << 20}})
//
// A module is a header and a row of sections, each with its own length:
//
//	00 61 73 6d  01 00 00 00
//	id  length  contents          id 1..12 once each, in a fixed order
//	0   length  name  contents    custom sections, anywhere
//
// # Bounds checks
//
// wazero checks every load and store against the size of the memory: a compare, a
// branch that is always taken and some fifty bytes of code for the trap in between.
// That is the better part of what PostgreSQL takes longer than on V8, which lets the
// processor find such accesses. wazero 1.12 leaves out a check that it can see to be
// superfluous: per value (a name in its SSA form, of an i32 that was used as an address) it
// remembers the largest end of an access checked so far (frontend/lower.go,
// memOpSetup). What it remembers holds across calls and into every block with one
// predecessor. It forgets
//
//   - after an if without else: the arm that is not there is never closed, so the
//     merge finds nothing known there;
//   - after any merge, because it names the local anew at its second use there even
//     where all ways in carry the same value (ssa/builder.go, findValue);
//   - at the targets of br_table, whose edges pass blocks of their own;
//   - at the head of a loop, where every local gets a new name;
//   - for constants: each i32.const is a value of its own.
//
// So the pass over each function (checks.go, checksflow.go, checkswalk.go) follows the
// same bookkeeping once, forward over the structured code, and then edits it:
//
//	if … end                       if … else end
//	end (several ways lead here)   end local.get p local.set p    where p is used as an
//	                               address that is known on every way, and is checked no more
//	i32.const C  i32.load o        local.get zero  i32.load C+o   zero is a new local, never set
//	local.get p  i32.load o        local.get p i32.load8_u K drop local.get p  i32.load o
//
// The last raises a check: K is the last byte of all accesses off the same value of p
// that this check leads to, however much later. wazero keeps the check of the load,
// drops the load, and has nothing left to check up to K. An edit is made only where an
// access was found that needs it.
//
// Why that is sound. An empty else, and a local set to itself, do nothing. A constant
// address plus its offset stays the same sum, below the smallest size of the memory, so
// that it cannot trap before or after. A raised check could trap a program that would
// not have: the access at K may never come. So it may only reach [GuardBytes] further than the
// access that it stands before, and the memory is that much larger than the program
// believes: memory.size does not count the last page, and the host that grows the
// memory leaves the program one page less (memory.grow in the code is refused). An
// access inside of what the program knows as its memory, plus GuardBytes, is inside of
// the memory. The other way round, a stray access to that last page alone does not
// trap any more; nothing lives there. None of this depends on the bookkeeping being
// right: where it is not, a check is made twice, or a raised one is useless.
//
// The tests run functions before and after side by side, random ones among them, undo
// the edits in PostgreSQL itself by another way than they were made, and measure that
// wazero still forgets what is said here. The rewriting is a function of the bytes:
// twice the same input gives the same output.
//
// A few whole functions are replaced too, known by the hash of their bodies (replace.go).
//
// # Calls and branches
//
// What is left of the distance to V8 is mostly in wazero's register allocator, which knows neither how often a path is taken nor a
// better place for a value than the stack once a path that leads to the same point has a call. Some things are arranged for
// it, none of which changes what is executed: memory.copy and memory.fill are called, so that only the function that has the
// instruction saves the vector registers (helpers.go, copy.go, fill.go); the loop of an interpreter begins after a call
// (helpers.go); and, in code without bounds checks, where paths meet one without a call comes first, and a br_table of few ways
// becomes comparisons (branches.go). In what order the code then lies is not arranged here, but in what is compiled (package postlink).
// What that is worth in PostgreSQL is in the results of scenario sql.
//
// # Faults
//
// Input is not trusted: every count and every length is checked against the
// bytes that are left and against a named bound before anything is allocated,
// and a damaged file gives an [*Error] with the section and the offset, never
// a panic. What is not checked is validity in the sense of the WebAssembly
// specification (types of operands, indexes in function bodies): the runtime
// that compiles the result does that.
package wasmbin
