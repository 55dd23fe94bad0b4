// Package wasmbin reads WebAssembly binaries, rewrites the ones that hold
// PostgreSQL so that they suit a host written in Go, and builds the small
// modules that dynamic linking needs. It runs nothing: bytes in, bytes out.
//
//	main, err := wasmbin.RewriteMain(pgliteWasm)    // once, result is cached
//	clone, err := wasmbin.StripInit(main)           // for restored memories
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
// # Faults
//
// Input is not trusted: every count and every length is checked against the
// bytes that are left and against a named bound before anything is allocated,
// and a damaged file gives an [*Error] with the section and the offset, never
// a panic. What is not checked is validity in the sense of the WebAssembly
// specification (types of operands, indexes in function bodies): the runtime
// that compiles the result does that.
package wasmbin
