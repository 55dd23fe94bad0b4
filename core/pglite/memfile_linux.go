package pglite

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile is a file of memory, without a name.
func memoryFile(what string) (*os.File, error) {
	fd, err := unix.MemfdCreate("blobpglite "+what, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a memory file for %s: %w", what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

// nextData is the next range of a file from off on that is no hole.
func nextData(fd int, off int64) (from, to int64, ok bool) {
	from, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if err != nil {
		return 0, 0, false
	}
	to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
	return from, to, err == nil
}
