package pglite

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beat asks, every so often, whoever runs a guest to come back to the host.
//
// Compiled WebAssembly has no points at which Go's scheduler could stop it. When Go's garbage collector waits for every processor, and one is in a
// statement that computes without calling the host, no goroutine runs any more: none that renews a lease, that cancels, that would
// set a flag. So what sets the flag must not be Go: it is a thread of the kernel's that Go knows nothing of. It sleeps, stores a one
// where it is told to, and sleeps again; where nobody runs it sleeps until it is woken.
type beat struct {
	control *beatControl
	memory  []byte // of control and the thread's stack
}

// beatControl is what the thread looks at. Its places are known to beat_linux_amd64.s.
type beatControl struct {
	active uint32 // beatSleeps and so on; the thread waits for it to change
	busy   uint32 // it has read target, and may be about to store there
	target uintptr
	every  unix.Timespec
	thread uint32 // its number; zero when it has ended
}

// What beatControl.active says.
const (
	beatSleeps = 0
	beatRuns   = 1
	beatEnds   = 2
)

const beatMemory = 16 << 10

//go:noescape
func startBeat(control *beatControl, stack uintptr) (errno uintptr)

// newBeat starts the thread.
func newBeat(every time.Duration) (*beat, error) {
	memory, err := unix.Mmap(-1, 0, beatMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("start the thread that interrupts statements: %w", err)
	}
	b := &beat{memory: memory, control: (*beatControl)(unsafe.Pointer(&memory[0]))}
	b.control.every = unix.NsecToTimespec(int64(every))
	b.control.active = beatRuns
	b.control.thread = 1
	if errno := startBeat(b.control, uintptr(unsafe.Pointer(&memory[0]))+beatMemory-64); errno != 0 {
		_ = unix.Munmap(memory)
		return nil, fmt.Errorf("start the thread that interrupts statements: %w", unix.Errno(errno))
	}
	return b, nil
}

// aim says where a one is to be stored from now on; nil: nowhere. The word must stay mapped until settle.
func (b *beat) aim(word *uint32) {
	c := b.control
	atomic.StoreUintptr(&c.target, uintptr(unsafe.Pointer(word)))
	if word != nil && atomic.LoadUint32(&c.active) == beatSleeps && atomic.CompareAndSwapUint32(&c.active, beatSleeps, beatRuns) {
		b.wake()
	}
}

// settle returns when nothing is stored any more where it was aimed before.
func (b *beat) settle() {
	for atomic.LoadUint32(&b.control.busy) != 0 {
		runtime.Gosched()
	}
}

func (b *beat) wake() {
	const wakePrivate = 129 // FUTEX_WAKE | FUTEX_PRIVATE_FLAG
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.control.active)), wakePrivate, 1, 0, 0, 0)
}

// close ends the thread.
func (b *beat) close() {
	b.aim(nil)
	atomic.StoreUint32(&b.control.active, beatEnds)
	b.wake()
	for atomic.LoadUint32(&b.control.thread) != 0 {
		runtime.Gosched()
	}
	_ = unix.Munmap(b.memory)
}
