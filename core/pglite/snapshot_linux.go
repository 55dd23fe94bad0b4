package pglite

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memorySnapshot is the content of a linear memory in a memfd: instances map it copy-on-write, so that starting one
// costs no copy and a page is only paid for when it is written.
type memorySnapshot struct {
	file *os.File
	size uint64
}

// memoryFile is a file of memory, without a name.
func memoryFile(what string) (*os.File, error) {
	fd, err := unix.MemfdCreate("blobpglite "+what, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a memory file for %s: %w", what, err)
	}
	return os.NewFile(uintptr(fd), what), nil
}

// snapshotMemory copies the pages of b that are not zero; without those that are shared.
func snapshotMemory(b []byte, without ...sharedMapping) (*memorySnapshot, error) {
	file, err := memoryFile("an image")
	if err != nil {
		return nil, err
	}
	s := &memorySnapshot{file: file, size: uint64(len(b))}
	if err := s.file.Truncate(int64(len(b))); err != nil {
		return nil, fmt.Errorf("size the memory file of an image to %d bytes: %w", len(b), err)
	}
	if err := writeRuns(s.file, b, without); err != nil {
		return nil, fmt.Errorf("write the memory file of an image: %w", err)
	}
	runtime.SetFinalizer(s, func(s *memorySnapshot) { _ = s.file.Close() })
	return s, nil
}

// restore puts the snapshot at the start of region.
func (s *memorySnapshot) restore(region []byte) error {
	_, err := unix.MmapPtr(int(s.file.Fd()), 0, unsafe.Pointer(unsafe.SliceData(region)), uintptr(s.size),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|unix.MAP_NORESERVE)
	runtime.KeepAlive(s)
	if err != nil {
		return fmt.Errorf("map an image of %d bytes: %w", s.size, err)
	}
	return nil
}
