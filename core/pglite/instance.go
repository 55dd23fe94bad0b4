package pglite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unsafe"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/wasmbin"
)

// Errors of instances.
var (
	// ErrDead: PostgreSQL has ended: it was shut down or killed, or one of its processes failed and it cannot continue. Start another one
	// on the files.
	ErrDead = errors.New("PostgreSQL has ended")
	// ErrAddressSpace: this program's address space is limited or full, and has no room for another process of PostgreSQL. The message says
	// what to do. Connected clients are not affected.
	ErrAddressSpace = errors.New("there is too little address space")
)

// instanceOptions configures an instance.
type instanceOptions struct {
	data        *memfs.FS // the data directory; nil: the program has none
	memoryLimit int64     // see ClusterOptions
	dataLimit   int64     // see ClusterOptions
	clock       clock.Clock
	random      io.Reader
	log         func(line string)
	imaged      bool // the memory will become an image: it is a file
}

// Instance is one instance of a program: a process of PostgreSQL, its postmaster, or a tool.
type Instance struct {
	rt      *Runtime
	program *program
	ctx     *guestContext
	opts    instanceOptions

	linear  *linearMemory
	mem     *memory
	module  api.Module
	modules []api.Module // generated and side modules, to close with the instance
	table   []*slot
	scratch [4]uint64
	entry   [4]uint64 // arguments and result of enterGuest, which never nests: saves an allocation per entry
	fn      exports

	stackPointer api.MutableGlobal
	unwinding    unwind
	exitCode     uint32
	trap         error

	files  *files
	clock  clock.Clock
	random io.Reader
	killed chan struct{}

	loaded    map[string]*library
	libraries []*library // in order of loading
	handles   map[uint32]string
	mainSlots map[string]uint32

	wire  *wire // a client program's (pg_dump's) connection to the server
	shell shell // system, popen, pclose: only initdb runs commands

	firstCallback uint32 // its slot in the table

	cluster  *Cluster        // nil: the instance belongs to none, it is alone
	proc     *Process        // in the cluster; nil: its main
	mappings []sharedMapping // its own, of dynamic shared memory

	memoryMu sync.Mutex // held while an interrupt is set, and while the memory is freed
	killOnce sync.Once
	dead     error
}

// exports are the guest's functions that the host calls.
type exports struct {
	setThrew, malloc, free, memalign, dlSetErr api.Function
	setActive, ctors, mainArg                  api.Function
	growTable, replayed, palloc, findOption    api.Function
}

// tableSize is the approximate size of the function table; it grows with libraries.
const tableSize = 6 << 10

// newInstance instantiates the program with an empty memory of size bytes; zero: the program's own minimum.
func (rt *Runtime) newInstance(p *program, fs *files, o instanceOptions, size uint64) (_ *Instance, err error) {
	in := &Instance{
		rt: rt, program: p, opts: o, files: fs, mem: &memory{}, clock: o.clock, random: o.random, killed: make(chan struct{}),
		loaded: map[string]*library{}, handles: map[uint32]string{}, mainSlots: map[string]uint32{},
		table: make([]*slot, tableSize),
	}
	fs.dataLimit = o.dataLimit
	in.ctx = &guestContext{Context: context.Background(), in: in}
	limit := uint64(maxMemory) // including the guard page, which only this package knows of
	if o.memoryLimit > 0 {
		limit = min(limit, uint64(o.memoryLimit)&^(wasmPage-1)+wasmbin.GuardBytes)
	}
	in.linear = &linearMemory{limit: limit, view: in.mem}
	reserve := in.linear.reserve
	if o.imaged {
		reserve = in.linear.reserveFile
	}
	if err := reserve(maxMemory, rt.unchecked()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			in.release()
		}
	}()
	if minimum := max(uint64(p.meta.Memory().Min)*wasmPage, size); limit < minimum {
		return nil, fmt.Errorf("start an instance: the memory limit of %d bytes is below the %d that PostgreSQL starts with",
			limit-wasmbin.GuardBytes, minimum-wasmbin.GuardBytes)
	}
	ctx := experimental.WithMemoryAllocator(context.Background(),
		experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory { return in.linear }))
	in.module, err = rt.wazero.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		return nil, fmt.Errorf("instantiate: %w", err)
	}
	if grow := size / wasmPage; grow > uint64(len(in.mem.b))/wasmPage {
		if _, ok := in.module.Memory().Grow(uint32(grow - uint64(len(in.mem.b))/wasmPage)); !ok {
			return nil, fmt.Errorf("instantiate: the memory does not grow to %d bytes", size)
		}
	}
	if err := in.bind(); err != nil {
		return nil, err
	}
	return in, in.addCallbacks()
}

