package pglite

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sharedFiles are the files behind shared memory: the main segment, and one for each file of /dev/shm that processes map (PostgreSQL's
// dynamic shared memory). The lock guards them.
type sharedFiles struct {
	main   *memorySnapshot // the image that PostgreSQL started from; it holds the main segment
	region []byte          // the main segment, mapped by the host
	files  map[uint64]*sharedSegment
}

// sharedSegment is a file of /dev/shm.
type sharedSegment struct {
	file *os.File
	refs int  // mappings of it
	gone bool // it has been unlinked
}

// share maps a file of /dev/shm into a process, at addr.
func (s *sharedFiles) share(in *Instance, addr, size uint32, inode uint64) error {
	seg := s.files[inode]
	if seg == nil {
		file, err := memoryFile("dynamic shared memory")
		if err != nil {
			return err
		}
		seg = &sharedSegment{file: file}
		if s.files == nil {
			s.files = map[uint64]*sharedSegment{}
		}
		s.files[inode] = seg
	}
	info, err := seg.file.Stat()
	if err == nil && info.Size() < int64(size) {
		err = seg.file.Truncate(int64(size))
	}
	if err != nil {
		return err
	}
	m := sharedMapping{addr: addr, size: size, inode: inode, file: seg.file}
	if err := m.attach(in.linear.region); err != nil {
		return err
	}
	seg.refs++
	in.mappings = append(in.mappings, m)
	return nil
}

// unshare undoes share; false: there was no such mapping.
func (s *sharedFiles) unshare(in *Instance, addr uint32) bool {
	for i, m := range in.mappings {
		if m.addr == addr {
			in.mappings = append(in.mappings[:i:i], in.mappings[i+1:]...)
			if err := m.detach(in.linear.region); err != nil {
				in.trapf("%w", err)
			}
			s.release(m.inode)
			return true
		}
	}
	return false
}

// inherited counts the image's mappings: every process has them, and they last as long as the cluster.
func (s *sharedFiles) inherited(all []sharedMapping) {
	for _, m := range all {
		s.files[m.inode].refs++
	}
}

// leave gives up everything that a process has mapped itself; its memory is freed as a whole.
func (s *sharedFiles) leave(in *Instance) {
	for _, m := range in.mappings {
		s.release(m.inode)
	}
	in.mappings = nil
}

func (s *sharedFiles) release(inode uint64) {
	if seg := s.files[inode]; seg != nil {
		seg.refs--
		s.drop(inode, seg)
	}
}

// unlinked notes that a file of /dev/shm has lost its name.
func (s *sharedFiles) unlinked(inode uint64) {
	if seg := s.files[inode]; seg != nil {
		seg.gone = true
		s.drop(inode, seg)
	}
}

// drop forgets a segment that is not mapped and can no longer be.
func (s *sharedFiles) drop(inode uint64, seg *sharedSegment) {
	if seg.gone && seg.refs <= 0 {
		_ = seg.file.Close()
		delete(s.files, inode)
	}
}

// close releases everything; no process runs any more.
func (s *sharedFiles) close() {
	for inode, seg := range s.files {
		_ = seg.file.Close()
		delete(s.files, inode)
	}
	if s.region != nil {
		_ = unix.Munmap(s.region)
		s.region = nil
	}
	s.main = nil
}

// isSharedMemory reports whether a path of the installation's tree is shared memory.
func isSharedMemory(path string) bool { return strings.HasPrefix(path, "/dev/shm/") }

// writeRuns writes the non-zero parts of b, except the pieces in without, to the same offsets in a file that is all zeros.
func writeRuns(f *os.File, b []byte, without []sharedMapping) error {
	without = slices.Clone(without)
	slices.SortFunc(without, func(x, y sharedMapping) int { return cmp.Compare(x.addr, y.addr) })
	from := uint32(0)
	for _, s := range append(without, sharedMapping{addr: uint32(len(b))}) {
		for off, run := range nonZeroRuns(b[from:s.addr]) {
			if _, err := f.WriteAt(run, int64(from)+int64(off)); err != nil {
				return err
			}
		}
		from = s.addr + s.size
	}
	return nil
}
