package memfs

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Content is the bytes of a file, read only when the file is first opened. It may be installed in any number of trees, of different
// goroutines, and is in memory once.
type Content struct {
	size int64
	read func() ([]byte, error)

	mu    sync.Mutex
	table []slot // of generation zero, so that no tree takes a chunk for its own; nil: not read yet
}

// NewContent makes a Content of size bytes, which read returns. After an error, the next opening calls read again.
func NewContent(size int64, read func() ([]byte, error)) *Content {
	return &Content{size: size, read: read}
}

// Install makes a file whose content is read when it is first opened. It counts towards MaxBytes immediately. Hooks see the creation of the
// file, and no write. Errors: those of Mkdir, EFBIG, ENOSPC.
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

// fill reads the content of a file that is being opened.
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
