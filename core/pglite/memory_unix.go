//go:build unix

package pglite

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reserve maps size bytes of zeroed memory that costs nothing until it is touched.
func reserve(size uint64) ([]byte, func([]byte), error) {
	b, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, fmt.Errorf("reserve %d bytes of address space for an instance's memory: %w", size, err)
	}
	return b, func(b []byte) { _ = unix.Munmap(b) }, nil
}
