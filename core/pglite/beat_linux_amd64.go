package pglite

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beat regularly makes the running guest call the host, by setting a flag in its memory.
//
// Compiled WebAssembly has no points at which Go's scheduler could stop it. When Go's garbage collector waits for every processor, and one
// of them runs a statement that computes without calling the host, no goroutine runs: none that renews a lease, cancels, or could set the
// flag. So a kernel thread that Go does not know of sets the flag, with every signal blocked. It sleeps, stores a one at the target, and
// sleeps again; after a while without a target it sleeps until woken.
type beat struct {
	control *beatControl
	memory  []byte // of control and the thread's stack
}

// beatControl is what the thread reads. beat_linux_amd64.s knows its layout.
type beatControl struct {
	active uint32 // beatSleeps and so on; the thread waits for it to change
	busy   uint32 // it has read target, and may be about to store there
	target uintptr
	every  unix.Timespec
	thread uint32 // its ID; the kernel sets it to zero when the thread ends
}

// Values of beatControl.active.
const (
	beatSleeps = 0
	beatRuns   = 1
	beatEnds   = 2
)

const beatMemory = 16 << 10

// startBeat starts the thread on a stack whose end is stack, and uses nothing of it.
//
//go:noescape
func startBeat(control *beatControl, stack uintptr) (errno uintptr)

// newBeat starts the thread; close ends it.
func newBeat(every time.Duration) (*beat, error) {
	memory, err := unix.Mmap(-1, 0, beatMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("start the thread that interrupts statements: %w", err)
	}
	b := &beat{memory: memory, control: (*beatControl)(unsafe.Pointer(&memory[0]))}
	b.control.every = unix.NsecToTimespec(int64(every))
	b.control.active = beatRuns
	if errno := startBeat(b.control, uintptr(unsafe.Pointer(&memory[0]))+beatMemory-64); errno != 0 {
		_ = unix.Munmap(memory)
		return nil, fmt.Errorf("start the thread that interrupts statements: %w", unix.Errno(errno))
	}
	return b, nil
}

// aim sets where a one is stored from now on; nil: nowhere. It takes a few nanoseconds, or a system call if the thread has been without a
// target for long. The word must stay mapped until quiesce or close has returned.
func (b *beat) aim(word *uint32) {
	c := b.control
	atomic.StoreUintptr(&c.target, uintptr(unsafe.Pointer(word)))
	if word != nil && atomic.LoadUint32(&c.active) == beatSleeps && atomic.CompareAndSwapUint32(&c.active, beatSleeps, beatRuns) {
		b.futex(&c.active, futexWake, 1, nil)
	}
}

// quiesce returns when nothing can be stored at an earlier target any more.
func (b *beat) quiesce() {
	for atomic.LoadUint32(&b.control.busy) != 0 {
		runtime.Gosched()
	}
}

// close ends the thread; after it returns, the thread stores nothing.
func (b *beat) close() {
	c := b.control
	b.aim(nil)
	atomic.StoreUint32(&c.active, beatEnds)
	b.futex(&c.active, futexWake, 1, nil)
	// The kernel clears the ID and wakes waiters. Only then is the stack unused.
	for n := atomic.LoadUint32(&c.thread); n != 0; n = atomic.LoadUint32(&c.thread) {
		b.futex(&c.thread, futexWaitShared, n, &unix.Timespec{Nsec: int64(100 * time.Millisecond)})
	}
	_ = unix.Munmap(b.memory)
}

// Operations of futex(2).
const (
	futexWaitShared = 0 // what the kernel does at a thread's end is FUTEX_WAKE, not private
	futexWake       = 1 | 128
)

func (b *beat) futex(word *uint32, op uintptr, value uint32, timeout *unix.Timespec) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), op, uintptr(value), uintptr(unsafe.Pointer(timeout)), 0, 0)
}
