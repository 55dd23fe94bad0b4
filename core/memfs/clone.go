package memfs

import (
	"iter"
	"slices"
	"time"
)

// Mark is a point in the life of a tree, see FS.Mark. The zero Mark precedes everything.
type Mark uint64

// Mark marks the present: everything written from now on counts as written since it. It is valid for this tree and for clones made later.
func (f *FS) Mark() Mark {
	m := Mark(f.gen)
	f.gen = f.family.gen.Add(1)
	return m
}

// Clone makes a second tree with the same contents that shares all chunks. It costs a copy of the inodes (no file data, no names). From
// then on both may change, and be used by different goroutines; hooks and open Files stay with the original. A file that is unlinked but
// open is in the clone, for OpenInode. What is away is away in both, and each fetches it for itself, from the same Source. Temporary files
// are empty in the clone.
func (f *FS) Clone() *FS {
	next := f.family.gen.Add(2)
	c := &FS{
		family: f.family, gen: next, ownedFrom: next, opts: f.opts,
		inodes: make([]*inode, len(f.inodes)), freeInos: slices.Clone(f.freeInos),
		usedBytes: f.usedBytes - f.temp.total*ChunkSize, awayChunks: f.awayChunks, unreadChunks: f.unreadChunks, dirEpoch: f.dirEpoch,
	}
	f.gen, f.ownedFrom = next-1, next-1
	block := make([]inode, len(f.inodes)-len(f.freeInos)-1)
	for i, in := range f.inodes {
		if in == nil {
			continue
		}
		copied := &block[0]
		block = block[1:]
		*copied = *in
		copied.opens, copied.seen = 0, nil
		if in.temp != nil {
			copied.withoutTemp()
		}
		c.inodes[i] = copied
	}
	return c
}

// Discard frees the tree's memory for good, including that of open Files, so references that outlive the owner's work keep nothing alive.
// Clones keep what they share. Afterwards no path exists, not even the root, open Files are empty, and hooks are not called.
func (f *FS) Discard() {
	for _, in := range f.inodes {
		if in != nil {
			*in = inode{ino: in.ino, mode: in.mode, opens: in.opens}
		}
	}
	clear(f.inodes)
	f.hooks, f.free, f.temp, f.hand = Hooks{}, nil, temporary{}, hand{}
	f.usedBytes, f.awayChunks, f.unreadChunks = 0, 0, 0
}

// Use replaces a tree's options.
func (f *FS) Use(o Options) {
	if o.Now == nil {
		o.Now = time.Now
	}
	f.opts = o
}

// ChangedSince yields the indexes, ascending, of a file's chunks that were written or cut off since m; one that is now a hole reads as
// zeros. Indexes past the end are left out: the size is in Info. If the path has had this file only since m (it was created, renamed or
// linked, or a directory above it was), all its chunks are yielded; if the path is absent or not a regular file, none are. The tree must
// not change during the iteration.
func (f *FS) ChangedSince(path string, m Mark) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		at, errno := f.resolve(path, follow)
		if errno != 0 || at.in == nil || !at.in.isRegular() {
			return
		}
		n := chunkCount(at.in.size)
		all := at.gen > uint64(m)
		if !all {
			n = min(n, int64(len(at.in.table)))
		}
		for i := range n {
			if (all || at.in.table[i].gen > uint64(m)) && !yield(i) {
				return
			}
		}
	}
}
