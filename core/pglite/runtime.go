package pglite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/assets"
	"blobpglite/core/pglite/internal/codecache"
	"blobpglite/core/pglite/internal/image"
	"blobpglite/core/pglite/internal/postlink"
	"blobpglite/core/pglite/internal/wasmbin"
)

// Options configures a Runtime. The zero value is the default.
type Options struct {
	// CacheDir holds the PGlite files, the compilation cache and the template database. Empty: $BLOBPGLITE_CACHE, or the
	// folder blobpglite in the user's cache directory.
	CacheDir string
	// AssetsFrom names a folder that holds the PGlite files (the dist folder of the npm package), for machines without npm. Empty:
	// $BLOBPGLITE_ASSETS, or fetched by npm.
	AssetsFrom string
	// Extensions lists extensions to add to the bundled ones, from those that PGlite's makers publish as npm packages of their own, by the
	// names that CREATE EXTENSION takes: vector, age, pg_ivm, pg_uuidv7, pgtap, pg_hashids. They are fetched by npm on first use. A
	// database that uses one needs it at every start.
	Extensions []string
	// Progress is called during long work: with the current step, how much is done, and how much there is (0: unknown). Nil: not called.
	Progress func(step string, done, total int64)
}

// Runtime holds compiled PostgreSQL, ready to be started any number of times. It is safe for concurrent use.
type Runtime struct {
	ctx      context.Context
	assets   *assets.Set
	progress func(step string, done, total int64)

	cache        wazero.CompilationCache
	compilations *compilations
	cold         bool // the cache had no compilation of PostgreSQL
	wazero       wazero.Runtime
	main         *program
	places       places
	checked      error // why code is compiled with bounds checks; nil: it is not

	hostModules map[string]string           // import name to the host module that provides it
	hostTypes   map[string]wasmbin.FuncType // and its type
	libs        libraryCache
	invokes     map[string]bool // extra invoke modules; under libs.mu

	cloning sync.Mutex // a tree is cloned by one goroutine at a time
	system  *memfs.FS  // PostgreSQL's installation, never changed

	mu       sync.Mutex // guards the fields below
	initdb   *program
	dump     *program  // pg_dump
	template *memfs.FS // see Template; nil: not requested yet
	prepared *prepared // see Prepare; nil: none
}

// program is a compiled main module (PostgreSQL or initdb), with what the host needs to know about it.
type program struct {
	meta     *wasmbin.Module
	data     []wasmbin.Segment
	compiled wazero.CompiledModule
	fresh    bool              // compiled now, not loaded
	funcs    map[string]uint32 // exported functions by name
	elems    map[uint32]uint32 // function index to table slot
	consts   map[string]int32  // exported data addresses
	globals  []string          // exported mutable globals, in order
	settled  bool              // built to be placed anywhere: addresses in its data must be filled in
}

// formatVersion is part of the name of every derived artifact. Raise it when this package makes something different from the same PGlite
// files.
const formatVersion = 12

// mainProgram is PostgreSQL itself, in the names of its derived files.
const mainProgram = "pglite"

// NewRuntime makes PostgreSQL ready to start: it fetches the PGlite files if the cache lacks them, then rewrites and compiles them, or
// loads the compilation from the cache. The first call on a machine takes seconds, later ones a small fraction of one.
//
// Errors name the file or folder at fault and what to do about it; ErrAddressSpace: there is no room for clients.
func NewRuntime(ctx context.Context, o Options) (_ *Runtime, err error) {
	var telling sync.Mutex
	progress := func(step string, done, total int64) {
		telling.Lock()
		defer telling.Unlock()
		if o.Progress != nil {
			o.Progress(step, done, total)
		}
	}
	if err := enoughAddressSpace(); err != nil {
		return nil, err
	}
	set, err := assets.Ensure(ctx, assets.Options{CacheDir: o.CacheDir, From: o.AssetsFrom, Progress: progress})
	if err != nil {
		return nil, err
	}
	at, err := newPlaces(set.SHA256())
	if err != nil {
		return nil, err
	}
	checked := guardable()
	dir := filepath.Join(set.CacheDir(), compiledDir(checked == nil))
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err == nil {
		err = makeSums(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the compilation cache in %s: %w; make the folder writable or set BLOBPGLITE_CACHE", set.CacheDir(), err)
	}
	files, err := codecache.Stand(cache)
	if err != nil {
		progress("loading without outlines: "+err.Error(), 0, 0)
	} else {
		files.Arrange = checked == nil
	}
	rt := &Runtime{
		ctx: context.WithoutCancel(ctx), assets: set, progress: progress, cache: cache,
		libs:    libraryCache{sides: map[[32]byte]*sideLib{}, small: map[[32]byte]wazero.CompiledModule{}},
		invokes: map[string]bool{}, places: at, checked: checked,
	}
	config := wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache).WithCoreFeatures(api.CoreFeaturesV2)
	rt.wazero = wazero.NewRuntimeWithConfig(ctx, config)
	rt.compilations = &compilations{dir: dir, files: files, runtime: rt.wazero, lock: set.Lock, progress: progress}
	defer func() {
		if err != nil {
			err = errors.Join(err, rt.Close())
		}
	}()
	var tree errgroup.Group // concurrently with the compilation
	tree.Go(func() (err error) {
		rt.system, err = rt.installation(ctx, o.Extensions)
		return err
	})
	rt.main, err = rt.loadMain(ctx)
	if err = errors.Join(err, tree.Wait()); err != nil {
		return nil, err
	}
	if err := codecache.DescribeFunctions(rt.main.compiled); err != nil {
		progress("descriptions of functions take longer: "+err.Error(), 0, 0)
	}
	rt.cold = rt.main.fresh
	if err = rt.addHostModules(); err != nil {
		return nil, err
	}
	return rt, nil
}

