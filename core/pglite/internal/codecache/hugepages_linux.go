package codecache

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of one on amd64 and, mostly, on arm64: where they have another size, the kernel takes of the range what it can.
const hugePage = 2 << 20

// preferHugePages asks for huge pages for as much of p as they can hold. PostgreSQL's code is spread over thousands of small ones, and
// where a call leads to one that the processor has not looked up lately, it waits. It is asked before anything is read, so that the first
// byte that is written to such a page makes it: what is in small pages would have to be copied. A kernel without them says no, and
// nothing is lost.
func preferHugePages(p []byte) {
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) & (hugePage - 1))
	if rest := len(p) - skip; rest >= hugePage {
		_ = unix.Madvise(p[skip:][:rest&^(hugePage-1)], unix.MADV_HUGEPAGE)
	}
}
