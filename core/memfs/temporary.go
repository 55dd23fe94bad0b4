package memfs

import (
	"errors"
	"io"
	"syscall"
)

// Temporary says how a tree keeps files that need not outlive it and that no clone needs, such as those of a sorting query.
type Temporary struct {
	// Is reports, by its path, whether a new file is temporary; it remains so if renamed. Nil: none is.
	Is func(path string) bool
	// Memory is how many bytes of their chunks may be in memory; negative: any number. The excess goes to Disk; without a Disk, it fails
	// with ENOSPC.
	Memory int64
	Disk   Disk
	// Wait runs io, which waits for Disk; it may release the tree to others during that. Nil: io is called directly.
	Wait func(io func())
}

// Disk is a file outside memory, for one tree alone.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// temporary is what a tree knows about its temporary files.
type temporary struct {
	Temporary
	total  int64   // chunks that are not holes
	onDisk int64   // of these, those on disk
	free   []int64 // unused blocks of the disk below end
	end    int64   // blocks
}

// tempFile is what a temporary file has in addition to its table.
type tempFile struct {
	blocks []int64 // by chunk, its block's number on disk plus one; 0: it is not on disk
	busy   int     // operations waiting for the disk
	late   []int64 // blocks to free once no operation waits
}

// spilled is the target of slots whose bytes are on disk.
var spilled = new([ChunkSize]byte)

// SetTemporary sets how temporary files made from now on are kept. Existing ones stay as they are, and need their Disk as long as they
// exist.
func (f *FS) SetTemporary(t Temporary) { f.temp.Temporary = t }

// TemporaryBytes returns how many bytes the chunks of temporary files take, in memory and on disk.
func (f *FS) TemporaryBytes() (memory, disk int64) {
	return (f.temp.total - f.temp.onDisk) * ChunkSize, f.temp.onDisk * ChunkSize
}

// temporary makes a new file temporary, if Is says so.
func (f *FS) temporary(in *inode) {
	if f.temp.Is != nil && f.temp.Is(f.pathOf(in)) {
		in.temp = &tempFile{}
	}
}

// part is a piece of a temporary file, and where it is on disk.
type part struct {
	p   []byte
	off int64
}

// writeTemp is write for a temporary file.
func (f *FS) writeTemp(in *inode, p []byte, off int64) (int, syscall.Errno) {
	f.ownTable(in, chunkCount(off+int64(len(p))))
	var parts []part
	var errno syscall.Errno
	n := 0
	for n < len(p) {
		pos := off + int64(n)
		at := int(pos % ChunkSize)
		m := min(ChunkSize-at, len(p)-n)
		c, block, fresh, e := f.tempChunk(in, pos/ChunkSize)
		if errno = e; errno != 0 {
			break
		}
		switch from := p[n : n+m]; {
		case c != nil:
			copy(c[at:], from)
		case fresh && m < ChunkSize: // the rest of the block belonged to another file
			whole := make([]byte, ChunkSize)
			copy(whole[at:], from)
			parts = append(parts, part{whole, block * ChunkSize})
		default:
			parts = append(parts, part{from, block*ChunkSize + int64(at)})
		}
		n += m
	}
	if e := f.disk(in, parts, Disk.WriteAt); e != 0 {
		return 0, e
	}
	if n > 0 {
		in.size = max(in.size, off+int64(n))
		f.touch(in)
	}
	return n, errno
}

// tempChunk returns a chunk that is about to be written: its bytes, or its block on disk. fresh: it had none before.
func (f *FS) tempChunk(in *inode, i int64) (c *[ChunkSize]byte, block int64, fresh bool, errno syscall.Errno) {
	s, t := &in.table[i], &f.temp
	switch {
	case s.data == spilled:
		block = in.temp.blocks[i] - 1
	case s.data != nil:
		c = s.data
	case !f.room(1):
		return nil, 0, false, syscall.ENOSPC
	case t.Memory < 0 || (t.total-t.onDisk+1)*ChunkSize <= t.Memory:
		fresh, c = true, f.newChunk(true)
		s.data = c
	case t.Disk == nil:
		return nil, 0, false, syscall.ENOSPC
	default:
		fresh, block = true, f.takeBlock()
		if n := len(in.table) - len(in.temp.blocks); n > 0 {
			in.temp.blocks = append(in.temp.blocks, make([]int64, n)...)
		}
		s.data, in.temp.blocks[i] = spilled, block+1
		t.onDisk++
	}
	s.gen = f.gen
	if fresh {
		t.total++
		in.chunks++
		f.usedBytes += ChunkSize
	}
	return c, block, fresh, 0
}

