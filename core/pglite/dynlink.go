package pglite

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"blobpglite/core/pglite/internal/wasmbin"
)

// Dynamic linking. PL/pgSQL, the text search dictionaries and every extension are side modules: WebAssembly modules that import the main
// module's memory, table and functions, and receive addresses (of data, functions, other modules) in imported globals. wazero resolves
// imports by module name, so a side module is rewritten once to import from
//
//	main     what PostgreSQL exports: memory, table, stack pointer, functions
//	link     a generated module of globals: __memory_base, __table_base, GOT.mem.*, GOT.func.*
//	env, ... the host modules
//	stubs    missing functions; they raise an error when called
//
// Its data segments are written by the host, so that the same compiled module serves both a fresh load and the restore of an image, where
// the memory already holds the data. A second generated module puts the functions whose addresses are needed into the table.

// Names of the modules that side modules import from.
const (
	mainModule  = "main"
	linkModule  = "link"
	stubsModule = "stubs"
	sideModule  = "side"
	tableName   = "__indirect_function_table"
)

// mayLack reports whether name is a C library function that PostgreSQL was built without and that a module may still import: pgcrypto's
// OpenSSL could use sockets and terminals, but is never asked to. A call is an error. A module that lacks anything else is not loaded:
// otherwise the first request for a client's encoding would break its session for good.
func mayLack(name string) bool {
	switch name {
	case "sleep", "getsockopt", "gethostbyname", "setsockopt", "getsockname", "shutdown", "mprotect", "mlock", "madvise",
		"setbuf", "tcgetattr", "signal", "tcsetattr":
		return true
	default:
		return false
	}
}

// maxLibrary bounds the file of a side module.
const maxLibrary = 64 << 20

// sideLib is a compiled side module, shared by all instances of a runtime.
type sideLib struct {
	meta     *wasmbin.Module
	data     []wasmbin.Segment
	compiled wazero.CompiledModule
	gotMem   []string // symbols whose address the module imports
	gotFunc  []string
	weak     map[string]bool
	elems    map[uint32]uint32 // function index to slot, from the table base
	baseName map[int]string    // global import index to name
	extra    []string          // invoke signatures beyond PostgreSQL's own
}

// library is a side module in an instance. Its exported fields are what an image must keep.
type library struct {
	Name       string
	MemoryBase uint32
	TableBase  uint32
	SlotBase   uint32            // first slot of the generated table module
	Slots      []tableSlot       // what that module puts into them
	Globals    []wasmbin.Global  // of the link module, offset tables filled in
	Symbols    map[string]uint32 // exported functions to slots, exported data to addresses
	File       []byte            // the module's bytes
}

// tableSlot names a function that needs an address.
type tableSlot struct {
	Module, Name string
	Type         wasmbin.FuncType
}

// libraryCache compiles side modules and generated modules once per runtime.
type libraryCache struct {
	mu    sync.Mutex
	sides map[[32]byte]*sideLib
	small map[[32]byte]wazero.CompiledModule
}

// compileSmall compiles a generated module, once for equal bytes.
func (rt *Runtime) compileSmall(bin []byte) (wazero.CompiledModule, error) {
	rt.libs.mu.Lock()
	defer rt.libs.mu.Unlock()
	return rt.compileSmallLocked(bin)
}

func (rt *Runtime) compileSmallLocked(bin []byte) (wazero.CompiledModule, error) {
	key := sha256.Sum256(bin)
	if c, ok := rt.libs.small[key]; ok {
		return c, nil
	}
	c, _, err := rt.compilations.compile(rt.ctx, "", bin)
	if err != nil {
		return nil, fmt.Errorf("compile a generated module: %w", err)
	}
	rt.libs.small[key] = c
	return c, nil
}

