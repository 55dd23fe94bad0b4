//go:build !linux

package pglite

// memorySnapshot is the content of a linear memory: the runs that are not zero. (Linux maps a memory file instead.)
type memorySnapshot struct {
	runs []memoryRun
	size uint64
}

type memoryRun struct {
	off  int
	data []byte
}

// snapshotMemory copies the pages of b that are not zero.
func snapshotMemory(b []byte) (*memorySnapshot, error) {
	s := &memorySnapshot{size: uint64(len(b))}
	for off, run := range nonZeroRuns(b) {
		s.runs = append(s.runs, memoryRun{off, append([]byte(nil), run...)})
	}
	return s, nil
}

// restore puts the snapshot at the start of region, which is all zeros: all that a start function writes is zeros.
func (s *memorySnapshot) restore(region []byte) error {
	for _, r := range s.runs {
		copy(region[r.off:], r.data)
	}
	return nil
}
