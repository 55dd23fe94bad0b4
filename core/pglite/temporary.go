package pglite

import (
	"strings"
	"time"

	"blobpglite/core/memfs"
)

// Temporary says where queries' temporary files are kept: those of sorts and hashes larger than work_mem, and of index builds. Temporary
// tables are not among them.
type Temporary struct {
	// Memory bounds how many bytes of them may be in memory; zero: no bound. Without a Disk, a statement that needs more fails with
	// SQLSTATE 53100.
	Memory int64
	// Disk holds the rest; nil: there is none.
	Disk memfs.Disk
}

// slowDisk is how long a disk may take while the cluster's lock is held. Data in the system's cache takes microseconds.
const slowDisk = 500 * time.Microsecond

// isQueryFile reports whether a file of the data directory is a query's temporary file.
func isQueryFile(path string) bool { return strings.Contains(path, "/pgsql_tmp/") }

// keepTemporary tells the file tree where temporary files go.
func (c *Cluster) keepTemporary() {
	t := memfs.Temporary{Is: isQueryFile, Memory: c.o.Temporary.Memory, Disk: c.o.Temporary.Disk, Wait: c.onDisk}
	if t.Memory == 0 {
		t.Memory = -1
	}
	c.o.Data.SetTemporary(t)
}

// onDisk runs I/O on the disk. As long as the system's cache serves it, the lock is kept; after a slow operation, others run during I/O
// until it is fast again.
func (c *Cluster) onDisk(io func()) {
	timed := func() {
		began := c.o.Clock.Monotonic()
		io()
		c.diskWaits.Store(c.o.Clock.Monotonic()-began > slowDisk)
	}
	p := c.Current()
	if p == nil || !c.diskWaits.Load() {
		timed()
		return
	}
	p.aside(timed)
	p.mustLive()
}
