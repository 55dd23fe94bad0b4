package memfs

import (
	"io"
	"iter"
	"os"
	"syscall"
)

const accessMode = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

// File is an open file or directory. It belongs to the owner of its FS, and is not cloned: open the clone's file with OpenInode. A file
// that is unlinked while open lives until it is closed.
type File struct {
	fs     *FS
	in     *inode
	flag   int
	closed bool
}

// Open opens a path with os.O_* flags (and syscall.O_DIRECTORY, O_NOFOLLOW). perm is for a file that O_CREATE makes; no umask is applied.
// O_APPEND and O_SYNC are only recorded, see Flags. Errors: ENOENT, EEXIST, ENOTDIR, EISDIR, ELOOP, ENAMETOOLONG, EINVAL; EIO and its cause
// if the file's Content cannot be read.
func (f *FS) Open(path string, flag int, perm uint32) (*File, error) {
	file, err := f.open(path, flag, perm)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return file, nil
}

func (f *FS) open(path string, flag int, perm uint32) (*File, error) {
	create, exclusive := flag&os.O_CREATE != 0, flag&os.O_EXCL != 0
	directory := flag&syscall.O_DIRECTORY != 0
	if create && directory {
		return nil, syscall.EINVAL
	}
	h := noFollow
	if flag&syscall.O_NOFOLLOW == 0 && !(create && exclusive) {
		h |= follow
	}
	if create {
		h |= creating
	}
	at, errno := f.resolve(path, h)
	switch {
	case errno != 0:
		return nil, errno
	case at.in == nil && !create:
		return nil, syscall.ENOENT
	case at.in == nil:
		in := f.newInode(ModeRegular | perm&modePerm)
		f.link(at, in)
		f.temporary(in)
		if f.hooks.Create != nil {
			f.hooks.Create(f.pathOf(in))
		}
		return f.handle(in, flag), nil
	case create && exclusive:
		return nil, syscall.EEXIST
	case at.in.isSymlink() && !directory:
		return nil, syscall.ELOOP
	case at.mustDir && !at.in.isDir():
		return nil, syscall.ENOTDIR
	}
	return f.openExisting(at.in, flag)
}

// OpenInode opens an inode by its number, with or without a name: this is how a descriptor continues on a clone. Errors: ENOENT when there
// is no such inode, ELOOP for a symlink, EISDIR.
func (f *FS) OpenInode(ino uint64, flag int) (*File, error) {
	if ino >= uint64(len(f.inodes)) || f.inodes[ino] == nil {
		return nil, pathError("open inode", "", syscall.ENOENT)
	}
	in := f.inodes[ino]
	if in.isSymlink() {
		return nil, pathError("open inode", f.pathOf(in), syscall.ELOOP)
	}
	file, err := f.openExisting(in, flag&^(os.O_CREATE|os.O_EXCL))
	if err != nil {
		return nil, pathError("open inode", f.pathOf(in), err)
	}
	return file, nil
}

func (f *FS) openExisting(in *inode, flag int) (*File, error) {
	if in.isDir() && (flag&accessMode != os.O_RDONLY || flag&(os.O_CREATE|os.O_TRUNC) != 0) {
		return nil, syscall.EISDIR
	}
	if !in.isDir() && flag&syscall.O_DIRECTORY != 0 {
		return nil, syscall.ENOTDIR
	}
	if err := f.fill(in); err != nil {
		return nil, err
	}
	if flag&os.O_TRUNC != 0 {
		if errno := f.truncate(in, 0); errno != 0 {
			return nil, errno
		}
		f.fireTruncate(in)
	}
	return f.handle(in, flag), nil
}

func (f *FS) handle(in *inode, flag int) *File {
	in.opens++
	return &File{fs: f, in: in, flag: flag}
}

func (f *FS) fireTruncate(in *inode) {
	if f.hooks.Truncate == nil {
		return
	}
	if path := f.pathOf(in); path != "" {
		f.hooks.Truncate(path, in.size)
	}
}

func (f *File) fail(op string, errno syscall.Errno) error {
	return pathError(op, f.Path(), errno)
}

// canWrite returns why the file cannot be written; 0: it can.
func (f *File) canWrite() syscall.Errno {
	if f.closed || f.flag&accessMode == os.O_RDONLY {
		return syscall.EBADF
	}
	return 0
}

