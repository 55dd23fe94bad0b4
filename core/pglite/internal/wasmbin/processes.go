package wasmbin

import (
	"bytes"
	"fmt"
)

// ProcessExportPrefix starts the names under which [PatchProcesses] exports internal functions of the program; the
// function's own name follows.
const ProcessExportPrefix = "blobpglite_"

// Calls to a host that is the program's kernel and postmaster: negative values of the first argument of the import
// [HostCall].
const (
	CallKill       = -63 // kill(pid, sig)
	CallFork       = -62 // at the beginning of InitProcess: a postmaster would fork here
	CallCheckpoint = -61 // RequestCheckpoint(flags)
	CallInterrupts = -60 // at the beginning of ProcessInterrupts
	CallSleep      = -59 // pg_usleep(microseconds)
	CallSemaphore  = -58 // a turn of a loop that waits for another process to clear a flag
	CallError      = -57 // at the beginning of errstart(level), where the level is ERROR or above

	HostCall = "__syscall_connect"
	hostPoll = "__syscall_poll"
)

// Places says where a program has what [PatchProcesses] edits.
type Places struct {
	Functions map[string]uint32 // by name in PostgreSQL's sources: the index
	Addresses map[string]uint32 // of variables
}

// PatchProcesses edits the original pglite.wasm so that its host can run many processes of it:
//
//   - kill, RequestCheckpoint and pg_usleep call the host, and so do InitProcess and ProcessInterrupts at their beginning,
//     through an import that the program does not use otherwise;
//   - WaitEventSetWait, where PGlite answers poll by itself with "all is ready", asks the host;
//   - a process that waits for a semaphore, which does nothing in PGlite, asks the host in each iteration;
//   - the start of an error report calls the host;
//   - getpid, a constant here, is the process's ID where PostgreSQL compares with it;
//   - the functions in export are exported.
//
// Indexes do not change. It fails if the program lacks exactly the instructions that it looks for. Errors match
// [ErrFormat].
func PatchProcesses(bin []byte, at Places, export []string) ([]byte, error) {
	m, err := Parse(bin)
	if err != nil {
		return nil, fmt.Errorf("patch processes: %w", err)
	}
	p := &processPatcher{m: m, at: at}
	if p.call, err = m.importIndex(HostCall); err != nil {
		return nil, fmt.Errorf("patch processes: %w", err)
	}
	if p.poll, err = m.importIndex(hostPoll); err != nil {
		return nil, fmt.Errorf("patch processes: %w", err)
	}
	if err := p.code(); err != nil {
		return nil, fmt.Errorf("patch processes: %w", err)
	}
	var entries []byte
	for _, name := range export {
		f, ok := at.Functions[name]
		if !ok {
			return nil, fmt.Errorf("patch processes: %w: the address of %s is unknown", ErrFormat, name)
		}
		entries = appendExport(entries, Export{Name: ProcessExportPrefix + name, Kind: KindFunc, Index: f})
	}
	m.sections.set(secExport, extendVector(m.sections.body(secExport), len(export), entries))
	return m.sections.bytes(), nil
}

// importIndex returns the index of an imported function.
func (m *Module) importIndex(name string) (uint32, error) {
	n := uint32(0)
	for _, i := range m.Imports {
		if i.Kind != KindFunc {
			continue
		}
		if i.Name == name {
			return n, nil
		}
		n++
	}
	return 0, fmt.Errorf("%w: it does not import %s", ErrFormat, name)
}

type processPatcher struct {
	m          *Module
	at         Places
	call, poll uint32 // imports
}

// bodyEdit makes a new function body from an old one.
type bodyEdit func(body []byte) ([]byte, error)

// code edits the code section.
func (p *processPatcher) code() error {
	edits, err := p.edits()
	if err != nil {
		return err
	}
	r, n, _ := p.m.bodies()
	imported := uint32(p.m.imported[KindFunc])
	code := appendU32(nil, uint32(n))
	for i := range uint32(n) {
		body := r.sub(r.u32("body size"), "function body")
		b := r.buf[body.pos:r.pos]
		if e, ok := edits[imported+i]; ok {
			if b, err = e.edit(b); err != nil {
				return fmt.Errorf("function %d, %s: %w", imported+i, e.name, err)
			}
			delete(edits, imported+i)
		}
		code = appendSized(code, b)
	}
	if err := r.finish(); err != nil {
		return err
	}
	for i, e := range edits {
		return fmt.Errorf("%w: it has no function %d, which is %s", ErrFormat, i, e.name)
	}
	p.m.sections.set(secCode, code)
	return nil
}

type namedEdit struct {
	name string
	edit bodyEdit
}

