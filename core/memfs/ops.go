package memfs

import (
	iofs "io/fs"
	"os"
	gopath "path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Dirent is one name in a directory.
type Dirent struct {
	Name string
	Ino  uint64
	Mode uint32 // kind and permission bits
}

// Stat describes what a path leads to, following symlinks. Errors: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG.
func (f *FS) Stat(path string) (Info, error) { return f.stat("stat", path, follow) }

// Lstat is Stat, but describes a symlink itself.
func (f *FS) Lstat(path string) (Info, error) { return f.stat("lstat", path, noFollow) }

func (f *FS) stat(op, path string, h how) (Info, error) {
	in, errno := f.lookup(path, h)
	if errno != 0 {
		return Info{}, pathError(op, path, errno)
	}
	return in.info(), nil
}

// newName resolves a path where something will be made: it must be absent.
func (f *FS) newName(path string, dir bool) (place, syscall.Errno) {
	at, errno := f.resolveName(path)
	switch {
	case errno != 0:
		return at, errno
	case at.in != nil:
		return at, syscall.EEXIST
	case at.mustDir && !dir:
		return at, syscall.ENOENT
	}
	return at, 0
}

func (f *FS) created(in *inode, at place) {
	if f.hooks.Create != nil {
		f.hooks.Create(join(f.pathOf(at.dir), at.name))
	}
}

// Mkdir makes a directory. Errors: EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP.
func (f *FS) Mkdir(path string, perm uint32) error {
	at, errno := f.newName(path, true)
	if errno != 0 {
		return pathError("mkdir", path, errno)
	}
	in := f.newInode(ModeDir | perm&modePerm)
	in.nlink = 2
	at.dir.nlink++
	f.link(at, in)
	f.created(in, at)
	return nil
}

// MkdirAll makes a directory and its missing parents. An existing directory is not an error; ENOTDIR if something else is in the way.
func (f *FS) MkdirAll(path string, perm uint32) error {
	if in, errno := f.lookup(path, follow); errno == 0 {
		if !in.isDir() {
			return pathError("mkdir", path, syscall.ENOTDIR)
		}
		return nil
	}
	clean := gopath.Clean("/" + path)
	if parent := gopath.Dir(clean); parent != clean {
		if err := f.MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	return f.Mkdir(clean, perm)
}

// Rmdir removes an empty directory. Errors: ENOENT, ENOTDIR, ENOTEMPTY, EBUSY (the root), EINVAL (".").
func (f *FS) Rmdir(path string) error {
	at, errno := f.resolveName(path)
	switch {
	case errno != 0:
	case at.in == nil:
		errno = syscall.ENOENT
	case at.dotted:
		errno = syscall.EINVAL
	case at.in.ino == rootIno:
		errno = syscall.EBUSY
	case !at.in.isDir():
		errno = syscall.ENOTDIR
	case at.dir == nil || len(at.in.entries) > 0:
		errno = syscall.ENOTEMPTY
	}
	if errno != 0 {
		return pathError("rmdir", path, errno)
	}
	name := f.nameFor(f.hooks.Unlink != nil, at)
	f.removeDir(at)
	if f.hooks.Unlink != nil {
		f.hooks.Unlink(name)
	}
	return nil
}

// removeDir removes the name of an empty directory.
func (f *FS) removeDir(at place) {
	at.in.nlink = 0
	at.dir.nlink--
	f.unlink(at)
	f.dropIfUnused(at.in)
}

// nameFor returns the canonical path of a place, if a hook needs it.
func (f *FS) nameFor(wanted bool, at place) string {
	if !wanted {
		return ""
	}
	return join(f.pathOf(at.dir), at.name)
}

// resolveName is resolve for calls that act on a name, never on the target of a symlink there.
func (f *FS) resolveName(path string) (place, syscall.Errno) {
	trimmed := strings.TrimRight(path, "/")
	at, errno := f.resolve(trimmed, noFollow)
	if errno == 0 && len(trimmed) < len(path) {
		at.mustDir = true
	}
	return at, errno
}

// Unlink removes a name of a file or symlink. Errors: ENOENT, ENOTDIR, EISDIR.
func (f *FS) Unlink(path string) error {
	at, errno := f.resolveName(path)
	switch {
	case errno != 0:
	case at.in == nil:
		errno = syscall.ENOENT
	case at.in.isDir():
		errno = syscall.EISDIR
	case at.mustDir:
		errno = syscall.ENOTDIR
	}
	if errno != 0 {
		return pathError("unlink", path, errno)
	}
	name := f.nameFor(f.hooks.Unlink != nil, at)
	f.removeFile(at)
	if f.hooks.Unlink != nil {
		f.hooks.Unlink(name)
	}
	return nil
}

// removeFile removes one name of a file or symlink.
func (f *FS) removeFile(at place) {
	at.in.nlink--
	at.in.ctime = f.nowNanos()
	f.unlink(at)
	f.dropIfUnused(at.in)
}

// Rename renames from to to, atomically replacing a file or an empty directory there. If both are names of one file, nothing
// happens. Errors as on Linux: ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL (into itself), EBUSY (the root, ".", "..").
func (f *FS) Rename(from, to string) error {
	src, dst, errno := f.renamePlaces(from, to)
	if errno != 0 {
		return pathError("rename", from+" -> "+to, errno)
	}
	if src.in == dst.in {
		return nil
	}
	wanted := f.hooks.Rename != nil
	oldName, newName := f.nameFor(wanted, src), f.nameFor(wanted, dst)
	if dst.in != nil {
		if dst.in.isDir() {
			f.removeDir(dst)
		} else {
			f.removeFile(dst)
		}
	}
	f.ownEntries(src.dir)
	if i, found := src.dir.find(src.name); found {
		src.dir.entries = slices.Delete(src.dir.entries, i, i+1)
	}
	f.touch(src.dir)
	f.link(dst, src.in)
	src.in.ctime = f.nowNanos()
	if src.in.isDir() {
		src.dir.nlink--
		dst.dir.nlink++
		f.dirEpoch++
	}
	if wanted {
		f.hooks.Rename(oldName, newName)
	}
	return nil
}

// renamePlaces resolves both ends and makes the checks in Linux's order.
func (f *FS) renamePlaces(from, to string) (src, dst place, errno syscall.Errno) {
	if src, errno = f.resolveName(from); errno != 0 {
		return
	}
	if dst, errno = f.resolveName(to); errno != 0 {
		return
	}
	switch {
	case src.in != nil && src.dir == nil, dst.in != nil && dst.dir == nil:
		errno = syscall.EBUSY
	case src.in == nil:
		errno = syscall.ENOENT
	case !src.in.isDir() && (src.mustDir || dst.mustDir):
		errno = syscall.ENOTDIR
	case f.isAncestor(src.in, dst.dir):
		errno = syscall.EINVAL
	case dst.in != nil && f.isAncestor(dst.in, src.dir):
		errno = syscall.ENOTEMPTY
	case dst.in == nil || dst.in == src.in:
	case src.in.isDir() && !dst.in.isDir():
		errno = syscall.ENOTDIR
	case !src.in.isDir() && dst.in.isDir():
		errno = syscall.EISDIR
	case dst.in.isDir() && len(dst.in.entries) > 0:
		errno = syscall.ENOTEMPTY
	}
	return
}

// isAncestor reports whether a is dir or a directory above it.
func (f *FS) isAncestor(a, dir *inode) bool {
	for d := dir; ; d = f.inodes[d.parent] {
		if d == a {
			return true
		}
		if d.ino == rootIno || d.parent == 0 {
			return false
		}
	}
}

// Link gives a file a second name. A symlink itself is linked, not its target. Errors: EEXIST, ENOENT, ENOTDIR, EPERM (a directory).
func (f *FS) Link(oldPath, newPath string) error {
	in, errno := f.lookup(oldPath, noFollow)
	var at place
	if errno == 0 {
		at, errno = f.newName(newPath, false)
	}
	if errno == 0 && in.isDir() {
		errno = syscall.EPERM
	}
	if errno != 0 {
		return pathError("link", oldPath+" -> "+newPath, errno)
	}
	in.nlink++
	in.ctime = f.nowNanos()
	parent, name, cached, epoch := in.parent, in.name, in.path, in.pathEpoch
	f.link(at, in)
	in.parent, in.name, in.path, in.pathEpoch = parent, name, cached, epoch // its first name remains its path
	f.created(in, at)
	return nil
}

// Symlink makes a symbolic link at path. An absolute target starts at this tree's root. Errors: EEXIST, ENOENT (also:
// an empty target), ENOTDIR, ENAMETOOLONG.
func (f *FS) Symlink(target, path string) error {
	at, errno := f.newName(path, false)
	switch {
	case target == "":
		errno = syscall.ENOENT
	case len(target) > PathMax:
		errno = syscall.ENAMETOOLONG
	}
	if errno != 0 {
		return pathError("symlink", path, errno)
	}
	in := f.newInode(ModeSymlink | 0o777)
	in.target, in.size = strings.Clone(target), int64(len(target))
	f.link(at, in)
	f.created(in, at)
	return nil
}

// Readlink returns a symlink's target. Errors: EINVAL if it is not one, those of Lstat.
func (f *FS) Readlink(path string) (string, error) {
	in, errno := f.lookup(path, noFollow)
	if errno == 0 && !in.isSymlink() {
		errno = syscall.EINVAL
	}
	if errno != 0 {
		return "", pathError("readlink", path, errno)
	}
	return in.target, nil
}

// Chmod sets the permission bits, following symlinks. Errors: those of Stat.
func (f *FS) Chmod(path string, perm uint32) error {
	in, errno := f.lookup(path, follow)
	if errno != 0 {
		return pathError("chmod", path, errno)
	}
	in.mode = in.mode&ModeType | perm&modePerm
	in.ctime = f.nowNanos()
	return nil
}

// Chtimes sets access and modification time, following symlinks. A zero time leaves the value unchanged. Errors: those of Stat.
func (f *FS) Chtimes(path string, atime, mtime time.Time) error {
	in, errno := f.lookup(path, follow)
	if errno != 0 {
		return pathError("chtimes", path, errno)
	}
	if !atime.IsZero() {
		in.atime = atime.UnixNano()
	}
	if !mtime.IsZero() {
		in.mtime = mtime.UnixNano()
	}
	in.ctime = f.nowNanos()
	return nil
}

// Truncate sets a file's size in bytes, following symlinks. Errors: EISDIR, EINVAL, EFBIG, ENOENT, ENOTDIR, an AwayError.
func (f *FS) Truncate(path string, size int64) error {
	in, errno := f.lookup(path, follow)
	if size < 0 {
		errno = syscall.EINVAL
	}
	if errno == 0 && in.isDir() {
		errno = syscall.EISDIR
	}
	if errno == 0 {
		if missing := in.toTruncate(size); missing != nil {
			return pathError("truncate", path, needs(missing))
		}
		errno = f.truncate(in, size)
	}
	if errno != 0 {
		return pathError("truncate", path, errno)
	}
	f.fireTruncate(in)
	return nil
}

// Forget drops the contents of a regular file, which then reads as zeros; its size stays, and no hook is called. It is for a host that
// knows that the contents will not be read. Clones keep theirs. Errors: ENOENT, ENOTDIR, EINVAL (not a regular file).
func (f *FS) Forget(path string) error {
	in, errno := f.lookup(path, follow)
	if errno == 0 && !in.isRegular() {
		errno = syscall.EINVAL
	}
	if errno != 0 {
		return pathError("forget", path, errno)
	}
	size := in.size
	f.truncate(in, 0)
	f.truncate(in, size)
	return nil
}

// ReadDir lists a directory, sorted by name, without "." and "..". Errors: ENOENT, ENOTDIR.
func (f *FS) ReadDir(path string) ([]Dirent, error) {
	in, errno := f.lookup(path, follow)
	if errno == 0 && !in.isDir() {
		errno = syscall.ENOTDIR
	}
	if errno != 0 {
		return nil, pathError("readdir", path, errno)
	}
	list := make([]Dirent, len(in.entries))
	for i, e := range in.entries {
		list[i] = Dirent{Name: e.name, Ino: e.ino, Mode: f.inodes[e.ino].mode}
	}
	return list, nil
}

// Walk calls fn for root and everything below it, with canonical paths: a directory before its contents, names in sorted order, symlinks
// not followed. fn must not change the tree. fs.SkipDir from fn skips a directory, fs.SkipAll ends the walk; neither is an error.
func (f *FS) Walk(root string, fn func(path string, info Info) error) error {
	in, errno := f.lookup(root, noFollow)
	if errno != 0 {
		return pathError("walk", root, errno)
	}
	err := f.walk(gopath.Clean("/"+root), in, fn)
	if err == iofs.SkipAll || err == iofs.SkipDir {
		return nil
	}
	return err
}

func (f *FS) walk(path string, in *inode, fn func(string, Info) error) error {
	if err := fn(path, in.info()); err != nil {
		return err
	}
	for _, e := range in.entries {
		child := f.inodes[e.ino]
		err := f.walk(join(path, e.name), child, fn)
		if err == iofs.SkipDir && child.isDir() {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadFile returns a file's bytes. Errors: those of Open, an AwayError.
func (f *FS) ReadFile(path string) ([]byte, error) {
	in, errno := f.lookup(path, follow)
	if errno == 0 && in.isDir() {
		errno = syscall.EISDIR
	}
	if errno != 0 {
		return nil, pathError("read", path, errno)
	}
	if err := f.fill(in); err != nil {
		return nil, pathError("read", path, err)
	}
	if missing := in.toRead(0, in.size); missing != nil {
		return nil, pathError("read", path, needs(missing))
	}
	p := make([]byte, in.size)
	if _, errno := f.read(in, p, 0); errno != 0 {
		return nil, pathError("read", path, errno)
	}
	return p, nil
}

// WriteFile makes a file, or replaces its bytes. perm is for a new file. Errors: those of Open, ENOSPC, EFBIG.
func (f *FS) WriteFile(path string, data []byte, perm uint32) error {
	file, err := f.Open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteAt(data, 0)
	return err
}
