package pglite

import (
	"fmt"

	"blobpglite/core/pglite/internal/wasmbin"
)

// processExport starts the names of functions that the patched PostgreSQL exports for its host.
const processExport = wasmbin.ProcessExportPrefix

// places are addresses in the guest's memory, and sizes, that the host of processes needs.
type places struct {
	IsUnderPostmaster, IsPostmasterEnvironment, PostmasterPid, MyProcPid, MyProc, MyClientSocket, MyPMChildSlot, MyBackendType uint32
	PGliteActive, SendReadyForQuery                                                                                            uint32
	BeforeShmemExit, OnShmemExit, OnProcExit, PostmasterAliveFds                                                               uint32
	InterruptHoldoffCount, CritSectionCount                                                                                    uint32
	SignalHandlers, Sigactions, WrapperHandler, Errno                                                                          uint32
	AnonymousShmem, AnonymousShmemSize, PMSignalState, CheckpointerShmem, ProcGlobal                                           uint32
	ProcSize, CheckpointerProcAt                                                                                               uint32
}

// processFunctions are those that the host calls.
func processFunctions() []string {
	return []string{
		"InitStandaloneProcess", "load_hba", "BackendMain", "CheckpointerMain", "StartupProcessMain", "WalWriterMain",
		"AutoVacLauncherMain", "AutoVacWorkerMain", "CreateCheckPoint", "smgrdestroyall",
	}
}

var tableFunctions = map[string]uint32{
	"InitStandaloneProcess": 10086, "load_hba": 3610, "BackendMain": 5783, "CheckpointerMain": 4559, "CreateCheckPoint": 1401,
	"smgrdestroyall": 5765, "StartupProcessMain": 4602, "WalWriterMain": 4627, "AutoVacLauncherMain": 4529, "AutoVacWorkerMain": 4537,
	"kill": 13473, "InitProcess": 5692, "RequestCheckpoint": 4564, "ProcessInterrupts": 5803, "pg_usleep": 10903, "WaitEventSetWait": 5573,
	"proc_exit": 5442, "wrapper_handler": 10910, "ProcKill": 5693, "AuxiliaryProcKill": 5695,
}

var tableAddresses = map[string]uint32{"MyProcPid": 2875608}

func newPlaces() places {
	return places{
		InterruptHoldoffCount: 2875516, CritSectionCount: 2875524, PostmasterPid: 2875552, IsPostmasterEnvironment: 2875556, IsUnderPostmaster: 2875557,
		MyProcPid: 2875608, MyClientSocket: 2875632, MyPMChildSlot: 2875680, MyBackendType: 2878772, MyProc: 2804284,
		PGliteActive: 2964944, SendReadyForQuery: 2964949, BeforeShmemExit: 2796912, OnShmemExit: 2797088, OnProcExit: 2797264,
		PostmasterAliveFds: 2592328, SignalHandlers: 2964416, Sigactions: 2970128, Errno: 2968596, WrapperHandler: 5627,
		AnonymousShmem: 2788552, AnonymousShmemSize: 2788556, CheckpointerShmem: 2788816, ProcGlobal: 2804288, PMSignalState: 2797456,
		ProcSize: 640, CheckpointerProcAt: 64,
	}
}

// shmemMagic begins the main segment of shared memory (PGShmemMagic).
const shmemMagic = 679834894

// selfTest looks whether the binary is what the table of places was made for.
func (rt *Runtime) selfTest(in *Instance, base, size uint32) error {
	if base%4096 != 0 || size%4096 != 0 || uint64(base)+uint64(size) > uint64(len(in.mem.b)) || in.mem.u32(base) != shmemMagic {
		return fmt.Errorf("PostgreSQL's shared memory is not at %d, %d bytes: this PGlite needs another host", base, size)
	}
	return nil
}