// ReadAt reads len(p) bytes from byte off; fewer only with io.EOF, as os.File does. Holes read as zeros. Errors: EBADF
// (closed, or open for writing only), EINVAL (off is negative), EISDIR, EIO of a temporary file's disk, and an AwayError, with no byte read.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case f.closed || f.flag&accessMode == os.O_WRONLY:
		return 0, f.fail("read", syscall.EBADF)
	case f.in.isDir():
		return 0, f.fail("read", syscall.EISDIR)
	case off < 0:
		return 0, f.fail("read", syscall.EINVAL)
	}
	if f.in.away > 0 {
		if missing := f.in.toRead(off, int64(len(p))); missing != nil {
			return 0, pathError("read", f.Path(), needs(missing))
		}
	}
	n, errno := f.fs.read(f.in, p, off)
	if errno != 0 {
		return 0, f.fail("read", errno)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes p at byte off, growing the file as needed. Errors: EBADF, EINVAL, EFBIG, ENOSPC with the count of bytes written, and an
// AwayError, with none written.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if errno := f.canWrite(); errno != 0 {
		return 0, f.fail("write", errno)
	}
	if off < 0 {
		return 0, f.fail("write", syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.in.away > 0 {
		if missing := f.in.toWrite(off, int64(len(p))); missing != nil {
			return 0, pathError("write", f.Path(), needs(missing))
		}
	}
	n, errno := f.fs.write(f.in, p, off)
	if hook := f.fs.hooks.Write; hook != nil && n > 0 {
		if path := f.Path(); path != "" {
			hook(path, off, p[:n])
		}
	}
	if errno != 0 {
		return n, f.fail("write", errno)
	}
	return n, nil
}

// Truncate sets the size in bytes; added bytes read as zeros. Errors: EBADF, EINVAL, EFBIG, an AwayError.
func (f *File) Truncate(size int64) error {
	errno := f.canWrite()
	if f.flag&accessMode == os.O_RDONLY && !f.closed {
		errno = syscall.EINVAL // as ftruncate(2)
	}
	if missing := f.in.toTruncate(size); errno == 0 && missing != nil {
		return pathError("truncate", f.Path(), needs(missing))
	}
	if errno == 0 {
		errno = f.fs.truncate(f.in, size)
	}
	if errno != 0 {
		return f.fail("truncate", errno)
	}
	f.fs.fireTruncate(f.in)
	return nil
}

// Allocate makes the file at least off+length bytes long, like posix_fallocate. It takes no memory, so it promises no space for later; it
// fails with ENOSPC if the range would not fit now. Other errors: EBADF, EINVAL, EFBIG.
func (f *File) Allocate(off, length int64) error {
	errno := f.canWrite()
	before := f.in.size
	if errno == 0 {
		errno = f.fs.allocate(f.in, off, length)
	}
	if errno != 0 {
		return f.fail("allocate", errno)
	}
	if f.in.size != before {
		f.fs.fireTruncate(f.in)
	}
	return nil
}

// Sync calls the Sync hook; memory needs nothing else. dataOnly: fdatasync. Error: EBADF.
func (f *File) Sync(dataOnly bool) error {
	if f.closed {
		return f.fail("sync", syscall.EBADF)
	}
	if hook := f.fs.hooks.Sync; hook != nil {
		if path := f.Path(); path != "" {
			hook(path, dataOnly)
		}
	}
	return nil
}

// InstallChunk puts a chunk in place without copying it: the tree owns data from now on. The size must be set before (Truncate); bytes past
// it are cleared. Hooks are not called: it is for loading a tree, not for its use. Errors: EBADF, EINVAL (not a regular file, index outside
// the size), ENOSPC.
func (f *File) InstallChunk(index int64, data *[ChunkSize]byte) error {
	if errno := f.canWrite(); errno != 0 {
		return f.fail("install chunk", errno)
	}
	in := f.in
	if !in.isRegular() || index < 0 || index >= chunkCount(in.size) {
		return f.fail("install chunk", syscall.EINVAL)
	}
	f.fs.ownTable(in, chunkCount(in.size))
	s := &in.table[index]
	if s.data == nil {
		if !f.fs.room(1) {
			return f.fail("install chunk", syscall.ENOSPC)
		}
		in.chunks++
		f.fs.usedBytes += ChunkSize
	}
	if s.data == away {
		f.fs.notAway(in)
	}
	if end := in.size - index*ChunkSize; end < ChunkSize {
		clear(data[end:])
	}
	*s = slot{data: data, gen: f.fs.gen}
	return nil
}

// Extents yields the allocated chunks in order: their byte offset and a view of their bytes, the last one cut at the end of the file. A
// view is read-only and valid until its FS (not a clone of it) changes. It panics at a chunk that is away or on disk, instead of leaving it
// out: use Pieces for files with such chunks.
func (f *File) Extents() iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		in := f.in
		for i := range min(int64(len(in.table)), chunkCount(in.size)) {
			c := in.table[i].data
			if c == nil {
				continue
			}
			if c == away || c == spilled {
				panic("memfs: Extents of a file with chunks that are away")
			}
			off := i * ChunkSize
			if !yield(off, c[:min(ChunkSize, in.size-off)]) {
				return
			}
		}
	}
}

// Stat describes the file as it is now.
func (f *File) Stat() Info { return f.in.info() }

// Inode returns the file's number, unique in its tree while it lives and the same in clones.
func (f *File) Inode() uint64 { return f.in.ino }

// Path returns the current canonical path; it follows renames. "": unlinked.
func (f *File) Path() string { return f.fs.pathOf(f.in) }

// Flags returns the flags given to Open.
func (f *File) Flags() int { return f.flag }

// Close closes the file. A second Close: EBADF.
func (f *File) Close() error {
	if f.closed {
		return f.fail("close", syscall.EBADF)
	}
	f.closed = true
	f.in.opens--
	f.fs.dropIfUnused(f.in)
	return nil
}
