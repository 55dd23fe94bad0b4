package pglite

import "golang.org/x/sys/unix"

// What is in small pages.
const (
	smallStart = 8 << 20 // of a memory: every instance has that, and touches it here and there
	smallHeap  = 4 << 20 // of a process, beyond its image: what a client at rest takes fits in there
)

// preferHugePages asks for pages of 2 MiB after the first bytes of a piece of memory. A kernel without them says no, and nothing is lost.
func preferHugePages(b []byte, behind int) {
	if len(b) > behind {
		_ = unix.Madvise(b[behind:], unix.MADV_HUGEPAGE)
	}
}
