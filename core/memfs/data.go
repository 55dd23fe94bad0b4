package memfs

import "syscall"

// chunkCount is the number of chunks in size bytes.
func chunkCount(size int64) int64 { return (size + ChunkSize - 1) / ChunkSize }

// ownTable makes a file's table private and at least n slots long.
func (f *FS) ownTable(in *inode, n int64) {
	have := int64(len(in.table))
	if in.tableGen < f.ownedFrom {
		table := make([]slot, max(have, n))
		copy(table, in.table)
		in.table, in.tableGen = table, f.gen
		return
	}
	if n > have {
		in.table = append(in.table, make([]slot, n-have)...)
	}
}

func (f *FS) newChunk(zero bool) *[ChunkSize]byte {
	n := len(f.free)
	if n == 0 {
		return new([ChunkSize]byte)
	}
	c := f.free[n-1]
	f.free[n-1] = nil
	f.free = f.free[:n-1]
	if zero {
		clear(c[:])
	}
	return c
}

// releaseSlot releases a slot of a file that is being emptied.
func (f *FS) releaseSlot(in *inode, i int64) {
	if in.temp != nil {
		f.releaseTemp(in, i)
		return
	}
	f.releaseChunk(in, in.table[i])
}

// releaseChunk accounts for a chunk that left in, and keeps it for reuse.
func (f *FS) releaseChunk(in *inode, s slot) {
	if s.data == nil {
		return
	}
	in.chunks--
	f.usedBytes -= ChunkSize
	if s.data == away {
		f.notAway(in)
		return
	}
	f.keepForReuse(s)
}

// keepForReuse keeps a chunk that is no longer used, unless another tree may share it.
func (f *FS) keepForReuse(s slot) {
	if s.gen >= f.ownedFrom && len(f.free) < maxFreeChunks {
		f.free = append(f.free, s.data)
	}
}

// room reports whether n more chunks fit.
func (f *FS) room(n int64) bool {
	return f.opts.MaxBytes == 0 || f.usedBytes+n*ChunkSize <= f.opts.MaxBytes
}

// ownChunk returns the chunk at idx, private and marked as written now; nil: no space. whole: the caller overwrites all of it, so the old
// bytes are not copied. The table must be owned and long enough.
func (f *FS) ownChunk(in *inode, idx int64, whole bool) *[ChunkSize]byte {
	s := &in.table[idx]
	switch {
	case s.data == nil:
		if !f.room(1) {
			return nil
		}
		s.data = f.newChunk(!whole)
		in.chunks++
		f.usedBytes += ChunkSize
	case s.data == away: // toWrite ensured that all of it is overwritten
		s.data = f.newChunk(!whole)
		f.notAway(in)
	case s.gen < f.ownedFrom:
		c := f.newChunk(false)
		if !whole {
			*c = *s.data
		}
		s.data = c
	}
	s.gen = f.gen
	return s.data
}

// write stores p at off; the count is short only together with an errno. The caller ensures that the chunks it needs (toWrite) are not
// away.
func (f *FS) write(in *inode, p []byte, off int64) (int, syscall.Errno) {
	end := off + int64(len(p))
	if end > MaxFileSize {
		return 0, syscall.EFBIG
	}
	if in.temp != nil {
		return f.writeTemp(in, p, off)
	}
	f.ownTable(in, chunkCount(end))
	var errno syscall.Errno
	n := 0
	for n < len(p) {
		pos := off + int64(n)
		at := int(pos % ChunkSize)
		m := min(ChunkSize-at, len(p)-n)
		c := f.ownChunk(in, pos/ChunkSize, m == ChunkSize)
		if c == nil {
			errno = syscall.ENOSPC
			break
		}
		n += copy(c[at:at+m], p[n:])
	}
	if n > 0 {
		in.size = max(in.size, off+int64(n))
		f.touch(in)
	}
	return n, errno
}

// read fills p from off; the count is short at the end of the file. The caller ensures that the chunks it needs (toRead) are not away.
func (in *inode) read(p []byte, off int64) int {
	if off >= in.size {
		return 0
	}
	p = p[:min(int64(len(p)), in.size-off)]
	for n := 0; n < len(p); {
		pos := off + int64(n)
		at := int(pos % ChunkSize)
		m := min(ChunkSize-at, len(p)-n)
		if idx := pos / ChunkSize; idx < int64(len(in.table)) && in.table[idx].data != nil {
			copy(p[n:n+m], in.table[idx].data[at:])
			in.see(idx)
		} else {
			clear(p[n : n+m])
		}
		n += m
	}
	return len(p)
}

// read is inode.read, also for temporary files.
func (f *FS) read(in *inode, p []byte, off int64) (int, syscall.Errno) {
	if in.temp != nil {
		return f.readTemp(in, p, off)
	}
	return in.read(p, off), 0
}

// truncate sets the size. Slots past the end stay in the table as holes of this generation, so that ChangedSince includes them if the file
// grows again. Bytes of the last chunk past the end are always zero. The chunk it needs (toTruncate) is not away.
func (f *FS) truncate(in *inode, size int64) syscall.Errno {
	if size < 0 {
		return syscall.EINVAL
	}
	if size > MaxFileSize {
		return syscall.EFBIG
	}
	if size < in.size && len(in.table) > 0 {
		f.ownTable(in, 0)
		keep := chunkCount(size)
		for i := keep; i < int64(len(in.table)); i++ {
			if s := &in.table[i]; s.data != nil {
				f.releaseSlot(in, i)
				*s = slot{gen: f.gen}
			}
		}
		if in.temp != nil {
			if errno := f.cutTemp(in, size); errno != 0 {
				return errno
			}
		} else if at := size % ChunkSize; at != 0 && keep <= int64(len(in.table)) && in.table[keep-1].data != nil {
			clear(f.ownChunk(in, keep-1, false)[at:])
		}
	}
	in.size = size
	f.touch(in)
	return 0
}

// allocate extends the size to cover the range. It takes no memory, but fails if the range would not fit now.
func (f *FS) allocate(in *inode, off, length int64) syscall.Errno {
	if off < 0 || length <= 0 {
		return syscall.EINVAL
	}
	if length > MaxFileSize || off+length > MaxFileSize {
		return syscall.EFBIG
	}
	holes := int64(0)
	first, end := off/ChunkSize, chunkCount(off+length)
	for i := first; i < min(end, int64(len(in.table))); i++ {
		if in.table[i].data == nil {
			holes++
		}
	}
	holes += max(0, end-max(first, int64(len(in.table))))
	if !f.room(holes) {
		return syscall.ENOSPC
	}
	in.size = max(in.size, off+length)
	f.touch(in)
	return 0
}