// bind looks up the guest's exports that the host uses.
func (in *Instance) bind() error {
	sp, ok := in.module.ExportedGlobal("__stack_pointer").(api.MutableGlobal)
	if !ok {
		return errors.New("the module exports no __stack_pointer")
	}
	in.stackPointer = sp
	both := map[string]*api.Function{
		"malloc": &in.fn.malloc, "__wasm_call_ctors": &in.fn.ctors, "setThrew": &in.fn.setThrew,
	}
	if in.program == in.rt.main {
		for name, f := range map[string]*api.Function{
			"free": &in.fn.free, "emscripten_builtin_memalign": &in.fn.memalign, "__dl_seterr": &in.fn.dlSetErr, "__main_argc_argv": &in.fn.mainArg,
			"pgl_setPGliteActive": &in.fn.setActive, "GetXLogReplayRecPtr": &in.fn.replayed, "palloc": &in.fn.palloc, "find_option": &in.fn.findOption,
		} {
			both[name] = f
		}
	}
	for name, f := range both {
		if *f = in.module.ExportedFunction(name); *f == nil {
			return fmt.Errorf("the module exports no function %s: this PGlite needs another host", name)
		}
	}
	return nil
}

// callback is a host function that the guest calls through its table.
type callback struct {
	name string
	kind wasmbin.FuncType
	call hostFunc
}

// callbacks are the functions that PGlite's build of PostgreSQL takes from its host, in table order.
func callbacks() []callback {
	i32 := wasmbin.I32
	one := wasmbin.FuncType{Params: []wasmbin.ValType{i32}, Results: []wasmbin.ValType{i32}}
	two := wasmbin.FuncType{Params: []wasmbin.ValType{i32, i32}, Results: []wasmbin.ValType{i32}}
	return append([]callback{
		{"read", two, func(in *Instance, s []uint64) {
			s[0] = uint64(uint32(in.readWire(in.mem.bytes(uint32(s[0]), uint32(s[1])))))
		}},
		{"write", two, func(in *Instance, s []uint64) {
			s[0] = uint64(uint32(in.writeWire(in.mem.bytes(uint32(s[0]), uint32(s[1])))))
		}},
		{"system", one, func(in *Instance, s []uint64) { s[0] = uint64(in.shell.system(in, in.mem.cstr(uint32(s[0])))) }},
		{"popen", two, func(in *Instance, s []uint64) {
			s[0] = uint64(in.shell.popen(in, in.mem.cstr(uint32(s[0])), in.mem.cstr(uint32(s[1]))))
		}},
		{"pclose", one, func(in *Instance, s []uint64) { s[0] = uint64(in.shell.pclose(in, uint32(s[0]))) }},
	}, append(positionCallbacks(), checks()...)...)
}

// shell answers the guest's system(3), popen(3) and pclose(3).
type shell interface {
	system(in *Instance, command string) uint32
	popen(in *Instance, command, mode string) uint32
	pclose(in *Instance, stream uint32) uint32
}

// noShell runs nothing, but answers PostgreSQL's query for the system's locales. COPY ... PROGRAM fails with an error.
type noShell struct{}

func (noShell) system(*Instance, string) uint32 { return 1 }

func (noShell) popen(in *Instance, command, mode string) uint32 {
	if mode != "r" || !strings.HasPrefix(command, "locale -a") {
		errnoAt := in.call(in.module.ExportedFunction("__errno_location"))
		in.mem.putU32(uint32(errnoAt), uint32(ePERM))
		return 0
	}
	return in.fopen(localeList, "r")
}

