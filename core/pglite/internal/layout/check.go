package layout

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"blobpglite/core/pglite/internal/wasmbin"
)

// ErrWrong is wrapped when a program's layout is not as in its table: it was changed in a way that moved something, or
// the table belongs to another program. Do not run it.
var ErrWrong = errors.New("PostgreSQL's layout differs from the table")

// CheckProgram checks that a program, modified by its host or not, has its exports and the entries of the indirect call
// table where the layout says. Errors match [ErrWrong].
func (l *Layout) CheckProgram(m *wasmbin.Module) error {
	c := checker{l: l}
	for _, name := range slices.Sorted(maps.Keys(l.Slots)) {
		slot := l.Slots[name]
		f, ok := inTable(m, slot)
		c.must(ok && f == l.Functions[name], "slot %d of its table, which is to be %s, holds function %d, %d expected", slot, name, f, l.Functions[name])
	}
	for _, e := range m.Exports {
		if want, ok := l.Functions[e.Name]; ok && e.Kind == wasmbin.KindFunc {
			c.must(e.Index == want, "%s is function %d, %d expected", e.Name, e.Index, want)
		}
	}
	consts := m.Consts()
	for _, name := range slices.Sorted(maps.Keys(consts)) {
		if want, ok := l.Addresses[name]; ok {
			c.must(uint32(consts[name]) == want, "%s is at %d, %d expected", name, uint32(consts[name]), want)
		}
	}
	types := signatures()
	for _, name := range slices.Sorted(maps.Keys(l.Functions)) {
		f, want := l.Functions[name], types[name]
		if c.must(int64(f) < int64(len(m.Funcs)), "%s is to be function %d, of which it has %d", name, f, len(m.Funcs)) && want != "" {
			got := signature(m.Funcs[f])
			c.must(got == want, "function %d, which is to be %s, has the type %s, %s expected", f, name, got, want)
		}
	}
	return c.err()
}

// inTable returns the function in a slot of the table.
func inTable(m *wasmbin.Module, slot uint32) (function uint32, ok bool) {
	for _, e := range m.Elems {
		if i := slot - e.Offset; slot >= e.Offset && int64(i) < int64(len(e.Funcs)) {
			function, ok = e.Funcs[i], e.Funcs[i] != wasmbin.NullFunc // a later segment overrides
		}
	}
	return function, ok
}

// What CheckMemory expects, from PostgreSQL's headers and from PGlite.
const (
	shmemMagic         = 679834894 // PGShmemMagic
	pglitePID          = 42        // what getpid says there
	standaloneKind     = 8         // what getpid returns there
	noProcess          = 1<<32 - 1 // INVALID_PROC_NUMBER
	maxOnExits         = 20        // MAX_ON_EXITS
	latchShared        = 8         // Latch.is_shared
	lockState          = 4         // LWLock.state
	lockReleased       = 1 << 30   // LW_FLAG_RELEASE_OK
	creatorPID         = 4         // PGShmemHeader.creatorPID
	signals            = 65        // _NSIG
	pageSize           = 4096
	ignored, byDefault = 1, 0 // SIG_IGN, SIG_DFL
)

// CheckMemory is the self-test of a PostgreSQL whose main has reached the beginning of InitProcess, where a postmaster
// would fork: shared memory exists, and the process is not registered in it yet. read returns the word at an address of
// its memory; beyond the end it may return anything. Errors match [ErrWrong], and name everything that is wrong.
func (l *Layout) CheckMemory(read func(addr uint32) uint32) error {
	c := checker{l: l, read: read}
	c.process()
	if c.segment() {
		c.shared()
		c.processes()
	}
	c.kinds()
	c.exits()
	return c.err()
}

type checker struct {
	l         *Layout
	read      func(uint32) uint32
	base, end uint32 // of the main segment of shared memory
	faults    []error
}

func (c *checker) must(ok bool, format string, args ...any) bool {
	if !ok {
		c.faults = append(c.faults, fmt.Errorf(format, args...))
	}
	return ok
}

func (c *checker) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	return fmt.Errorf("self-test of PGlite %s (%s): %w: %w; use the published pglite.wasm, with SHA-256 %s",
		c.l.PGlite, c.l.Postgres, ErrWrong, errors.Join(c.faults...), c.l.SHA256)
}

// word reads a variable.
func (c *checker) word(name string) uint32 { return c.read(c.l.Addresses[name]) }

// is checks the value of a one-word variable.
func (c *checker) is(name string, want uint32) {
	got := c.word(name)
	c.must(got == want, "%s at %d is %d, %d expected", name, c.l.Addresses[name], got, want)
}

// in checks that an address is in the main segment.
func (c *checker) in(what string, at uint32) bool {
	return c.must(at >= c.base && at < c.end, "%s is at %d, which is not in the shared memory from %d to %d", what, at, c.base, c.end)
}

// process checks the variables of the process itself.
func (c *checker) process() {
	c.is("MyProcPid", pglitePID)
	c.is("MyBackendType", standaloneKind)
	for _, name := range []string{"MyProc", "MyClientSocket", "MyPMChildSlot", "CritSectionCount", "XactLastCommitEnd", "XactLastRecEnd"} {
		c.is(name, 0)
	}
	c.is("MyProcNumber", noProcess)
	c.is("postmaster_alive_fds", noProcess) // -1
	under := c.word("IsUnderPostmaster") & 0xff
	c.must(under == 0, "IsUnderPostmaster at %d is %d, 0 expected", c.l.Addresses["IsUnderPostmaster"], under)
	top := c.l.Addresses["TopTransactionStateData"]
	c.is("CurrentTransactionState", top)
	state := c.read(top + c.l.Offsets["TransactionStateData.blockState"])
	c.must(state == 0, "the state of the transaction at %d is %d, 0 expected", top, state)
	for sig := uint32(1); sig < signals; sig++ {
		h := c.read(c.l.Addresses["sigactions"] + sig*c.l.Sizes["sigaction"])
		c.must(h == byDefault || h == ignored || h == c.l.Slots["wrapper_handler"],
			"signal %d is handled by slot %d, wrapper_handler (%d) or none expected", sig, h, c.l.Slots["wrapper_handler"])
	}
}