// Cold reports whether PostgreSQL had to be compiled because the cache lacked it. If the cache was filled in advance, as in a container's
// image, true means that something is wrong.
func (rt *Runtime) Cold() bool { return rt.cold }

// Checked returns why the compiled code checks the bounds of each load and store; nil: it does not, because its memory is guarded.
func (rt *Runtime) Checked() error { return rt.checked }

func (rt *Runtime) unchecked() bool { return rt.checked == nil }

// markFunctions marks a module for compilation without bounds checks, if possible here.
func (rt *Runtime) markFunctions(bin []byte) ([]byte, error) {
	if !rt.unchecked() {
		return bin, nil
	}
	return wasmbin.Mark(bin)
}

// Close releases the compiled code. All clusters must have ended.
func (rt *Runtime) Close() error {
	return errors.Join(rt.wazero.Close(rt.ctx), rt.cache.Close(rt.ctx))
}

// SHA256 returns the hash of the original pglite.wasm, in hex; it identifies the PostgreSQL binary.
func (rt *Runtime) SHA256() string { return rt.assets.SHA256() }

// CacheDir returns the folder of the PGlite files and of everything made from them.
func (rt *Runtime) CacheDir() string { return rt.assets.CacheDir() }

// Version returns the version of the PGlite package.
func (rt *Runtime) Version() string { return rt.assets.Version() }

// compile rewrites a main module (once, kept in the cache) and compiles it (once, kept in wazero's cache).
func (rt *Runtime) compile(ctx context.Context, name, file string) (*program, error) {
	p, _, err := rt.compileWhole(ctx, name, file)
	return p, err
}

// compileWhole is compile, and also returns the rewritten module.
func (rt *Runtime) compileWhole(ctx context.Context, name, file string) (*program, []byte, error) {
	original, err := rt.assets.Original(file)
	if err != nil {
		return nil, nil, err
	}
	return rt.compileMain(ctx, name, file, original, wasmbin.StripInit)
}

// compiledDir returns the folder of this wazero version's compilations, below that of the cache. Each version has its own, with its own
// sums and loans: a module's entries have the same names in each, and are useless to another version. Unchecked code has its own folder
// too, because it is arranged before it is written (see codecache.Files).
func compiledDir(unchecked bool) string {
	name := codecache.Version()
	if unchecked {
		name = fmt.Sprintf("%s-arranged%d", name, postlink.Version)
	}
	return filepath.Join(compiledName, name)
}

// wholeName returns the file name of a program's rewritten module.
func (rt *Runtime) wholeName(program string) string {
	return fmt.Sprintf("%s-v%d%s.wasm", program, formatVersion, rt.suffix())
}

// suffix is part of the names of derived modules, to tell those with bounds checks from those without.
func (rt *Runtime) suffix() string {
	if rt.unchecked() {
		return fmt.Sprintf("-unchecked%d", wasmbin.MarkVersion)
	}
	return ""
}