func (noShell) pclose(in *Instance, stream uint32) uint32 {
	return uint32(in.call(in.module.ExportedFunction("fclose"), uint64(stream)))
}

// addCallbacks puts the callbacks into the table. It grows the table before anything else does, so they have the same slots in every
// instance.
func (in *Instance) addCallbacks() error {
	in.shell = noShell{}
	modules := map[string]api.Module{mainModule: in.module}
	grower, err := in.instantiateSmall(wasmbin.BuildTableGrower(mainModule, tableName), modules)
	if err != nil {
		return err
	}
	in.fn.growTable = grower.ExportedFunction("grow")
	var slots []tableSlot
	for _, c := range callbacks() {
		slots = append(slots, tableSlot{hostModule, c.name, c.kind})
	}
	in.firstCallback = in.growTable(uint32(len(slots)))
	return in.fillTable(slots, in.firstCallback, modules)
}

// writeData does what instantiation would have done: memory is zero, so only initialized data is written.
func (in *Instance) writeData() {
	for _, s := range in.program.data {
		in.mem.putBytes(s.Offset, s.Data)
	}
}

// arguments puts a command line into guest memory and returns argc and argv.
func (in *Instance) arguments(args []string) (argc, argv uint64) {
	p := uint32(in.call(in.fn.malloc, uint64(4*(len(args)+1))))
	for i, a := range args {
		s := uint32(in.call(in.fn.malloc, uint64(len(a)+1)))
		in.mem.putCstr(s, a)
		in.mem.putU32(p+uint32(4*i), s)
	}
	in.mem.putU32(p+uint32(4*len(args)), 0)
	return uint64(len(args)), uint64(p)
}

// enterGuest calls the export f from outside the guest. exited says whether the guest left by exit(3), and code is its exit code; an error
// is a trap, and the instance is dead.
func (in *Instance) enterGuest(f api.Function, args ...uint64) (result uint64, exited bool, code uint32, err error) {
	buf := &in.entry
	*buf = [4]uint64{}
	copy(buf[:], args)
	sp := in.stackPointer.Get()
	if err = f.CallWithStack(in.ctx, buf[:]); err == nil {
		return buf[0], false, 0, nil
	}
	why := in.unwinding
	in.unwinding = unwindNone
	switch why {
	case unwindExit:
		in.stackPointer.Set(sp)
		return 0, true, in.exitCode, nil
	case unwindTrap:
		err = in.trap
	case unwindLongjmp:
		err = errors.New("longjmp without a setjmp")
	}
	in.dead = fmt.Errorf("PostgreSQL failed: %w", err)
	return 0, false, 0, in.dead
}

// guard runs host code outside the guest that calls into it by in.call.
func (in *Instance) guard(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			why, trap := in.unwinding, in.trap
			in.unwinding = unwindNone
			if r != any(errUnwind) || why == unwindNone {
				panic(r)
			}
			if why != unwindTrap {
				trap = fmt.Errorf("unexpected exit with code %d", in.exitCode)
			}
			in.dead = fmt.Errorf("PostgreSQL failed: %w", trap)
			err = in.dead
		}
	}()
	f()
	return nil
}

func (in *Instance) wasKilled() bool {
	select {
	case <-in.killed:
		return true
	default:
		return false
	}
}

var errKilled = errors.New("killed")

// release frees the instance's resources.
func (in *Instance) release() {
	in.memoryMu.Lock()
	defer in.memoryMu.Unlock()
	for _, m := range in.modules {
		_ = m.Close(context.Background())
	}
	in.modules = nil
	if in.module != nil {
		_ = in.module.Close(context.Background())
	}
	if in.linear != nil {
		in.linear.Free()
	}
	// A remaining reference to the instance must not keep the compiled code's working data: a megabyte.
	in.table, in.module, in.fn, in.stackPointer = nil, nil, exports{}, nil
	in.libraries, in.loaded, in.handles, in.mainSlots = nil, nil, nil, nil
}

// word returns a pointer into the reservation, not the memory, whose slice changes while the guest runs.
func (in *Instance) word(at uint32) *uint32 { return (*uint32)(unsafe.Pointer(&in.linear.region[at])) }
