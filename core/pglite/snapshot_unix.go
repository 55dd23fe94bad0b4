//go:build unix

package pglite

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memorySnapshot is the content of a linear memory in a file of memory: instances map it copy-on-write, so that starting one
// costs no copy and a page is only paid for when it is written.
type memorySnapshot struct {
	file *os.File
	size uint64
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
	return s.owned(), nil
}

// owned closes the file when nobody can restore from it any more.
func (s *memorySnapshot) owned() *memorySnapshot {
	runtime.SetFinalizer(s, func(s *memorySnapshot) { _ = s.file.Close() })
	return s
}

// reserveFile is like reserve, for a memory that becomes an image: it is the content of a memory file.
func (l *linearMemory) reserveFile(size uint64) ([]byte, func([]byte), error) {
	file, err := memoryFile("the postmaster")
	if err != nil {
		return nil, nil, err
	}
	var b []byte
	if err = file.Truncate(int64(size)); err == nil {
		b, err = unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("reserve %d bytes of address space for an instance's memory: %w", size, err), file.Close())
	}
	l.file = file
	return b, func(b []byte) { _ = unix.Munmap(b) }, nil
}

// image is the memory as it is now, which nobody may write any more.
func (l *linearMemory) image() *memorySnapshot {
	s := &memorySnapshot{file: l.file, size: uint64(len(l.view.b))}
	l.file = nil
	return s.owned()
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