// compileMain is compileWhole for a module that was read from file; strip removes what writes into its memory.
func (rt *Runtime) compileMain(ctx context.Context, name, file string, original []byte, strip func([]byte) ([]byte, error)) (*program, []byte, error) {
	rewrite := wasmbin.RewriteMain
	if rt.unchecked() {
		rewrite = wasmbin.RewriteUnchecked
	}
	derived, err := rt.assets.DerivedWhole(ctx, rt.wholeName(name), func(_ context.Context, w io.Writer) error {
		rt.progress("rewriting "+name, 0, 0)
		bin, err := original, error(nil)
		if name == mainProgram {
			bin, err = rt.places.patchProcesses(bin)
		}
		if err == nil {
			bin, err = rewrite(bin)
		}
		if err == nil {
			bin, err = strip(bin)
		}
		if err == nil {
			bin, err = rt.markFunctions(bin)
		}
		if err != nil {
			return err
		}
		_, err = w.Write(bin)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	bin, err := os.ReadFile(derived)
	if err != nil {
		return nil, nil, fmt.Errorf("read the rewritten %s: %w", name, err)
	}
	p, err := newProgram(bin, original)
	if err != nil {
		return nil, nil, fmt.Errorf("parse %s, made of %s: %w", derived, file, err)
	}
	if p.compiled, p.fresh, err = rt.compilations.compile(parallel(ctx), name, bin); err != nil {
		return nil, nil, fmt.Errorf("compile %s: %w", name, err)
	}
	return p, bin, nil
}

// newProgram reads what the host needs to know about a rewritten module, and the data of the module it was made from.
func newProgram(bin, source []byte) (p *program, err error) {
	p = &program{funcs: map[string]uint32{}}
	if p.meta, err = wasmbin.Parse(bin); err != nil {
		return nil, err
	}
	of, err := wasmbin.Parse(source)
	if err != nil {
		return nil, err
	}
	if p.data, err = of.DataSegments(); err != nil {
		return nil, err
	}
	p.elems, p.consts = p.meta.ElemFuncs(), p.meta.Consts()
	for _, e := range p.meta.Exports {
		switch {
		case e.Kind == wasmbin.KindFunc:
			p.funcs[e.Name] = e.Index
		case e.Kind == wasmbin.KindGlobal && p.meta.Globals[e.Index].Mutable:
			p.globals = append(p.globals, e.Name)
		}
	}
	return p, nil
}

// parallel lets a compilation use all processors.
func parallel(ctx context.Context) context.Context {
	return experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0))
}

// Modules that the host provides.
const (
	envModule  = "env"
	wasiModule = "wasi_snapshot_preview1"
	hostModule = "blobpglite"
)

// addHostModules provides every function that PostgreSQL and initdb import, with the types they import.
func (rt *Runtime) addHostModules() error {
	impl := fileCalls()
	for name, f := range processCalls() {
		impl[name] = f
	}
	impl["_emscripten_throw_longjmp"] = throwLongjmp
	impl[wasmbin.HostCall] = hostCall
	rt.hostModules, rt.hostTypes = map[string]string{}, map[string]wasmbin.FuncType{}
	builders := map[string]wazero.HostModuleBuilder{}
	add := func(module, name string, t wasmbin.FuncType, f hostFunc) {
		b, ok := builders[module]
		if !ok {
			b = rt.wazero.NewHostModuleBuilder(module)
			builders[module] = b
		}
		b.NewFunctionBuilder().WithGoFunction(goFunc(f, valueTypes(t.Params), valueTypes(t.Results)), valueTypes(t.Params), valueTypes(t.Results)).Export(name)
		rt.hostModules[name], rt.hostTypes[name] = module, t
	}
	for _, i := range rt.main.meta.Imports {
		if i.Kind != wasmbin.KindFunc {
			return fmt.Errorf("pglite.wasm imports the %v %s.%s: only functions can be provided; this PGlite needs a newer host", i.Kind, i.Module, i.Name)
		}
		f := impl[i.Name]
		if sig := invokeSignature(i.Name); sig != "" {
			s, err := parseSignature(sig)
			if err != nil {
				return err
			}
			f = invoke(s)
		}
		if f == nil {
			return fmt.Errorf("pglite.wasm imports %s.%s, which the host does not have: this PGlite needs a newer host", i.Module, i.Name)
		}
		add(i.Module, i.Name, i.Func, f)
	}
	// Imports of initdb alone.
	i32 := []wasmbin.ValType{wasmbin.I32}
	add(envModule, "_mktime_js", wasmbin.FuncType{Params: i32, Results: []wasmbin.ValType{wasmbin.I64}}, impl["_mktime_js"])
	for _, c := range callbacks() {
		add(hostModule, c.name, c.kind, c.call)
	}
	for _, b := range builders {
		if _, err := b.Instantiate(rt.ctx); err != nil {
			return fmt.Errorf("provide host functions: %w", err)
		}
	}
	return nil
}

