// Package lean makes wazero's compiler leave out what a guarded memory makes superfluous: the bounds checks of loads and
// stores, loads of the memory's base, zero extensions of addresses.
//
// wazero 1.12 looks the result types of every SSA instruction that it inserts up in a table of functions. On Linux and
// amd64 this package replaces entries of that table, at start, by functions that also edit the instruction, before any pass
// of the compiler has seen it. The module, not the process, decides what is edited: only functions that begin with a mark
// ([wasmbin.Mark]), and only within [Compile]. So other modules compiled in the same process keep their checks, and marked
// code has a key of its own in wazero's cache, as keys are made from the module's bytes.
//
// Code of marked functions must only run on a memory in a reservation of address space of [GuardBefore] bytes before its start
// and [Reach] bytes from its start, where all that is not memory is inaccessible: an address of 32 bits plus an offset of 32
// bits cannot leave it. An access outside the memory then ends the process, like a SIGKILL; without this package it would
// only end the session.
//
// If the compiler is not as it was when this was written, nothing is done: see [Available].
package lean

// What must be reserved around the start of a memory, in bytes.
const (
	GuardBefore = 2<<30 + 64<<10
	Reach       = 8<<30 + 64<<10
)
