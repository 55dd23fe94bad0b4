package codecache

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page on amd64 and, mostly, on arm64: where the size differs, the kernel uses what it can
// of the range.
const hugePage = 2 << 20

// preferHugePages asks for huge pages for as much of p as they can hold. PostgreSQL's code is spread over thousands of
// small pages, and a call into one that the processor has not looked up recently must wait. The request comes before
// anything is read, so that the first byte written to a huge page allocates it: data already in small pages would have to
// be copied. A kernel without huge pages refuses, which is harmless.
func preferHugePages(p []byte) {
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(p))) & (hugePage - 1))
	if rest := len(p) - skip; rest >= hugePage {
		_ = unix.Madvise(p[skip:][:rest&^(hugePage-1)], unix.MADV_HUGEPAGE)
	}
}