// readTemp is read for a temporary file.
func (f *FS) readTemp(in *inode, p []byte, off int64) (int, syscall.Errno) {
	if off >= in.size {
		return 0, 0
	}
	p = p[:min(int64(len(p)), in.size-off)]
	var parts []part
	for n := 0; n < len(p); {
		pos := off + int64(n)
		i, at := pos/ChunkSize, int(pos%ChunkSize)
		to := p[n : n+min(ChunkSize-at, len(p)-n)]
		switch {
		case i >= int64(len(in.table)) || in.table[i].data == nil:
			clear(to)
		case in.table[i].data == spilled:
			parts = append(parts, part{to, (in.temp.blocks[i]-1)*ChunkSize + int64(at)})
		default:
			copy(to, in.table[i].data[at:])
		}
		n += len(to)
	}
	if errno := f.disk(in, parts, Disk.ReadAt); errno != 0 {
		return 0, errno
	}
	return len(p), 0
}

// disk calls do for parts of a file, adjacent ones together. Others may use the tree during that; the file keeps its blocks until disk
// returns.
func (f *FS) disk(in *inode, parts []part, do func(Disk, []byte, int64) (int, error)) syscall.Errno {
	if len(parts) == 0 {
		return 0
	}
	t := in.temp
	t.busy++
	defer func() {
		if t.busy--; t.busy == 0 {
			f.giveBlocks(t.late)
			t.late = nil
		}
	}()
	disk, err := f.temp.Disk, error(nil)
	io := func() {
		for _, p := range joined(parts) {
			if _, err = do(disk, p.p, p.off); err != nil {
				return
			}
		}
	}
	if f.temp.Wait != nil {
		f.temp.Wait(io)
	} else {
		io()
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return syscall.ENOSPC
	}
	return syscall.EIO
}

// joined joins parts that are adjacent both in memory and on disk.
func joined(parts []part) []part {
	out := parts[:1]
	for _, p := range parts[1:] {
		last := &out[len(out)-1]
		n := len(last.p)
		if p.off == last.off+int64(n) && cap(last.p)-n >= len(p.p) && &last.p[:n+1][n] == &p.p[0] {
			last.p = last.p[:n+len(p.p)]
			continue
		}
		out = append(out, p)
	}
	return out
}

// releaseTemp releases a chunk of a temporary file.
func (f *FS) releaseTemp(in *inode, i int64) {
	s := in.table[i]
	if s.data == nil {
		return
	}
	in.chunks--
	f.usedBytes -= ChunkSize
	f.temp.total--
	if s.data != spilled {
		f.keepForReuse(s)
		return
	}
	f.temp.onDisk--
	block := in.temp.blocks[i] - 1
	in.temp.blocks[i] = 0
	if in.temp.busy > 0 {
		in.temp.late = append(in.temp.late, block)
		return
	}
	f.giveBlocks([]int64{block})
}

// cutTemp clears the bytes after a file's new end in the chunk that holds the end.
func (f *FS) cutTemp(in *inode, size int64) syscall.Errno {
	i, at := size/ChunkSize, size%ChunkSize
	switch {
	case at == 0 || i >= int64(len(in.table)) || in.table[i].data == nil:
		return 0
	case in.table[i].data == spilled:
		zeros := make([]byte, ChunkSize-at)
		return f.disk(in, []part{{zeros, (in.temp.blocks[i]-1)*ChunkSize + at}}, Disk.WriteAt)
	}
	clear(in.table[i].data[at:])
	return 0
}

func (f *FS) takeBlock() int64 {
	t := &f.temp
	if n := len(t.free); n > 0 {
		block := t.free[n-1]
		t.free = t.free[:n-1]
		return block
	}
	t.end++
	return t.end - 1
}

// giveBlocks frees blocks of the disk. When none is in use, the disk is truncated; if that fails, only its space stays taken.
func (f *FS) giveBlocks(blocks []int64) {
	t := &f.temp
	t.free = append(t.free, blocks...)
	if t.end > 0 && int64(len(t.free)) == t.end {
		t.free, t.end = nil, 0
		_ = t.Disk.Truncate(0)
	}
}

// withoutTemp empties a temporary file in a clone; only the original has its contents.
func (in *inode) withoutTemp() {
	in.temp, in.table, in.tableGen, in.chunks, in.size = nil, nil, 0, 0, 0
}