// prepareSide parses, rewrites and compiles a side module, once for equal bytes.
func (rt *Runtime) prepareSide(name string, bin []byte) (*sideLib, error) {
	key := sha256.Sum256(bin)
	rt.libs.mu.Lock()
	defer rt.libs.mu.Unlock()
	if l, ok := rt.libs.sides[key]; ok {
		return l, nil
	}
	meta, err := wasmbin.Parse(bin)
	if err != nil {
		return nil, err
	}
	if meta.Dylink == nil {
		return nil, errors.New("it has no dylink.0 section: not a side module")
	}
	l := &sideLib{meta: meta, elems: meta.ElemFuncs(), weak: map[string]bool{}, baseName: map[int]string{}}
	for _, i := range meta.Dylink.Imports {
		if i.Flags.Weak() {
			l.weak[i.Name] = true
		}
	}
	if l.data, err = meta.DataSegments(); err != nil {
		return nil, err
	}
	stubs, missing := fmt.Sprintf("%s %x", stubsModule, key), map[string]wasmbin.FuncType{}
	var lacking []string
	globals := 0
	renamed, err := wasmbin.RenameImports(bin, func(i wasmbin.Import) (string, string) {
		if i.Kind == wasmbin.KindGlobal {
			l.baseName[globals] = i.Name
			globals++
		}
		module, name := rt.provider(i)
		switch {
		case strings.HasPrefix(name, "GOT.mem."):
			l.gotMem = append(l.gotMem, i.Name)
		case strings.HasPrefix(name, "GOT.func."):
			l.gotFunc = append(l.gotFunc, i.Name)
		case module == stubsModule:
			module = stubs
			missing[name] = i.Func
			if !mayLack(name) {
				lacking = append(lacking, name)
			}
		case strings.HasPrefix(module, "invoke_"):
			l.extra = append(l.extra, invokeSignature(module))
		}
		return module, name
	})
	if err != nil {
		return nil, err
	}
	if len(lacking) > 0 {
		advice := ""
		if strings.Contains(path.Base(name), "_and_") { // named like PostgreSQL's encoding conversions
			advice = "; no encodings are converted here: set client_encoding (PGCLIENTENCODING) to UTF8"
		}
		return nil, fmt.Errorf("PostgreSQL lacks %s, which it needs%s", strings.Join(lacking[:min(3, len(lacking))], ", "), advice)
	}
	if renamed, err = wasmbin.StripData(renamed); err != nil {
		return nil, err
	}
	if renamed, err = wasmbin.Mend(renamed); err != nil {
		return nil, err
	}
	if renamed, err = rt.markFunctions(renamed); err != nil {
		return nil, err
	}
	if l.compiled, _, err = rt.compilations.compile(parallel(rt.ctx), path.Base(name), renamed); err != nil {
		return nil, fmt.Errorf("compile it: %w", err)
	}
	if len(missing) > 0 {
		if err := rt.addMissing(stubs, missing); err != nil {
			return nil, err
		}
	}
	for _, sig := range l.extra {
		if err := rt.addInvoke(sig); err != nil {
			return nil, err
		}
	}
	rt.libs.sides[key] = l
	return l, nil
}

// addMissing provides functions that PostgreSQL lacks: a call is an error of its own (0A000).
func (rt *Runtime) addMissing(module string, missing map[string]wasmbin.FuncType) error {
	b := rt.wazero.NewHostModuleBuilder(module)
	for name, t := range missing {
		refuse := func(in *Instance, _ []uint64) {
			in.raise(featureNotSupported, fmt.Sprintf("the function %s is not part of this build of PostgreSQL", name))
		}
		b.NewFunctionBuilder().WithGoFunction(goFunc(refuse, valueTypes(t.Params), valueTypes(t.Results)), valueTypes(t.Params), valueTypes(t.Results)).Export(name)
	}
	if _, err := b.Instantiate(rt.ctx); err != nil {
		return fmt.Errorf("provide what it lacks: %w", err)
	}
	return nil
}

// provider returns the module and the export that satisfy an import of a side module.
func (rt *Runtime) provider(i wasmbin.Import) (module, name string) {
	switch {
	case i.Module == "GOT.mem" || i.Module == "GOT.func":
		return linkModule, i.Module + "." + i.Name
	case i.Kind == wasmbin.KindGlobal && i.Name != "__stack_pointer":
		return linkModule, i.Name
	case i.Kind != wasmbin.KindFunc:
		return mainModule, i.Name
	}
	switch i.Name { // Emscripten's names for what its JavaScript would forward
	case "setTempRet0":
		return mainModule, "_emscripten_tempret_set"
	case "getTempRet0":
		return mainModule, "_emscripten_tempret_get"
	}
	if f, ok := rt.main.funcs[i.Name]; ok && sameType(rt.main.meta.Funcs[f], i.Func) {
		return mainModule, i.Name
	}
	if host, ok := rt.hostModules[i.Name]; ok {
		return host, i.Name
	}
	if sig := invokeSignature(i.Name); sig != "" {
		if _, err := parseSignature(sig); err == nil {
			return i.Name, "invoke"
		}
	}
	return stubsModule, i.Name
}

func sameType(a, b wasmbin.FuncType) bool {
	return slices.Equal(a.Params, b.Params) && slices.Equal(a.Results, b.Results)
}

// dlopen is the import for dlopen(3): it loads the library named in the handle.
func dlopen(in *Instance, s []uint64) {
	const nameAt = 36
	handle := uint32(s[0])
	name := path.Clean(in.mem.cstr(handle + nameAt))
	lib, ok := in.loaded[name]
	if !ok {
		var err error
		if lib, err = in.load(name, handle); err != nil {
			in.setDlError(fmt.Sprintf("could not load %s: %v", name, err))
			s[0] = 0
			return
		}
	}
	in.handles[handle] = lib.Name
	s[0] = 1
}