// edits returns the edits of each function.
func (p *processPatcher) edits() (map[uint32]namedEdit, error) {
	pid, err := p.load("MyProcPid")
	if err != nil {
		return nil, err
	}
	out := map[uint32]namedEdit{}
	for name, edit := range map[string]bodyEdit{
		"kill":              p.whole(CallKill, 2, true),
		"RequestCheckpoint": p.whole(CallCheckpoint, 1, false),
		"pg_usleep":         p.whole(CallSleep, 1, false),
		"InitProcess":       p.front(CallFork),
		"ProcessInterrupts": p.front(CallInterrupts),
		"WaitEventSetWait":  p.waitEvents,
		// PGSemaphoreLock
		"LWLockAcquire": p.semaphore, "LWLockDequeueSelf": p.semaphore, "XLogFlush": p.semaphore,
		"WaitXLogInsertionsToFinish": p.semaphore, "ProcArrayEndTransaction": p.semaphore, "TransactionIdSetPageStatus": p.semaphore,
		// MyProcPid == getpid()
		"proc_exit":       once(join(pid, i32Const(pglitePid)), join(pid, pid)),
		"wrapper_handler": once(join(pid, i32Const(pglitePid)), join(pid, pid)),
		// lock->holder == getpid(), in a field
		"ProcKill":          once(join(loadAt(procPidAt), i32Const(pglitePid)), join(loadAt(procPidAt), pid)),
		"AuxiliaryProcKill": once(join(loadAt(procPidAt), i32Const(pglitePid)), join(loadAt(procPidAt), pid)),
	} {
		f, ok := p.at.Functions[name]
		if !ok {
			return nil, fmt.Errorf("%w: the address of %s is unknown", ErrFormat, name)
		}
		out[f] = namedEdit{name, edit}
	}
	for _, name := range []string{"errstart", "errstart_cold"} { // one may have the other's code inlined
		f, err := p.m.exportIndex(name)
		if err != nil {
			return nil, err
		}
		out[f] = namedEdit{name, p.frontOfErrors}
	}
	return out, nil
}

// exportIndex returns the index of an exported function.
func (m *Module) exportIndex(name string) (uint32, error) {
	for _, e := range m.Exports {
		if e.Kind == KindFunc && e.Name == name {
			return e.Index, nil
		}
	}
	return 0, fmt.Errorf("%w: it does not export %s", ErrFormat, name)
}

const (
	pglitePid = 42 // what getpid returns in PGlite
	procPidAt = 44 // PGPROC.pid

	levelError = 21 // ERROR
)

// whole returns a body that only calls the host, with the function's own parameters.
func (p *processPatcher) whole(call int32, params uint32, result bool) bodyEdit {
	return func([]byte) ([]byte, error) {
		b := append([]byte{0}, p.hostCall(call, params)...)
		if !result {
			b = append(b, opDrop)
		}
		return append(b, opEnd), nil
	}
}

// front calls the host first.
func (p *processPatcher) front(call int32) bodyEdit {
	return func(b []byte) ([]byte, error) { return begin(b, p.hostCall(call, 0), []byte{opDrop}) }
}

// frontOfErrors calls the host first if local 0, the level, is that of an error.
func (p *processPatcher) frontOfErrors(b []byte) ([]byte, error) {
	return begin(b, []byte{opLocalGet, 0}, i32Const(levelError-1), []byte{opI32GtS, opIf, blockEmpty},
		p.hostCall(CallError, 1), []byte{opDrop, opEnd})
}

// begin puts code before a body's own.
func begin(b []byte, code ...[]byte) ([]byte, error) {
	r := &reader{buf: b, end: len(b), section: sectionName(secCode)}
	for range r.count(maxVectorLen, "groups of locals") {
		r.u32("locals")
		r.byte("type of locals")
	}
	if r.err != nil {
		return nil, r.err
	}
	return join(b[:r.pos], join(code...), b[r.pos:]), nil
}

// hostCall calls the host with the first params locals after the call's number; the import takes six arguments.
func (p *processPatcher) hostCall(call int32, params uint32) []byte {
	b := i32Const(call)
	for i := range uint32(5) {
		if i < params {
			b = append(b, opLocalGet, byte(i))
		} else {
			b = append(b, opI32Const, 0)
		}
	}
	return appendU32(append(b, opCall), p.call)
}

// load returns code that reads a variable.
func (p *processPatcher) load(name string) ([]byte, error) {
	at, ok := p.at.Addresses[name]
	if !ok {
		return nil, fmt.Errorf("%w: the address of %s is unknown", ErrFormat, name)
	}
	return join(i32Const(int32(at)), loadAt(0)), nil
}

func loadAt(offset byte) []byte { return []byte{opI32Load, 2, offset} }
func i32Const(v int32) []byte   { return appendS32([]byte{opI32Const}, v) }
func join(parts ...[]byte) []byte {
	return bytes.Join(parts, nil)
}

// once replaces what must occur exactly once.
func once(old, with []byte) bodyEdit {
	return func(b []byte) ([]byte, error) {
		if n := bytes.Count(b, old); n != 1 {
			return nil, fmt.Errorf("%w: it contains %x %d times", ErrFormat, old, n)
		}
		return bytes.Replace(b, old, with, 1), nil
	}
}
