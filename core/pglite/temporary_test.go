package pglite

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"blobpglite/core/clock"
)

// slowFile is a slow disk, which once waits for the test.
type slowFile struct {
	*os.File
	ctx     context.Context
	writes  atomic.Int64
	waitsAt int64
	waits   chan struct{} // closed when it does
	let     chan struct{}
}

func (d *slowFile) WriteAt(p []byte, off int64) (int, error) {
	if err := clock.System().Sleep(d.ctx, 2*slowDisk); err != nil {
		return 0, err
	}
	if d.writes.Add(1) == d.waitsAt {
		close(d.waits)
		<-d.let
	}
	return d.File.WriteAt(p, off)
}

// TestSlowDiskHoldsNobodyUp: a process that waits for a disk with temporary files delays no other.
func TestSlowDiskHoldsNobodyUp(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	disk := &slowFile{File: f, ctx: t.Context(), waitsAt: 20, waits: make(chan struct{}), let: make(chan struct{})}
	c := startCluster(t, ClusterOptions{Temporary: Temporary{Memory: 64 << 10, Disk: disk}, Settings: map[string]string{"autovacuum": "off"}})
	sorter, other := dial(t, c), dial(t, c)
	value(t, sorter, "SET work_mem = '64kB'")
	sorted := make(chan error, 1)
	go func() {
		var got int
		err := sorter.QueryRow(t.Context(), "SELECT count(*) FROM (SELECT md5(i::text) m FROM generate_series(1, 20000) i ORDER BY m OFFSET 10000) r").Scan(&got)
		if err == nil && got != 10000 {
			t.Errorf("%d rows", got)
		}
		sorted <- err
	}()
	select {
	case <-disk.waits:
	case err := <-sorted:
		t.Fatalf("it has sorted without the disk: %v", err)
	}
	if got := value(t, other, "SELECT 1"); got != "1" {
		t.Error(got)
	}
	close(disk.let)
	if err := <-sorted; err != nil {
		t.Error(err)
	}
	c.Locked(func() {
		if memory, onDisk := c.Data().TemporaryBytes(); memory != 0 || onDisk != 0 {
			t.Errorf("%d and %d bytes are left", memory, onDisk)
		}
	})
}