// dlsym is the import for dlsym(3): it returns the table slot of a function, or the address of data.
func dlsym(in *Instance, s []uint64) {
	handle, symbol := uint32(s[0]), in.mem.cstr(uint32(s[1]))
	lib := in.loaded[in.handles[handle]]
	if lib == nil {
		in.setDlError(fmt.Sprintf("no library is open under handle %d", handle))
		s[0] = 0
		return
	}
	at, ok := lib.Symbols[symbol]
	if !ok {
		in.setDlError(fmt.Sprintf("%s has no symbol %s", lib.Name, symbol))
		s[0] = 0
		return
	}
	if index := uint32(s[2]); index != 0 {
		in.mem.putU32(index, 0)
	}
	s[0] = uint64(at)
}

func (in *Instance) setDlError(message string) {
	message = strings.ReplaceAll(message, "%", "%%")
	p := uint32(in.call(in.fn.malloc, uint64(len(message)+1)))
	in.mem.putCstr(p, message)
	in.call(in.fn.dlSetErr, uint64(p), 0)
	in.call(in.fn.free, uint64(p))
}

// load brings a side module into the instance for the first time.
func (in *Instance) load(name string, handle uint32) (*library, error) {
	fs, rel := in.files.resolve(name)
	info, err := fs.Stat(rel)
	if err != nil {
		return nil, err
	}
	if info.Size > maxLibrary {
		return nil, fmt.Errorf("%d bytes, at most %d are loaded", info.Size, maxLibrary)
	}
	bin, err := in.readFile(fs, rel)
	if err != nil {
		return nil, err
	}
	side, err := in.rt.prepareSide(name, bin)
	if err != nil {
		return nil, err
	}
	lib := &library{Name: name, File: bin, Symbols: map[string]uint32{}}
	in.allocate(lib, side)
	in.describe(lib, side, handle)
	if err := in.resolveSymbols(lib, side); err != nil {
		return nil, err
	}
	exports, err := in.instantiateSide(lib, side)
	if err != nil {
		return nil, err
	}
	for _, seg := range side.data {
		at := seg.Offset
		if seg.Base >= 0 {
			at += lib.base(side.baseName[seg.Base])
		}
		in.mem.putBytes(at, seg.Data)
	}
	in.remember(lib)
	for _, init := range []string{"__wasm_apply_data_relocs", "__wasm_call_ctors"} {
		if f := exports.ExportedFunction(init); f != nil {
			in.call(f)
		}
	}
	return lib, nil
}

func (in *Instance) remember(lib *library) {
	in.loaded[lib.Name] = lib
	in.libraries = append(in.libraries, lib)
}

func (l *library) base(global string) uint32 {
	switch global {
	case "__memory_base":
		return l.MemoryBase
	case "__table_base":
		return l.TableBase
	default:
		return 0
	}
}

// allocate reserves the module's memory and its table slots.
func (in *Instance) allocate(lib *library, side *sideLib) {
	d := side.meta.Dylink
	if d.MemorySize > 0 {
		align := uint32(1) << min(max(d.MemoryAlign, 4), 16)
		lib.MemoryBase = uint32(in.call(in.fn.memalign, uint64(align), uint64(d.MemorySize)))
		if lib.MemoryBase == 0 {
			in.trapf("out of memory for the %d bytes of data of %s", d.MemorySize, lib.Name)
		}
		clear(in.mem.bytes(lib.MemoryBase, d.MemorySize))
	}
	lib.TableBase = in.growTable(d.TableSize)
}

// describe tells the C library where the module was placed.
func (in *Instance) describe(lib *library, side *sideLib, handle uint32) {
	d := side.meta.Dylink
	in.mem.putU8(handle+8, 1)
	in.mem.putU32(handle+12, lib.MemoryBase)
	in.mem.putU32(handle+16, d.MemorySize)
	in.mem.putU32(handle+20, lib.TableBase)
	in.mem.putU32(handle+24, d.TableSize)
}

