package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"blobpglite/core/memfs"
	"blobpglite/core/wal"
)

// walShipper turns what PostgreSQL writes to its files into operations for log records. It lives in the hooks of the file tree, so it sees
// every write in order, under the cluster's lock.
//
// Two kinds of files are carried:
//
//   - segments of the write-ahead log, as byte ranges. PostgreSQL writes whole 8 KiB pages and, as the last page fills, the same page again
//     and again; the range carries only what changed since the page was last seen, a few hundred bytes for a small transaction. Creation,
//     renaming and removal of segments are not carried: a restore gives each segment its full size, and old ones go when the base moves.
//   - configuration that PostgreSQL changes without logging it: files directly in the data directory that end in .conf (ALTER SYSTEM writes
//     postgresql.auto.conf), each as a whole.
//
// PostgreSQL either logs everything else or can do without it: data files and commit status are replayed from the log; statistics and the
// contents of unlogged tables are lost in a crash, here as anywhere.
type walShipper struct {
	files *memfs.FS
	emit  func(wal.Op)

	// The page written last, with which its next write is compared.
	path string
	off  int64
	page [walPage]byte
	// fresh are segments created in this life, under a temporary name and empty: what was not written since is zero.
	fresh map[string]int64 // highest offset written so far
	zero  [walPage]byte
}

// walPage is PostgreSQL's XLOG_BLCKSZ.
const walPage = 8192

// walDir holds the segments.
const walDir = "/pg_wal/"

func newWALShipper(files *memfs.FS, emit func(wal.Op)) *walShipper {
	return &walShipper{files: files, emit: emit, fresh: map[string]int64{}}
}

// segment returns the name of a log segment, or "".
func segment(path string) string {
	name, ok := strings.CutPrefix(path, walDir)
	if !ok || !isSegment(name) {
		return ""
	}
	return name
}

// isConfig says whether a file is configuration that PostgreSQL does not log.
func isConfig(path string) bool {
	return strings.HasSuffix(path, ".conf") && strings.LastIndexByte(path, '/') == 0
}

func (c *walShipper) write(path string, off int64, p []byte) {
	switch {
	case segment(path) != "":
		c.segmentWrite(path, off, p)
	case isConfig(path):
		c.config(path)
	}
}

func (c *walShipper) rename(from, to string) {
	switch {
	case segment(to) != "":
		delete(c.fresh, to)
		if segment(from) == "" && c.empty(to) { // it is not a used segment under a new name
			c.fresh[to] = 0
		}
	case isConfig(to):
		c.config(to)
	}
	delete(c.fresh, from)
	if from == c.path || to == c.path {
		c.path = ""
	}
}

// empty says whether a file holds only zeros.
func (c *walShipper) empty(path string) bool {
	body, err := c.files.ReadFile(path)
	return err == nil && len(bytes.TrimLeft(body, "\x00")) == 0
}

func (c *walShipper) unlink(path string) {
	delete(c.fresh, path)
	if path == c.path {
		c.path = ""
	}
	if isConfig(path) {
		c.emit(wal.Op{Kind: wal.OpRemove, Path: path})
	}
}

// config carries a configuration file in its current state.
func (c *walShipper) config(path string) {
	body, err := c.files.ReadFile(path)
	if err != nil {
		return // it has been removed by now: its removal is carried instead
	}
	c.emit(wal.Op{Kind: wal.OpReplace, Path: path, Data: body})
}

// segmentWrite carries the changed bytes of each page of a write.
func (c *walShipper) segmentWrite(path string, off int64, p []byte) {
	start, data := off, []byte(nil)
	flush := func() {
		if len(data) > 0 {
			c.emit(wal.Op{Kind: wal.OpWrite, Path: path, Offset: start, Data: data})
		}
	}
	for len(p) > 0 {
		n := min(walPage-int(off%walPage), len(p))
		at, changed := c.changed(path, off, p[:n])
		if at != start+int64(len(data)) || len(data) == 0 {
			flush()
			start, data = at, make([]byte, 0, len(changed)+len(p)-n) // the pages that follow are new, as a rule
		}
		data = append(data, changed...)
		c.remember(path, off, p[:n])
		off, p = off+int64(n), p[n:]
	}
	flush()
}

// changed returns the range of one page's write that differs from what the page held, as far as that is known.
func (c *walShipper) changed(path string, off int64, p []byte) (int64, []byte) {
	var old []byte
	top, fresh := c.fresh[path]
	switch {
	case path == c.path && off == c.off && len(p) <= walPage:
		old = c.page[:len(p)]
	case fresh && off >= top:
		old = c.zero[:len(p)]
	default:
		return off, p // not known: all of it
	}
	first := 0
	for first < len(p) && p[first] == old[first] {
		first++
	}
	last := len(p)
	for last > first && p[last-1] == old[last-1] {
		last--
	}
	return off + int64(first), p[first:last]
}

// remember keeps a page for the next comparison.
func (c *walShipper) remember(path string, off int64, p []byte) {
	if top, ok := c.fresh[path]; ok {
		c.fresh[path] = max(top, off+int64(len(p)))
	}
	if off%walPage != 0 || len(p) != walPage {
		c.path = "" // a partial page: PostgreSQL writes none, so nothing is lost by not comparing
		return
	}
	c.path, c.off = path, off
	copy(c.page[:], p)
}

// apply applies an operation to files: it is the restore's counterpart of walShipper. segmentBytes is the full size of a log segment:
// PostgreSQL takes a segment that is too short for the end of its log.
func apply(files *memfs.FS, op wal.Op, segmentBytes int64) error {
	switch op.Kind {
	case wal.OpReplace:
		return files.WriteFile(op.Path, op.Data, 0o600)
	case wal.OpRemove:
		if err := files.Unlink(op.Path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if segment(op.Path) == "" || op.Offset+int64(len(op.Data)) > segmentBytes {
		return fmt.Errorf("%w: a write of %d bytes at %d of %s has no position in the log", wal.ErrCorrupt, len(op.Data), op.Offset, op.Path)
	}
	f, err := files.Open(op.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Stat().Size < segmentBytes {
		if err := f.Truncate(segmentBytes); err != nil {
			return err
		}
	}
	_, err = f.WriteAt(op.Data, op.Offset)
	return err
}
