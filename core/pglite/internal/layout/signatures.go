package layout

import (
	"strings"

	"blobpglite/core/pglite/internal/wasmbin"
)

// signatures returns the types of the functions that a host calls or replaces: parameters, results.
func signatures() map[string]string {
	all := map[string]string{
		"kill": "(i32 i32)(i32)", "raise": "(i32)(i32)", "InitProcess": "()()", "RequestCheckpoint": "(i32)()", "ProcessInterrupts": "()()",
		"pg_usleep": "(i32)()", "WaitEventSetWait": "(i32 i32 i32 i32 i32)(i32)", "proc_exit": "(i32)()", "wrapper_handler": "(i32)()",
		"ProcKill": "(i32 i32)()", "AuxiliaryProcKill": "(i32 i32)()", "InitStandaloneProcess": "(i32)()", "load_hba": "()(i32)",
		"CreateCheckPoint": "(i32)(i32)", "smgrdestroyall": "()()", "AbsorbSyncRequests": "()()", "proc_exit_prepare": "(i32)()",
		"shmem_exit": "(i32)()", "SetLatch": "(i32)()", "SendProcSignal": "(i32 i32 i32)(i32)", "RegisterPostmasterChildActive": "()()",
		"PostmasterIsAliveInternal": "()(i32)", "PostgresMainLoopOnce": "()()", "GetXLogReplayRecPtr": "(i32)(i64)",
		"AnonymousShmemDetach": "(i32 i32)()", "LWLockAcquire": "(i32 i32)(i32)", "LWLockDequeueSelf": "(i32)()",
		"MaxLivePostmasterChildren": "()(i32)", "XLogFlush": "(i64)()",
	}
	for _, kind := range processKinds {
		if kind.main != "" {
			all[kind.main] = "(i32 i32)()"
		}
	}
	return all
}

func signature(t wasmbin.FuncType) string {
	list := func(types []wasmbin.ValType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = t.String()
		}
		return "(" + strings.Join(names, " ") + ")"
	}
	return list(t.Params) + list(t.Results)
}
