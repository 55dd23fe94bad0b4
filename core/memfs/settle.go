package memfs

import (
	"iter"
	"syscall"
)

// Settle tells the tree that an origin has a file's chunks as they were at a mark, because a layer was published. Chunks not written since
// count as clean from now on, so they may be evicted. ino is the file's number at the mark, in this tree or in a clone made then. Errors:
// ENOENT (the file is gone, which may be ignored), EINVAL (the mark is not in the past, or older than that of the file's present origin;
// not a regular file; the origin lacks an away chunk).
func (f *FS) Settle(ino uint64, m Mark, o Origin) error {
	if ino >= uint64(len(f.inodes)) || f.inodes[ino] == nil || f.inodes[ino].born > uint64(m) {
		return pathError("settle", "", syscall.ENOENT)
	}
	in := f.inodes[ino]
	if uint64(m) >= f.gen || uint64(m) < in.settled || !in.isRegular() || !in.has(o) {
		return pathError("settle", f.pathOf(in), syscall.EINVAL)
	}
	in.origin, in.settled = o, uint64(m)
	in.watch()
	return nil
}

// SettleAll is Settle for all files that have an origin, after a tree was loaded. Take the mark before anything overwrites what was loaded.
// Error: EINVAL if the mark is not in the past.
func (f *FS) SettleAll(m Mark) error {
	if uint64(m) >= f.gen {
		return pathError("settle", "/", syscall.EINVAL)
	}
	for _, in := range f.inodes {
		if in != nil && in.origin != nil && in.born <= uint64(m) {
			in.settled = max(in.settled, uint64(m))
			in.watch()
		}
	}
	return nil
}

// AwayBytes returns how many of the UsedBytes are away.
func (f *FS) AwayBytes() int64 { return f.awayChunks * ChunkSize }

// ResidentBytes returns how many of the UsedBytes are in memory, including chunks shared with clones, and those of a Content that was read.
func (f *FS) ResidentBytes() int64 {
	return f.usedBytes - (f.awayChunks+f.unreadChunks+f.temp.onDisk)*ChunkSize
}

// UnsettledBytes returns how many resident bytes no origin has, as far as the tree was told (Settle): a layer would have to write them, and
// they cannot be evicted. Temporary files, those without a name, and those that keep names (nil: none) are left out. It looks at all files
// that have bytes in memory.
func (f *FS) UnsettledBytes(keep func(path string) bool) (n int64) {
	for _, in := range f.inodes {
		switch {
		case in == nil || in.content != nil || in.chunks == in.away:
		case keep != nil && f.left(in, keep), in.temp != nil:
		case in.origin == nil:
			n += in.chunks - in.away
		default:
			for _, s := range in.table {
				if s.resident() && s.gen > in.settled {
					n++
				}
			}
		}
	}
	return n * ChunkSize
}

// left reports whether a file always stays in memory.
func (f *FS) left(in *inode, keep func(path string) bool) bool {
	path := f.pathOf(in)
	return path == "" || keep(path)
}

// clean reports whether the file's origin has a chunk unchanged, and its address.
func (in *inode) clean(chunk int64) (address int64, ok bool) {
	return in.cleanAt(chunk, &addresses{origin: in.origin})
}

func (in *inode) cleanAt(chunk int64, where *addresses) (address int64, ok bool) {
	s := in.table[chunk]
	if s.data != away && (s.data == nil || s.gen > in.settled) {
		return Nowhere, false
	}
	address = where.address(chunk)
	return address, address >= 0
}

// Piece is a chunk of a file, for code that stores the file elsewhere.
type Piece struct {
	Off     int64  // in the file, in bytes
	Data    []byte // cut at the end of the file; nil: it is away
	Address int64  // where the file's Origin has the same bytes; Nowhere: they are new
}

// Pieces yields all chunks of the file except holes, in order, including those that are away. Data is as in Extents. A piece has an
// Address, Data or both: a layer refers to pieces with an Address, and stores the rest, without ChangedSince.
func (f *File) Pieces() iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		where := addresses{origin: f.in.origin}
		for i := range min(int64(len(f.in.table)), chunkCount(f.in.size)) {
			if f.in.table[i].data != nil && !yield(f.piece(i, &where)) {
				return
			}
		}
	}
}

// Piece returns a single chunk's piece; false: the chunk is a hole.
func (f *File) Piece(chunk int64) (p Piece, ok bool) {
	if chunk < 0 || chunk >= min(int64(len(f.in.table)), chunkCount(f.in.size)) || f.in.table[chunk].data == nil {
		return p, false
	}
	return f.piece(chunk, &addresses{origin: f.in.origin}), true
}

func (f *File) piece(chunk int64, where *addresses) Piece {
	p := Piece{Off: chunk * ChunkSize}
	p.Address, _ = f.in.cleanAt(chunk, where)
	c := f.in.table[chunk].data
	if c == spilled {
		panic("memfs: Pieces of a temporary file that is on disk")
	}
	if c != away {
		p.Data = c[:min(ChunkSize, f.in.size-p.Off)]
	}
	return p
}
