//go:build unix

package pglite

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// memorySnapshot is the content of a linear memory in a memory file. Instances map it copy-on-write, so starting one copies nothing, and a
// page costs memory only once it is written.
type memorySnapshot struct {
	file *os.File
	size uint64
	ends uint64 // only zeros follow
}

// snapshotMemory copies the non-zero pages of b, except the shared ones.
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
	return s.findEnd().owned(), nil
}

// findEnd finds where the content of the file ends.
func (s *memorySnapshot) findEnd() *memorySnapshot {
	for s.ends < s.size {
		_, to, ok := nextData(int(s.file.Fd()), int64(s.ends))
		if !ok {
			break
		}
		s.ends = min(uint64(to), s.size)
	}
	return s
}

// owned closes the file when the snapshot is no longer referenced.
func (s *memorySnapshot) owned() *memorySnapshot {
	runtime.SetFinalizer(s, func(s *memorySnapshot) { _ = s.file.Close() })
	return s
}

// image returns the memory as it is now; it must not be written any more.
func (l *linearMemory) image() *memorySnapshot {
	s := &memorySnapshot{file: l.file, size: uint64(len(l.view.b))}
	l.file = nil
	return s.findEnd().owned()
}

// restore puts the snapshot at the start of region. Private memory follows, in huge pages except where a process's first growth goes: for
// copies of a file the kernel uses small pages only, and keeps each page of zeros twice, in the file and in the copy.
func (s *memorySnapshot) restore(region []byte) error {
	var err error
	if s.ends > 0 {
		err = mapFile(region[:s.ends], s.file, 0, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	}
	runtime.KeepAlive(s)
	if err != nil {
		return fmt.Errorf("map an image of %d bytes: %w", s.ends, err)
	}
	if rest := region[s.ends:s.size]; len(rest) > 0 {
		if err := mapZeros(rest); err != nil {
			return fmt.Errorf("map %d bytes after an image: %w", len(rest), err)
		}
		preferHugePages(rest, smallHeap)
	}
	return nil
}
