package pglite

import (
	"strings"
	"time"

	"blobpglite/core/memfs"
)

// Temporary says where the temporary files of queries are kept: those of sorts and hashes larger than work_mem, and of the making of
// indexes. Temporary tables are not among them.
type Temporary struct {
	// Memory is how many bytes of them may be in memory; zero: any number. Without a Disk, a statement that needs more fails with
	// SQLSTATE 53100.
	Memory int64
	// Disk holds the rest; nil: there is none.
	Disk memfs.Disk
}

// slowDisk is how long a disk may take while the cluster's lock is held. What is in the system's cache takes microseconds.
const slowDisk = 500 * time.Microsecond

// isQueryFile says whether a file of the data directory is one that a query makes for itself.
func isQueryFile(path string) bool { return strings.Contains(path, "/pgsql_tmp/") }

// keepTemporary tells the files where the temporary ones are.
func (c *Cluster) keepTemporary() {
	t := memfs.Temporary{Is: isQueryFile, Memory: c.o.Temporary.Memory, Disk: c.o.Temporary.Disk, Wait: c.onDisk}
	if t.Memory == 0 {
		t.Memory = -1
	}
	c.o.Data.SetTemporary(t)
}

// onDisk runs what reads or writes the disk. As long as that is the system's cache, the lock is kept; after something that took long, others
// run meanwhile, until it is fast again.
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
