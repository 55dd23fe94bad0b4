package lean

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"blobpglite/core/pglite/internal/wasmbin"
)

// operation is an exported function of a small module: its parameters are one i32 or more of a kind, its result is of a kind.
type operation struct {
	name   string
	params []kind
	locals []kind // each once
	result kind
	body   func(w *wasm)
}

// smallModule has the operations and a memory of one page, its own or imported from "memory". Its type and function indexes are the
// operations' positions.
func smallModule(imported bool, ops ...operation) []byte { return moduleOf(1, imported, ops) }

// moduleOf is a smallModule whose memory has the given number of pages.
func moduleOf(pages uint32, imported bool, ops []operation) []byte {
	section := func(w *wasm, id byte, body *wasm) { w.op(id).u(uint64(len(body.out))).op(body.out...) }
	name := func(w *wasm, s string) *wasm { return w.u(uint64(len(s))).op([]byte(s)...) }
	n := uint64(len(ops))
	types, funcs, exports, code := (&wasm{}).u(n), (&wasm{}).u(n), (&wasm{}).u(n), (&wasm{}).u(n)
	for i, o := range ops {
		types.op(0x60).u(uint64(len(o.params)))
		for _, p := range o.params {
			types.op(byte(p))
		}
		types.op(1, byte(o.result))
		funcs.u(uint64(i))
		name(exports, o.name).op(0).u(uint64(i))
		body := (&wasm{}).u(uint64(len(o.locals)))
		for _, l := range o.locals {
			body.op(1, byte(l))
		}
		o.body(body)
		body.op(0x0b)
		code.u(uint64(len(body.out))).op(body.out...)
	}
	m := &wasm{out: []byte("\x00asm\x01\x00\x00\x00")}
	section(m, 1, types)
	if imported {
		section(m, 2, name(name((&wasm{}).op(1), "memory"), "memory").op(2, 1).u(uint64(pages)).u(uint64(pages)))
	}
	section(m, 3, funcs)
	if !imported {
		section(m, 5, (&wasm{}).op(1, 1).u(uint64(pages)).u(uint64(pages)))
	}
	section(m, 7, exports)
	section(m, 10, code)
	return m.out
}

// memoryModule exports a memory of the given number of pages.
func memoryModule(pages uint32) []byte {
	limits := (&wasm{}).op(1, 1).u(uint64(pages)).u(uint64(pages))
	m := (&wasm{out: []byte("\x00asm\x01\x00\x00\x00")}).op(5).u(uint64(len(limits.out))).op(limits.out...)
	return m.op(7, 10, 1, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0).out
}

func marked(t testing.TB, bin []byte) []byte {
	t.Helper()
	out, err := wasmbin.Mark(bin)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// within compiles within [Compile], alone as code that does not know of it does.
func within(f func() error) error { return Compile(f) }
func alone(f func() error) error  { return f() }

// instance compiles a small module by one of the two, and instantiates it on a memory.
func instance(t testing.TB, bin []byte, imported bool, compile func(func() error) error, memory experimental.LinearMemory) api.Module {
	t.Helper()
	ctx := experimental.WithMemoryAllocator(context.Background(),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return memory }))
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if imported {
		if _, err := rt.InstantiateWithConfig(ctx, memoryModule(1), wazero.NewModuleConfig().WithName("memory")); err != nil {
			t.Fatal(err)
		}
	}
	var compiled wazero.CompiledModule
	err := compile(func() (err error) {
		compiled, err = rt.CompileModule(experimental.WithCompilationWorkers(ctx, 2), bin)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("small"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// call calls an operation; an error is a trap.
func call(t testing.TB, m api.Module, name string, args ...uint64) (uint64, error) {
	t.Helper()
	f := m.ExportedFunction(name)
	if f == nil {
		t.Fatalf("no function %s", name)
	}
	r, err := f.Call(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return r[0], nil
}

func mustCall(t testing.TB, m api.Module, name string, args ...uint64) uint64 {
	t.Helper()
	r, err := call(t, m, name, args...)
	if err != nil {
		t.Fatalf("%s%v: %v", name, args, err)
	}
	return r
}
