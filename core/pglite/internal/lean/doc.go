// Package lean makes wazero's compiler leave out what a guarded memory makes superfluous: the bounds checks of loads and
// stores, loads of the memory's base, zero extensions of addresses.
//
// wazero 1.12 looks up the result types of every SSA instruction that it inserts in a table of functions. On Linux on
// amd64 this package, at start, replaces entries of that table by functions that also edit the instruction, before any
// pass of the compiler has seen it. The module, not the process, decides what is edited: only functions that begin with a
// mark ([wasmbin.Mark]), and only within [Compile]. So other modules compiled in the same process keep their checks, and
// marked code has its own key in wazero's cache, because keys are made from the module's bytes.
//
// Code of marked functions must only run on a memory in a reservation of address space that extends [GuardBefore] bytes
// before the memory's start and [Reach] bytes from it, where everything outside the memory is inaccessible: a 32-bit
// address plus a 32-bit offset cannot leave it. An access outside the memory then ends the process, like a SIGKILL;
// without this package it would only end the session.
//
// If the compiler differs from the one this was written for, nothing is done: see [Available].
package lean

// What must be reserved around the start of a memory, in bytes.
const (
	GuardBefore = 2<<30 + 64<<10
	Reach       = 8<<30 + 64<<10
)
