package pglite

import (
	"fmt"
	"maps"
	"slices"

	"blobpglite/core/pglite/internal/layout"
	"blobpglite/core/pglite/internal/wasmbin"
)

// processExport starts the names of functions that the patched PostgreSQL exports for its host.
const processExport = wasmbin.ProcessExportPrefix

// places are addresses and sizes in the guest's memory that the host needs to run processes.
type places struct {
	layout *layout.Layout

	IsUnderPostmaster, IsPostmasterEnvironment, PostmasterPid, MyProcPid, MyProc, MyClientSocket, MyPMChildSlot, MyBackendType uint32
	PGliteActive, SendReadyForQuery                                                                                            uint32
	BeforeShmemExit, OnShmemExit, OnProcExit, PostmasterAliveFds                                                               uint32
	CurrentTransactionState, InterruptHoldoffCount, QueryCancelHoldoffCount, CritSectionCount                                  uint32
	InterruptPending, QueryCancelPending, ProcDiePending, TransactionTimeoutPending                                            uint32
	SignalHandlers, Sigactions, WrapperHandler, Errno                                                                          uint32
	AnonymousShmem, AnonymousShmemSize, PgStartTime, PMSignalState, CheckpointerShmem, ProcGlobal                              uint32
}

// newPlaces looks up the places for a binary.
func newPlaces(sha256 string) (places, error) {
	l, err := layout.For(sha256)
	if err != nil {
		return places{}, err
	}
	p := places{layout: l, WrapperHandler: l.Slots["wrapper_handler"]}
	wanted := map[string]*uint32{
		"IsUnderPostmaster": &p.IsUnderPostmaster, "IsPostmasterEnvironment": &p.IsPostmasterEnvironment, "PostmasterPid": &p.PostmasterPid,
		"MyProcPid": &p.MyProcPid, "MyProc": &p.MyProc, "MyClientSocket": &p.MyClientSocket, "MyPMChildSlot": &p.MyPMChildSlot,
		"MyBackendType": &p.MyBackendType, "pglite_active": &p.PGliteActive, "send_ready_for_query": &p.SendReadyForQuery,
		"before_shmem_exit_index": &p.BeforeShmemExit, "on_shmem_exit_index": &p.OnShmemExit, "on_proc_exit_index": &p.OnProcExit,
		"postmaster_alive_fds": &p.PostmasterAliveFds, "InterruptHoldoffCount": &p.InterruptHoldoffCount, "CritSectionCount": &p.CritSectionCount,
		"pqsignal_handlers": &p.SignalHandlers, "sigactions": &p.Sigactions, "errno": &p.Errno, "AnonymousShmem": &p.AnonymousShmem,
		"CurrentTransactionState": &p.CurrentTransactionState, "AnonymousShmemSize": &p.AnonymousShmemSize, "PMSignalState": &p.PMSignalState, "CheckpointerShmem": &p.CheckpointerShmem, "ProcGlobal": &p.ProcGlobal,
		"PgStartTime": &p.PgStartTime, "InterruptPending": &p.InterruptPending, "QueryCancelPending": &p.QueryCancelPending,
		"ProcDiePending": &p.ProcDiePending,
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if *wanted[name] = l.Addresses[name]; *wanted[name] == 0 {
			return places{}, fmt.Errorf("the layout of PGlite %s lacks the address of %s", l.PGlite, name)
		}
	}
	return p, p.flags()
}

// flags sets the flags of globals.c that no export names. They lie there in a row, four bytes each, with known ones around them.
func (p *places) flags() error {
	p.TransactionTimeoutPending, p.QueryCancelHoldoffCount = p.InterruptPending+24, p.InterruptPending+48
	want := [4]uint32{p.InterruptPending + 4, p.InterruptPending + 8, p.InterruptPending + 44, p.InterruptPending + 52}
	if got := [4]uint32{p.QueryCancelPending, p.ProcDiePending, p.InterruptHoldoffCount, p.CritSectionCount}; got != want {
		return fmt.Errorf("the flags of interrupts of PGlite %s do not stand as in globals.c: %d", p.layout.PGlite, got)
	}
	return nil
}

// processFunctions returns the functions that the host calls.
func processFunctions() []string {
	return []string{
		"InitStandaloneProcess", "load_hba", "BackendMain", "CheckpointerMain", "StartupProcessMain", "WalWriterMain",
		"AutoVacLauncherMain", "AutoVacWorkerMain", "CreateCheckPoint", "smgrdestroyall",
	}
}

// patchProcesses patches PostgreSQL's binary so that a host can run many processes of it.
func (p *places) patchProcesses(bin []byte) ([]byte, error) {
	return wasmbin.PatchProcesses(bin, wasmbin.Places{Functions: p.layout.Functions, Addresses: p.layout.Addresses}, processFunctions())
}

// selfTest checks that the binary is the one the layout was made for. PostgreSQL's main has reached the point where processes are forked
// from it.
func (rt *Runtime) selfTest(in *Instance, base, size uint32) error {
	err := rt.places.layout.CheckMemory(func(at uint32) uint32 {
		if uint64(at)+4 > uint64(len(in.mem.b)) {
			return 0
		}
		return in.mem.u32(at)
	})
	if err == nil && (base%4096 != 0 || size%4096 != 0 || uint64(base)+uint64(size) > uint64(len(in.mem.b))) {
		err = fmt.Errorf("shared memory of %d bytes at %d is not whole pages", size, base)
	}
	if err == nil {
		err = rt.places.layout.CheckProgram(rt.main.meta)
	}
	if err != nil {
		return fmt.Errorf("this PGlite needs another host: %w", err)
	}
	return nil
}
