package memfs

import (
	iofs "io/fs"
	"sync/atomic"
	"time"
)

const (
	// ChunkSize is the unit of allocation, sharing and change tracking: one PostgreSQL page.
	ChunkSize = 8192
	// MaxFileSize bounds one file, in bytes; beyond it: EFBIG. PostgreSQL's own files end at 1 GiB. It also bounds the
	// table that a sparse write can make (16 bytes per chunk).
	MaxFileSize = 16 << 30
	// NameMax bounds one path component and PathMax a path, in bytes, as on Linux; beyond: ENAMETOOLONG.
	NameMax = 255
	PathMax = 4095
	// maxFreeChunks bounds the chunks kept for reuse after unlink and truncate (2 MiB).
	maxFreeChunks = 256
	// maxSymlinks bounds the symlinks followed for one path; beyond: ELOOP.
	maxSymlinks = 40
)

// File kinds in Info.Mode and Dirent.Mode: Linux's values on every platform.
const (
	ModeType    = 0o170000 // mask of the kind
	ModeDir     = 0o040000
	ModeRegular = 0o100000
	ModeSymlink = 0o120000
	modePerm    = 0o7777
)

const rootIno = 1

// Options of a new tree. The zero value is an unbounded tree on the system's time.
type Options struct {
	// MaxBytes bounds the bytes of the tree's chunks, in memory or away, without clones; 0: unbounded. Beyond it writes fail with ENOSPC.
	MaxBytes int64
	// Now returns the time for mtime and ctime; nil: time.Now. Clones call it too, from their owners' goroutines.
	Now func() time.Time
}

// FS is one file tree. Make one with New or Clone; the zero value is not usable. One goroutine owns it.
type FS struct {
	family       *family
	gen          uint64 // generation of current writes
	ownedFrom    uint64 // anything older may be shared with a clone: copy before write
	opts         Options
	hooks        Hooks
	inodes       []*inode // by number; nil: free
	freeInos     []uint64
	free         []*[ChunkSize]byte
	usedBytes    int64
	awayChunks   int64
	unreadChunks int64 // of files whose Content has not been read yet
	hand         hand
	temp         temporary
	dirEpoch     uint64 // goes up when a directory is renamed: cached paths below it are stale
}

// family is what a tree and all its clones share.
type family struct{ gen atomic.Uint64 }

// slot is one chunk of a file: nil data is a hole, and a pointer to away means that the bytes are elsewhere. gen 0: never written.
type slot struct {
	data *[ChunkSize]byte
	gen  uint64
}

// inode is private to one FS; only table and entries may be shared with a clone, while their generation is old.
type inode struct {
	ino                 uint64
	mode                uint32
	nlink               uint32
	opens               int
	size                int64
	born                uint64 // the generation in which it was made
	chunks              int64  // slots that are not holes
	away                int64  // of these, those whose bytes are away
	mtime, ctime, atime int64  // Unix nanoseconds

	table    []slot // regular files; may be shorter or longer than size
	tableGen uint64
	content  *Content  // the future content of table, before the file is opened; nil: table has it
	origin   Origin    // where chunks are kept; nil: nowhere
	settled  uint64    // slots with no newer generation are as in origin
	seen     []uint64  // see evict.go
	temp     *tempFile // see temporary.go; nil: not a temporary file

	entries    []entry // directories, sorted by name
	entriesGen uint64

	target string // symlinks

	parent    uint64 // directory that holds name; 0: unlinked
	name      string // one of its names
	path      string // cached path, valid while pathEpoch is the tree's dirEpoch
	pathEpoch uint64
}

// Info describes one inode.
type Info struct {
	Ino                 uint64
	Mode                uint32 // kind and permission bits, Linux values
	Nlink               uint32 // 0: unlinked, still open
	Size                int64  // bytes; a symlink's is the length of its target, a directory's is 0
	Blocks              int64  // allocated, in units of 512 bytes
	Away                int64  // of Blocks, those not in memory
	Kept                bool   // it has an Origin
	Mtime, Ctime, Atime time.Time
}

// IsDir reports whether it is a directory.
func (i Info) IsDir() bool { return i.Mode&ModeType == ModeDir }

// IsRegular reports whether it is a regular file.
func (i Info) IsRegular() bool { return i.Mode&ModeType == ModeRegular }

