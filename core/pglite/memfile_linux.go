package pglite

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile creates an unnamed file in memory.
func memoryFile(what string) (*os.File, error) {
	fd, err := unix.MemfdCreate("blobpglite "+what, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a memory file for %s: %w", what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

// nextData returns the next range of a file at or after off that is not a hole.
func nextData(fd int, off int64) (from, to int64, ok bool) {
	from, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if err != nil {
		return 0, 0, false
	}
	to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
	return from, to, err == nil
}

// punch frees the memory of a piece of a file, which then reads as zeros.
func punch(f *os.File, off, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, size)
}