// resolveSymbols gives an address to every symbol that the module exports or imports by address.
func (in *Instance) resolveSymbols(lib *library, side *sideLib) error {
	funcs := map[string]uint32{} // exported functions
	for _, e := range side.meta.Exports {
		if e.Kind == wasmbin.KindFunc {
			funcs[e.Name] = e.Index
		}
	}
	for name, rel := range side.meta.Consts() {
		lib.Symbols[name] = lib.MemoryBase + uint32(rel)
	}
	lib.SlotBase = in.growTable(0)
	want := func(s tableSlot) uint32 {
		lib.Slots = append(lib.Slots, s)
		return lib.SlotBase + uint32(len(lib.Slots)) - 1
	}
	for _, e := range side.meta.Exports { // in file order: deterministic
		if e.Kind != wasmbin.KindFunc {
			continue
		}
		if rel, ok := side.elems[e.Index]; ok {
			lib.Symbols[e.Name] = lib.TableBase + rel
		} else {
			lib.Symbols[e.Name] = want(tableSlot{sideModule, e.Name, side.meta.Funcs[e.Index]})
		}
	}
	lib.Globals = []wasmbin.Global{
		{Name: "__memory_base", Value: int32(lib.MemoryBase)},
		{Name: "__table_base", Value: int32(lib.TableBase)},
	}
	for _, name := range side.gotMem {
		at, ok := lib.Symbols[name]
		if !ok {
			v, known := in.rt.main.consts[name]
			if !known && !side.weak[name] {
				return fmt.Errorf("nothing exports the data %s that it needs", name)
			}
			at = uint32(v)
		}
		lib.Globals = append(lib.Globals, wasmbin.Global{Name: "GOT.mem." + name, Mutable: true, Value: int32(at)})
	}
	for _, name := range side.gotFunc {
		at, ok := lib.Symbols[name]
		if !ok {
			at = in.mainSlot(name, want)
		}
		lib.Globals = append(lib.Globals, wasmbin.Global{Name: "GOT.func." + name, Mutable: true, Value: int32(at)})
	}
	in.growTable(uint32(len(lib.Slots)))
	return nil
}

// mainSlot returns the table slot of a function of PostgreSQL or of the host; if there is none, 0, a call of which traps.
func (in *Instance) mainSlot(name string, want func(tableSlot) uint32) uint32 {
	if at, ok := in.mainSlots[name]; ok {
		return at
	}
	var at uint32
	if f, ok := in.rt.main.funcs[name]; ok {
		if at, ok = in.rt.main.elems[f]; !ok {
			at = want(tableSlot{mainModule, name, in.rt.main.meta.Funcs[f]})
		}
	} else if host, ok := in.rt.hostModules[name]; ok {
		at = want(tableSlot{host, name, in.rt.hostTypes[name]})
	}
	in.mainSlots[name] = at
	return at
}

// instantiateSide adds the module of lib, whose addresses are known, to the instance.
func (in *Instance) instantiateSide(lib *library, side *sideLib) (api.Module, error) {
	modules := map[string]api.Module{mainModule: in.module}
	// The offset tables start at zero and are set afterwards, so that the generated module depends on the two bases alone and is compiled
	// once for all loads at these bases.
	zeroed := slices.Clone(lib.Globals)
	for i := range zeroed {
		if zeroed[i].Mutable {
			zeroed[i].Value = 0
		}
	}
	link, err := in.instantiateSmall(wasmbin.BuildLink(zeroed), modules)
	if err != nil {
		return nil, err
	}
	for _, g := range lib.Globals {
		if g.Mutable {
			link.ExportedGlobal(g.Name).(api.MutableGlobal).Set(uint64(uint32(g.Value)))
		}
	}
	modules[linkModule] = link
	module, err := in.instantiate(side.compiled, modules)
	if err != nil {
		return nil, err
	}
	modules[sideModule] = module
	if len(lib.Slots) > 0 {
		if err := in.fillTable(lib.Slots, lib.SlotBase, modules); err != nil {
			return nil, err
		}
	}
	return module, nil
}

// fillTable puts functions into the table, starting at base.
func (in *Instance) fillTable(slots []tableSlot, base uint32, modules map[string]api.Module) error {
	entries := make([]wasmbin.TableEntry, len(slots))
	for i, s := range slots {
		entries[i] = wasmbin.TableEntry{Module: s.Module, Name: s.Name, Params: s.Type.Params, Results: s.Type.Results}
	}
	_, err := in.instantiateSmall(wasmbin.BuildTable(entries, mainModule, tableName, base), modules)
	return err
}

func (in *Instance) instantiateSmall(bin []byte, modules map[string]api.Module) (api.Module, error) {
	c, err := in.rt.compileSmall(bin)
	if err != nil {
		return nil, err
	}
	return in.instantiate(c, modules)
}

// instantiate makes an anonymous module of the instance, its imports resolved among modules and the host modules.
func (in *Instance) instantiate(c wazero.CompiledModule, modules map[string]api.Module) (api.Module, error) {
	ctx := experimental.WithImportResolver(context.Background(), func(name string) api.Module {
		if m, ok := modules[name]; ok {
			return m
		}
		return nil
	})
	m, err := in.rt.wazero.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fmt.Errorf("instantiate a module: %w", err)
	}
	in.modules = append(in.modules, m)
	return m, nil
}

// growTable appends n empty entries to the function table and returns the first one's slot.
func (in *Instance) growTable(n uint32) uint32 {
	at := uint32(in.call(in.fn.growTable, uint64(n)))
	if at == ^uint32(0) {
		in.trapf("the function table refuses to grow by %d", n)
	}
	return at
}
