package pglite

import (
	"context"
	"fmt"
	"os"
	"strings"

	"blobpglite/core/pglite/internal/wasmbin"
)

// clientModule provides the imports of client programs that PostgreSQL itself lacks or that differ from its own.
const clientModule = hostModule + "_client"

// Where pg_dump is placed: its data at the address where its own loader puts it, then a stack, then the heap. Table entry 0 is null.
const (
	dumpMemoryBase = 1024
	dumpTableBase  = 1
	dumpStack      = 1 << 20
)

// dumpProgram returns pg_dump; if need be, it first fetches, rewrites and compiles it.
func (rt *Runtime) dumpProgram(ctx context.Context) (*program, error) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.dump != nil {
		return rt.dump, nil
	}
	file, version, err := rt.assets.PgDumpWasm(ctx)
	if err != nil {
		return nil, err
	}
	original, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	placed, err := placeDump(original)
	if err != nil {
		return nil, fmt.Errorf("place %s: %w", file, err)
	}
	calls, types := clientCalls(), map[string]wasmbin.FuncType{}
	var lacking []string
	linked, err := wasmbin.RenameImports(placed, func(i wasmbin.Import) (string, string) {
		if _, ok := calls[i.Name]; ok {
			types[i.Name] = i.Func
			return clientModule, i.Name
		}
		module, ok := rt.hostModules[i.Name]
		switch {
		case i.Kind != wasmbin.KindFunc: // the memory, which the rewriting makes its own
			module = i.Module
		case !ok || !sameType(rt.hostTypes[i.Name], i.Func):
			lacking = append(lacking, i.Name)
		}
		return module, i.Name
	})
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", file, err)
	}
	if len(lacking) > 0 {
		return nil, fmt.Errorf("link %s: the host lacks %s: this pg_dump needs a newer host", file, strings.Join(lacking, ", "))
	}
	p, _, err := rt.compileMain(ctx, "pg_dump-"+version, file, linked, wasmbin.StripData)
	if err != nil {
		return nil, err
	}
	p.settled = true
	b := rt.wazero.NewHostModuleBuilder(clientModule)
	for name, t := range types {
		b.NewFunctionBuilder().WithGoFunction(goFunc(calls[name], valueTypes(t.Params), valueTypes(t.Results)), valueTypes(t.Params), valueTypes(t.Results)).Export(name)
	}
	if _, err := b.Instantiate(rt.ctx); err != nil {
		return nil, fmt.Errorf("provide host functions: %w", err)
	}
	rt.dump = p
	return p, nil
}

// placeDump gives pg_dump its addresses in memory.
func placeDump(bin []byte) ([]byte, error) {
	meta, err := wasmbin.Parse(bin)
	if err != nil {
		return nil, err
	}
	if meta.Dylink == nil || meta.Dylink.MemorySize > uint32(meta.Memory().Min)*wasmPage-dumpMemoryBase-dumpStack {
		return nil, fmt.Errorf("%w: its data have no room in its memory", wasmbin.ErrFormat)
	}
	const align = 16
	top := int32((dumpMemoryBase+meta.Dylink.MemorySize+align-1)&^(align-1) + dumpStack)
	return wasmbin.Settle(bin, func(i wasmbin.Import) (int32, bool) {
		at, ok := map[string]int32{
			"__memory_base": dumpMemoryBase, "__table_base": dumpTableBase, "__stack_pointer": top, "__heap_base": top,
		}[i.Name]
		return at, ok
	})
}

// clientCalls returns the imports of clientModule.
func clientCalls() map[string]hostFunc {
	return map[string]hostFunc{
		// A socket is only a descriptor: the connection itself uses the callbacks.
		"__syscall_socket": func(in *Instance, s []uint64) {
			s[0] = in.result(in.files.add(&openFile{dev: nullDevice{}, flags: 2}))
		},
		"__syscall__newselect": func(_ *Instance, s []uint64) { s[0] = eNOSYS.neg() }, // only workers of parallel dumps wait this way
		"__syscall_pipe":       func(_ *Instance, s []uint64) { s[0] = eNOSYS.neg() }, // and only they use pipes
		"_localtime_js": func(in *Instance, s []uint64) {
			at := [2]uint64{s[0], s[1]}
			breakDownTime(in, at[:])
		},
		"emscripten_exit_with_live_runtime": func(in *Instance, _ []uint64) { in.trapf("the guest left its main loop") },
		"pg_encoding_to_char":               encodingName,
	}
}

// encodingName is libpq's pg_encoding_to_char, which pg_dump.wasm was linked without. The connection's encoding is UTF8, set by the
// environment.
func encodingName(in *Instance, s []uint64) {
	const sqlASCII, utf8 = 0, 6
	name := ""
	switch uint32(s[0]) {
	case sqlASCII:
		name = "SQL_ASCII"
	case utf8:
		name = "UTF8"
	default:
		in.trapf("encoding number %d is not supported: a dump is in UTF8", uint32(s[0]))
	}
	at := uint32(in.call(in.fn.malloc, uint64(len(name)+1)))
	in.mem.putCstr(at, name)
	s[0] = uint64(at)
}
