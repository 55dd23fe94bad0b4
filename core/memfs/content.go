package memfs

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Content is the bytes of a file that are not read before somebody opens the file. It may be installed in any number of trees, which
// have their own goroutines, and is kept in memory once.
type Content struct {
	size int64
	read func() ([]byte, error)

	mu    sync.Mutex
	table []slot // of generation zero, so that no tree takes a chunk for its own; nil: nobody has opened it
}

// NewContent is size bytes that read gives. After an error it is asked again.
func NewContent(size int64, read func() ([]byte, error)) *Content {
	return &Content{size: size, read: read}
}

// Install makes a file with a content to come. It takes its room at once. Hooks hear that the file was made, and of no write. Errors:
// those of Mkdir, EFBIG, ENOSPC.
func (f *FS) Install(path string, perm uint32, mtime time.Time, c *Content) error {
	at, errno := f.newName(path, false)
	n := chunkCount(c.size)
	switch {
	case errno != 0:
	case c.size < 0 || c.size > MaxFileSize:
		errno = syscall.EFBIG
	case !f.room(n):
		errno = syscall.ENOSPC
	}
	if errno != 0 {
		return pathError("install", path, errno)
	}
	in := f.newInode(ModeRegular | perm&modePerm)
	in.content, in.size, in.chunks = c, c.size, n
	in.mtime = mtime.UnixNano()
	f.usedBytes += n * ChunkSize
	f.unreadChunks += n
	f.link(at, in)
	f.created(in, at)
	return nil
}

// fill brings the content of a file that is opened.
func (f *FS) fill(in *inode) error {
	if in.content == nil {
		return nil
	}
	table, err := in.content.chunks()
	if err != nil {
		return fmt.Errorf("%w: %w", syscall.EIO, err)
	}
	in.table, in.tableGen, in.content = table, 0, nil
	f.unreadChunks -= in.chunks
	return nil
}

// chunks reads the content, once.
func (c *Content) chunks() ([]slot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table != nil || c.size == 0 {
		return c.table, nil
	}
	b, err := c.read()
	if err == nil && int64(len(b)) != c.size {
		err = fmt.Errorf("%d bytes instead of %d", len(b), c.size)
	}
	if err != nil {
		return nil, err
	}
	c.table = make([]slot, chunkCount(c.size))
	all := make([][ChunkSize]byte, len(c.table))
	for i := range c.table {
		copy(all[i][:], b[i*ChunkSize:])
		c.table[i].data = &all[i]
	}
	return c.table, nil
}
