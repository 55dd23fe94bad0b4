package engine

import (
	"fmt"
	"os"
	"strconv"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// tempShare is what queries' temporary files may take of Options.Cache in memory, one over it, and tempShareOnDisk where there is a disk for more.
// What of tables no layer has may be half as much as the cache over it, so that all of it is within what the cache may come to.
const tempShare, tempShareOnDisk = 2, 8

// tempMemory is how much of temporary files may be in memory; 0: any number of bytes.
func (o *Options) tempMemory() int64 {
	switch {
	case o.TempMemory != 0 || o.Cache == 0:
		return max(o.TempMemory, 0)
	case o.TempDir != "":
		return o.Cache / tempShareOnDisk
	}
	return o.Cache / tempShare
}

// limitTemporary has PostgreSQL itself tell a statement that it needs more than there may be in memory: temp_file_limit is what people know, and
// the disk that is full what they would have to guess. It is each process's; all of them together may come to a little more.
func (o *Options) limitTemporary(settings map[string]string) {
	const slack = 16 // one over it: chunks that are not full
	if n := o.tempMemory(); n > 0 && o.TempDir == "" {
		settings["temp_file_limit"] = strconv.FormatInt((n-n/slack)>>10, 10) + "kB"
	}
}

// tempDisk is a file without a name on Options.TempDir.
type tempDisk struct{ *os.File }

// openTempDisk makes the file, if there is a folder for it.
func (e *Engine) openTempDisk() error {
	if e.o.TempDir == "" {
		return nil
	}
	f, err := os.CreateTemp(e.o.TempDir, "blobpglite-temp-")
	if err != nil {
		return fmt.Errorf("make a file for what queries sort: %w; name a folder of a disk that this process may write to", err)
	}
	_ = os.Remove(f.Name()) // whatever ends this process, nothing is left; where that is not possible, close does it
	e.temp = &tempDisk{f}
	return nil
}

func (d *tempDisk) close() {
	if d != nil {
		_ = d.Close()
		_ = os.Remove(d.Name())
	}
}

// temporary is where PostgreSQL has its temporary files.
func (e *Engine) temporary() pglite.Temporary {
	t := pglite.Temporary{Memory: e.o.tempMemory()}
	if e.temp != nil {
		t.Disk = memfs.Disk(e.temp)
	}
	return t
}
