package pglite

import "golang.org/x/sys/unix"

// Memory kept in small pages.
const (
	smallStart = 8 << 20 // of a memory: every instance has it, and touches it sparsely
	smallHeap  = 4 << 20 // of a process, beyond its image: enough for a client at rest
)

// preferHugePages asks for pages of 2 MiB after the first behind bytes of b. A kernel without them refuses, which is harmless.
func preferHugePages(b []byte, behind int) {
	if len(b) > behind {
		_ = unix.Madvise(b[behind:], unix.MADV_HUGEPAGE)
	}
}
