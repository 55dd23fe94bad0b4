package pglite

import "golang.org/x/sys/unix"

// smallPages is what a memory has of them at its start, which every instance has and touches here and there.
const smallPages = 8 << 20

// preferHugePages asks for pages of 2 MiB behind the start of a memory. A kernel without them says no, and nothing is lost. A process has
// them where it has grown beyond its image, which is a file's copy: there the kernel has small pages only.
func preferHugePages(region []byte) {
	_ = unix.Madvise(region[smallPages:], unix.MADV_HUGEPAGE)
}
