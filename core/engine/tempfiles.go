package engine

import (
	"fmt"
	"math"
	"os"
	"strconv"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// tempShare says that queries' temporary files may take 1/tempShare of Options.Cache in memory; tempShareOnDisk is the same where there is
// a disk for more.
const tempShare, tempShareOnDisk = 2, 8

// tempMemory is how many bytes of temporary files may be in memory; 0: no bound.
func (o *Options) tempMemory() int64 {
	switch {
	case o.TempMemory != 0 || o.Cache == 0:
		return max(o.TempMemory, 0)
	case o.TempDir != "":
		return o.Cache / tempShareOnDisk
	}
	return o.Cache / tempShare
}

// limitTemporary sets temp_file_limit, so that PostgreSQL itself rejects a statement that needs more than may be in memory: its message is
// clearer than a full disk's. The limit is per process; all together may use a little more.
func (o *Options) limitTemporary(settings map[string]string) {
	const slack = 16 // 1/slack of the share is kept free for chunks that are not full
	if n := o.tempMemory(); n > 0 && o.TempDir == "" {
		settings["temp_file_limit"] = strconv.FormatInt(min((n-n/slack)>>10, math.MaxInt32), 10) + "kB" // PostgreSQL takes no more
	}
}

// tempDisk is an unnamed file on Options.TempDir.
type tempDisk struct{ *os.File }

// openTempDisk makes the file if there is a folder for it.
func (e *Engine) openTempDisk() error {
	if e.o.TempDir == "" {
		return nil
	}
	f, err := os.CreateTemp(e.o.TempDir, "blobpglite-temp-")
	if err != nil {
		return fmt.Errorf("create a file for queries' temporary data: %w; name a folder on a disk that this process can write to", err)
	}
	_ = os.Remove(f.Name()) // so nothing is left however this process ends; where an open file cannot be removed, close does it
	e.temp = &tempDisk{f}
	return nil
}

func (d *tempDisk) close() {
	if d != nil {
		_ = d.Close()
		_ = os.Remove(d.Name())
	}
}

// temporary says where PostgreSQL's temporary files go.
func (e *Engine) temporary() pglite.Temporary {
	t := pglite.Temporary{Memory: e.o.tempMemory()}
	if e.temp != nil {
		t.Disk = memfs.Disk(e.temp)
	}
	return t
}
