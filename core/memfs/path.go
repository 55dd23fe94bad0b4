package memfs

import (
	"slices"
	"strings"
	"syscall"
)

// entry is one name in a directory. gen: the generation in which the name got this inode.
type entry struct {
	name string
	ino  uint64
	gen  uint64
}

// place is where a path leads.
type place struct {
	dir     *inode // directory of the last component; nil if the path is the root or ends in "." or ".."
	name    string // last component; "" when dir is nil
	in      *inode // the inode there; nil: none
	gen     uint64 // newest generation of the names on the way
	mustDir bool   // the path ends in a slash
	dotted  bool   // the path ends in "."
}

// how says what resolve does with the last component; bits may be combined.
type how uint8

const (
	noFollow how = 0
	follow   how = 1 << 0 // follow a final symlink
	creating how = 1 << 1 // a file may be made there: a trailing slash is EISDIR
)

// resolve walks a path from the root. Symlinks in the middle are followed, the last one with follow or if the path ends in a slash. A
// missing last component is not an error here, nor is one that contradicts mustDir.
func (f *FS) resolve(path string, h how) (place, syscall.Errno) {
	if len(path) > PathMax {
		return place{}, syscall.ENAMETOOLONG
	}
	cur := place{in: f.inodes[rootIno]}
	for links := 0; ; {
		if cur.in == nil { // also the root, of a discarded tree
			return place{}, syscall.ENOENT
		}
		rest := strings.TrimLeft(path, "/")
		if rest == "" {
			return cur, 0
		}
		name, tail, slash := strings.Cut(rest, "/")
		tail = strings.TrimLeft(tail, "/")
		last := tail == ""
		if !cur.in.isDir() {
			return place{}, syscall.ENOTDIR
		}
		next, errno := f.step(cur, name)
		if errno != 0 {
			return place{}, errno
		}
		next.mustDir = last && slash
		if next.mustDir && next.dir != nil && h&creating != 0 {
			return place{}, syscall.EISDIR
		}
		if next.in != nil && next.in.isSymlink() && (!last || h&follow != 0 || next.mustDir) {
			if links++; links > maxSymlinks {
				return place{}, syscall.ELOOP
			}
			path = next.in.target
			if !last || slash {
				path += "/" + tail
			}
			gen := next.gen
			if strings.HasPrefix(path, "/") {
				cur = place{in: f.inodes[rootIno]}
			}
			cur.gen = max(cur.gen, gen)
			continue
		}
		if last {
			return next, 0
		}
		cur, path = next, tail
	}
}

// step goes from the directory cur.in to one component.
func (f *FS) step(cur place, name string) (place, syscall.Errno) {
	dir := cur.in
	switch {
	case name == ".":
		return place{in: dir, gen: cur.gen, dotted: true}, 0
	case name == "..":
		if dir.ino == rootIno {
			return place{in: dir}, 0
		}
		if dir.parent == 0 {
			return place{}, syscall.ENOENT
		}
		return place{in: f.inodes[dir.parent], gen: cur.gen}, 0
	case len(name) > NameMax:
		return place{}, syscall.ENAMETOOLONG
	case strings.IndexByte(name, 0) >= 0:
		return place{}, syscall.EINVAL
	}
	next := place{dir: dir, name: name, gen: cur.gen}
	if i, ok := dir.find(name); ok {
		e := &dir.entries[i]
		next.in, next.gen = f.inodes[e.ino], max(cur.gen, e.gen)
	}
	return next, 0
}

// lookup resolves a path that must exist.
func (f *FS) lookup(path string, h how) (*inode, syscall.Errno) {
	at, errno := f.resolve(path, h)
	if errno != 0 {
		return nil, errno
	}
	if at.in == nil {
		return nil, syscall.ENOENT
	}
	if at.mustDir && !at.in.isDir() {
		return nil, syscall.ENOTDIR
	}
	return at.in, 0
}

func (in *inode) find(name string) (int, bool) {
	return slices.BinarySearchFunc(in.entries, name, func(e entry, name string) int {
		return strings.Compare(e.name, name)
	})
}

// ownEntries makes a directory's entries private before a change.
func (f *FS) ownEntries(dir *inode) {
	if dir.entriesGen < f.ownedFrom {
		dir.entries = slices.Clone(dir.entries)
		dir.entriesGen = f.gen
	}
}

// link gives in the name at: as a new entry, or replacing an old one.
func (f *FS) link(at place, in *inode) {
	f.ownEntries(at.dir)
	name := strings.Clone(at.name) // the caller's path may be part of something large
	e := entry{name: name, ino: in.ino, gen: f.gen}
	i, found := at.dir.find(name)
	if found {
		at.dir.entries[i] = e
	} else {
		at.dir.entries = slices.Insert(at.dir.entries, i, e)
	}
	in.parent, in.name, in.path = at.dir.ino, name, ""
	f.touch(at.dir)
}

// unlink takes the name at away from its inode; the caller adjusts nlink first.
func (f *FS) unlink(at place) {
	f.ownEntries(at.dir)
	if i, found := at.dir.find(at.name); found {
		at.dir.entries = slices.Delete(at.dir.entries, i, i+1)
	}
	f.touch(at.dir)
	f.forgetName(at.in, at.dir.ino, at.name)
}

// forgetName is called when one name of an inode is gone: if the path was that name, it becomes another one.
func (f *FS) forgetName(in *inode, dir uint64, name string) {
	if in.parent != dir || in.name != name {
		return
	}
	in.parent, in.name, in.path = 0, "", ""
	if in.nlink == 0 || in.isDir() {
		return
	}
	for _, d := range f.inodes { // hard links are rare: look for one
		if d == nil || !d.isDir() {
			continue
		}
		for i := range d.entries {
			if d.entries[i].ino == in.ino {
				in.parent, in.name = d.ino, d.entries[i].name
				return
			}
		}
	}
}

// touch sets mtime and ctime.
func (f *FS) touch(in *inode) {
	now := f.nowNanos()
	in.mtime, in.ctime = now, now
}