// segment checks the main segment of shared memory.
func (c *checker) segment() bool {
	base, size := c.word("AnonymousShmem"), c.word("AnonymousShmemSize")
	if !c.must(base%pageSize == 0 && size%pageSize == 0 && size > 0 && uint64(base)+uint64(size) <= 1<<32,
		"shared memory is at %d, %d bytes long: no whole pages", base, size) {
		return false
	}
	c.base, c.end = base, base+size
	magic, pid, total := c.read(base), c.read(base+creatorPID), c.read(base+c.l.Offsets["PGShmemHeader.totalsize"])
	c.must(magic == shmemMagic && pid == pglitePID && total == size,
		"shared memory at %d begins with magic %d, process %d, length %d; %d, %d and %d expected", base, magic, pid, total, shmemMagic, pglitePID, size)
	c.is("ShmemSegHdr", base)
	c.is("ShmemBase", base)
	c.is("ShmemEnd", base+size)
	return len(c.faults) == 0 || magic == shmemMagic
}

// shared checks the pieces of shared memory.
func (c *checker) shared() {
	for _, name := range []string{"TransamVariables", "XLogRecoveryCtl", "MainLWLockArray"} {
		c.in("what "+name+" points to", c.word(name))
	}
	state := c.read(c.word("MainLWLockArray") + lockState)
	c.must(state == lockReleased, "the first lock of MainLWLockArray is in state %#x, %#x expected", state, lockReleased)
	if pm := c.word("PMSignalState"); c.in("PMSignalState", pm) {
		n, want := c.read(pm+c.l.Offsets["PMSignalData.num_child_flags"]), c.word("num_pmchild_slots")
		c.must(n == want && n > 0, "PMSignalState is for %d processes, num_pmchild_slots says %d", n, want)
	}
	if ck := c.word("CheckpointerShmem"); c.in("CheckpointerShmem", ck) {
		for _, field := range []string{"checkpointer_pid", "ckpt_started", "ckpt_done", "ckpt_failed", "ckpt_flags", "num_requests"} {
			got := c.read(ck + c.l.Offsets["CheckpointerShmemStruct."+field])
			c.must(got == 0, "CheckpointerShmem says that %s is %d, 0 expected", field, got)
		}
	}
}

// processes checks the array of PGPROCs.
func (c *checker) processes() {
	global := c.word("ProcGlobal")
	if !c.in("ProcGlobal", global) {
		return
	}
	for _, field := range []string{"checkpointerProc", "walwriterProc"} {
		got := c.read(global + c.l.Offsets["PROC_HDR."+field])
		c.must(got == noProcess, "ProcGlobal says that %s is %d, -1 expected", field, int32(got))
	}
	procs := c.read(global + c.l.Offsets["PROC_HDR.allProcs"])
	if !c.in("the array of PGPROCs", procs) {
		return
	}
	var semaphores []uint32
	for i := range uint32(3) {
		at := procs + i*c.l.Sizes["PGPROC"]
		sem, latch := c.read(at+c.l.Offsets["PGPROC.sem"]), c.read(at+c.l.Offsets["PGPROC.procLatch"]+latchShared)
		c.in(fmt.Sprintf("the semaphore of PGPROC %d", i), sem)
		c.must(latch&0xff == 1, "the latch of PGPROC %d is not shared: sizes or places of its fields differ", i)
		pid := c.read(at + c.l.Offsets["PGPROC.pid"])
		c.must(pid == 0, "PGPROC %d is of process %d, none expected", i, pid)
		semaphores = append(semaphores, sem)
	}
	c.must(semaphores[1]-semaphores[0] == semaphores[2]-semaphores[1] && semaphores[1] != semaphores[0],
		"the semaphores of the first PGPROCs are at %v: no row", semaphores)
}

// kinds checks the table of kinds of processes.
func (c *checker) kinds() {
	for i, kind := range processKinds {
		at := c.l.Addresses["child_process_kinds"] + uint32(i)*kindSize
		name, slot := c.text(c.read(at), len(kind.name)), c.read(at+4)
		c.must(name == kind.name && slot == c.l.Slots[kind.main], "kind %d of processes is %q with slot %d, %q with %d expected",
			i, name, slot, kind.name, c.l.Slots[kind.main])
	}
}

// text reads a string of at most n bytes.
func (c *checker) text(at uint32, n int) string {
	b := make([]byte, 0, n)
	for i := range uint32(n) + 1 {
		char := byte(c.read(at + i))
		if char == 0 {
			break
		}
		b = append(b, char)
	}
	return string(b)
}

// exits checks the lists of functions called when a process ends.
func (c *checker) exits() {
	for _, name := range []string{"before_shmem_exit_index", "on_shmem_exit_index", "on_proc_exit_index"} {
		n := c.word(name)
		c.must(n <= maxOnExits, "%s at %d is %d, at most %d expected", name, c.l.Addresses[name], n, maxOnExits)
	}
	detach, seen := c.l.Slots["AnonymousShmemDetach"], false
	for i := range min(c.word("on_shmem_exit_index"), maxOnExits) {
		seen = seen || c.read(c.l.Addresses["on_shmem_exit_list"]+8*i) == detach
	}
	c.must(seen, "AnonymousShmemDetach (slot %d) is not in the list at %d of what is called at the end", detach, c.l.Addresses["on_shmem_exit_list"])
}
