package pglite

import (
	"time"

	"blobpglite/core/pglite/internal/wasmbin"
)

// hostCall is the patched guest's call to the host, which is its kernel and postmaster. An instance that belongs to no cluster is alone: it
// has no process to signal, and makes its checkpoints itself.
func hostCall(in *Instance, s []uint64) {
	a, b := int32(s[1]), uint32(s[2])
	call := int32(s[0])
	s[0] = 0
	switch call {
	case wasmbin.CallKill:
		if in.cluster != nil {
			s[0] = uint64(uint32(in.cluster.kill(in, a, b)))
		}
	case wasmbin.CallFork:
		if in.cluster != nil && in.proc == nil {
			if err := in.cluster.fork(in); err != nil {
				in.trapf("fork: %w", err)
			}
			in.exit(exitForked)
		}
	case wasmbin.CallCheckpoint:
		if in.proc == nil {
			in.checkpoint(uint32(a))
		} else {
			in.proc.requestCheckpoint(uint32(a))
		}
	case wasmbin.CallInterrupts:
		if in.proc != nil {
			in.proc.yield()
		}
	case wasmbin.CallError:
		if in.proc != nil {
			in.proc.raising(a)
		}
	case wasmbin.CallSemaphore:
		if in.proc == nil {
			in.trapf("it waits for a lock that nobody can give, for it is alone")
		}
		in.proc.semaphore()
	case wasmbin.CallSleep:
		if d := time.Duration(uint32(a)) * time.Microsecond; in.proc != nil {
			in.proc.usleep(d)
		} else {
			in.sleep(d)
		}
	default:
		s[0] = eNOSYS.neg()
	}
}

// checkpoint makes a checkpoint immediately, as the guest does when it is alone.
func (in *Instance) checkpoint(flags uint32) {
	const immediate = 4 // CHECKPOINT_FAST
	in.call(in.internal("CreateCheckPoint"), uint64(flags|immediate))
	in.call(in.internal("smgrdestroyall"))
}
