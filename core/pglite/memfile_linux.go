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
