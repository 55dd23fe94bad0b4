// Package lean lets wazero's compiler leave out what a guarded memory makes needless: the bounds checks of loads and
// stores, loads of the memory's base, zero extensions of addresses.
//
// wazero 1.12 looks the result types of every SSA instruction that it inserts up in a table of functions. On Linux and
// amd64 this package replaces entries of that table, at start, by functions that also edit the instruction, before any pass
// of the compiler has seen it. What is edited is said by the module, not by the process: only functions that begin with a
// mark ([wasmbin.Mark]) are, and only within [Compile]. So a module that somebody else compiles in the same process stays
// checked, and marked code has a key of its own in wazero's cache, which is made of the module's bytes.
//
// Code of marked functions must only run on a memory that lies in a reservation of [GuardBefore] before its start and
// [Reach] from its start, of which what is not memory has no access: an address of 32 bits and an offset of 32 bits cannot
// leave it. An access outside the memory then ends the process, like a SIGKILL; without this package it would end the
// session only.
//
// Everything is as the compiler was when this was written, or nothing is done: see [Available].
package lean

// What must be reserved around the start of a memory.
const (
	GuardBefore = 2<<30 + 64<<10
	Reach       = 8<<30 + 64<<10
)