// IsSymlink reports whether it is a symbolic link.
func (i Info) IsSymlink() bool { return i.Mode&ModeType == ModeSymlink }

// Hooks are called for the owner's operations, after they succeeded, in the owner's goroutine, with canonical paths ("/pg_wal/0…"). Nil
// members are skipped. A hook must not change the tree. Files without a name (unlinked, still open) are not reported, nor are Chmod,
// Chtimes and InstallChunk.
type Hooks struct {
	// Write: p was written at byte off. p belongs to the caller of WriteAt: copy what you keep.
	Write func(path string, off int64, p []byte)
	// Truncate: the size was set (Truncate, O_TRUNC on an existing file, Allocate past the end).
	Truncate func(path string, size int64)
	// Sync: fsync (dataOnly: fdatasync).
	Sync func(path string, dataOnly bool)
	// Rename: from is now named to; what had that name before is gone.
	Rename func(from, to string)
	// Unlink: a name of a file, symlink or directory is gone.
	Unlink func(path string)
	// Create: a name appeared: a file, directory, symlink or hard link.
	Create func(path string)
}

// New makes a tree that holds an empty root directory.
func New(o Options) *FS {
	f := &FS{family: &family{}, inodes: []*inode{nil}}
	f.Use(o)
	f.gen = f.family.gen.Add(1)
	f.ownedFrom = f.gen
	root := f.newInode(ModeDir | 0o700)
	root.nlink, root.path = 2, "/"
	return f
}

// SetHooks replaces the hooks.
func (f *FS) SetHooks(h Hooks) { f.hooks = h }

// UsedBytes returns how many bytes this tree's allocated chunks take, including shared ones and those that are away.
func (f *FS) UsedBytes() int64 { return f.usedBytes }

func (f *FS) nowNanos() int64 { return f.opts.Now().UnixNano() }

func (f *FS) newInode(mode uint32) *inode {
	now := f.nowNanos()
	in := &inode{mode: mode, nlink: 1, mtime: now, ctime: now, atime: now, born: f.gen, tableGen: f.gen, entriesGen: f.gen}
	if n := len(f.freeInos); n > 0 {
		in.ino = f.freeInos[n-1]
		f.freeInos = f.freeInos[:n-1]
		f.inodes[in.ino] = in
		return in
	}
	in.ino = uint64(len(f.inodes))
	f.inodes = append(f.inodes, in)
	return in
}

// dropIfUnused frees an inode that has neither a name nor an open File.
func (f *FS) dropIfUnused(in *inode) {
	if in.nlink > 0 || in.opens > 0 {
		return
	}
	for i := range in.table {
		f.releaseSlot(in, int64(i))
	}
	if in.content != nil {
		f.usedBytes -= in.chunks * ChunkSize
		f.unreadChunks -= in.chunks
	}
	in.table, in.entries, in.content, in.origin, in.seen, in.temp = nil, nil, nil, nil, nil, nil
	f.inodes[in.ino] = nil
	f.freeInos = append(f.freeInos, in.ino)
}

func (in *inode) isDir() bool     { return in.mode&ModeType == ModeDir }
func (in *inode) isRegular() bool { return in.mode&ModeType == ModeRegular }
func (in *inode) isSymlink() bool { return in.mode&ModeType == ModeSymlink }

func (in *inode) info() Info {
	return Info{
		Ino: in.ino, Mode: in.mode, Nlink: in.nlink, Size: in.size, Blocks: in.chunks * (ChunkSize / 512), Away: in.away * (ChunkSize / 512), Kept: in.origin != nil,
		Mtime: time.Unix(0, in.mtime), Ctime: time.Unix(0, in.ctime), Atime: time.Unix(0, in.atime),
	}
}

// pathOf returns an inode's current canonical path, "" if it has no name.
func (f *FS) pathOf(in *inode) string {
	if in.ino == rootIno {
		return "/"
	}
	if in.parent == 0 {
		return ""
	}
	if in.path != "" && in.pathEpoch == f.dirEpoch {
		return in.path
	}
	dir := f.pathOf(f.inodes[in.parent])
	if dir == "" { // an open file cannot be below a removed directory, which was empty
		return ""
	}
	in.path, in.pathEpoch = join(dir, in.name), f.dirEpoch
	return in.path
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

func pathError(op, path string, err error) error {
	return &iofs.PathError{Op: op, Path: path, Err: err}
}
