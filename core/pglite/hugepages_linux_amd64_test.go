package pglite

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noHugePagesVariable makes a child process of these tests behave as on a kernel that refuses huge pages.
const noHugePagesVariable = "BLOBPGLITE_TEST_NO_HUGE_PAGES"

// refuseHugePages makes the kernel answer madvise(MADV_HUGEPAGE), in every thread of this process and for good, like one without huge
// pages.
func refuseHugePages(t *testing.T) {
	t.Helper()
	const number, architecture, advice = 0, 4, 32 // in struct seccomp_data: the call's number, the processor's, the third argument
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter { // skips skip instructions if the value differs
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	give := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	filter := []unix.SockFilter{
		load(architecture), unless(unix.AUDIT_ARCH_X86_64, 5),
		load(number), unless(unix.SYS_MADVISE, 3),
		load(advice), unless(unix.MADV_HUGEPAGE, 1),
		give(unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)), give(unix.SECCOMP_RET_ALLOW),
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		t.Fatal(errno)
	}
	page, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(page) }()
	if err := unix.Madvise(page, unix.MADV_HUGEPAGE); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("huge pages are not refused: %v", err)
	}
	if err := unix.Madvise(page, unix.MADV_DONTNEED); err != nil {
		t.Fatalf("other advice is refused: %v", err)
	}
}