// addInvoke provides invoke_<sig> for a side module that needs one that PostgreSQL itself does not. libs.mu is held.
func (rt *Runtime) addInvoke(sig string) error {
	if rt.invokes[sig] {
		return nil
	}
	s, err := parseSignature(sig)
	if err != nil {
		return err
	}
	params := append([]api.ValueType{api.ValueTypeI32}, s.params...)
	_, err = rt.wazero.NewHostModuleBuilder("invoke_"+sig).NewFunctionBuilder().
		WithGoFunction(goFunc(invoke(s), params, s.results), params, s.results).Export("invoke").Instantiate(rt.ctx)
	if err != nil {
		return fmt.Errorf("provide invoke_%s: %w", sig, err)
	}
	rt.invokes[sig] = true
	return nil
}

func valueTypes(ts []wasmbin.ValType) []api.ValueType {
	out := make([]api.ValueType, len(ts))
	for i, t := range ts {
		out[i] = api.ValueType(t)
	}
	return out
}

// installed returns a copy of PostgreSQL's installation.
func (rt *Runtime) installed() *memfs.FS { return rt.clone(rt.system) }

// clone returns a copy of a tree that is never changed.
func (rt *Runtime) clone(tree *memfs.FS) *memfs.FS {
	rt.cloning.Lock()
	defer rt.cloning.Unlock()
	return tree.Clone()
}

// installation returns the file tree of PostgreSQL, all bundled extensions, and the requested published ones.
func (rt *Runtime) installation(ctx context.Context, published []string) (*memfs.FS, error) {
	tree, err := rt.tree(ctx, installationName(), rt.unpack)
	if err != nil {
		return nil, fmt.Errorf("unpack the installation: %w", err)
	}
	for _, name := range published {
		if slices.Contains(rt.assets.Extensions(), name) {
			continue // bundled
		}
		more, err := rt.assets.PublishedFiles(ctx, name)
		if err == nil {
			err = install(tree, more)
		}
		if err != nil {
			return nil, err
		}
	}
	return tree, nil
}

func installationName() string { return fmt.Sprintf("installation-v%d.image", formatVersion) }

// tree returns a file tree that the cache keeps as an image; build makes it if it is missing.
func (rt *Runtime) tree(ctx context.Context, name string, build func(context.Context) (*memfs.FS, error)) (*memfs.FS, error) {
	write := func(ctx context.Context, w io.Writer) error {
		tree, err := build(ctx)
		if err != nil {
			return err
		}
		return image.Write(w, tree)
	}
	file, err := rt.assets.Derived(ctx, name, write)
	if err != nil {
		return nil, err
	}
	img, err := image.Open(file)
	if errors.Is(err, image.ErrDamaged) {
		if file, err = rt.assets.DerivedWhole(ctx, name, write); err == nil {
			img, err = image.Open(file)
		}
	}
	if err != nil {
		return nil, err
	}
	img.Damaged = func(err error) { // the next start makes it again
		rt.progress(err.Error(), 0, 0)
		if err := rt.assets.Forget(name); err != nil {
			rt.progress(err.Error(), 0, 0)
		}
	}
	return img.Tree(memfs.Options{})
}

// unpack returns the installation with all bundled extensions, from the package.
func (rt *Runtime) unpack(context.Context) (*memfs.FS, error) {
	rt.progress("unpacking the installation", 0, 0)
	tree := memfs.New(memfs.Options{})
	for _, dir := range []string{"/dev/shm", "/tmp", "/home/postgres", dataRoot} {
		if err := tree.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	files, err := rt.assets.Files()
	if err != nil {
		return nil, err
	}
	for _, name := range rt.assets.Extensions() {
		more, err := rt.assets.ExtensionFiles(name)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return tree, install(tree, files)
}

// install writes files.
func install(tree *memfs.FS, files []assets.File) error {
	for _, f := range files {
		if err := tree.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("install %s: %w", f.Path, err)
		}
		perm := uint32(0o644)
		if f.Executable {
			perm = 0o755
		}
		if err := tree.WriteFile(f.Path, f.Data, perm); err != nil {
			return fmt.Errorf("install %s: %w", f.Path, err)
		}
	}
	return nil
}

// defaultRandom is the source of randomness for instances that name none.
var defaultRandom io.Reader = rand.Reader
