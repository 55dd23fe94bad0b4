package engine

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"

	"blobpglite/core/base"
	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
)

// emptiedAtStart are directories whose files PostgreSQL recreates when it starts; the directories themselves must exist. (The list is the
// one of PostgreSQL's own base backups.)
var emptiedAtStart = map[string]bool{
	"/pg_dynshmem": true, "/pg_notify": true, "/pg_replslot": true, "/pg_serial": true, "/pg_snapshots": true,
	"/pg_stat_tmp": true, "/pg_subtrans": true,
}

// layerOptions says which files of a data directory belong in a layer: data files and the log from the redo point on, but no older log, and
// nothing that PostgreSQL recreates or deletes when it starts. With spill the layer also holds temporary tables: no restore uses them, but
// their pages can then be evicted from memory.
func layerOptions(files *memfs.FS, spill bool) (o base.WriteOptions, err error) {
	first, redo, err := redoPlace(files)
	if err != nil {
		return o, fmt.Errorf("find the redo point: %w", err)
	}
	o.Include = func(name string, info memfs.Info) bool {
		dir, file := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		switch {
		case info.IsDir():
			return !strings.HasPrefix(file, "pgsql_tmp")
		case emptiedAtStart[dir]:
			return false
		case dir+"/" == walDir && isSegment(file):
			return file >= first || file[:8] != first[:8]
		case isTemporary(name):
			return (spill || info.Kept) && !strings.HasPrefix(file, "pgsql_tmp")
		case isSignal(name), file == "postmaster.pid", file == "postmaster.opts", file == "pg_internal.init":
			return false
		}
		return true
	}
	o.LeaveOut = func(name string) (from, end int64) {
		if name != walDir+first {
			return 0, 0
		}
		return 1, redo / memfs.ChunkSize // recovery that begins in the middle of a segment also reads its header
	}
	o.Rewrite = pgdata.ControlPath // inProduction changes it in the clone
	return o, nil
}

// Offsets and sizes in a log segment. PostgreSQL's own start checks the header.
const (
	segmentSizeAt    = 32 // xlp_seg_size of the first page, 4 bytes
	segmentNameBytes = 24
)

// redoPlace is where recovery begins: the name of a log segment, and the offset in it.
func redoPlace(files *memfs.FS) (segment string, at int64, err error) {
	b, err := files.ReadFile(pgdata.ControlPath)
	if err != nil {
		return "", 0, err
	}
	control, err := pgdata.ParseControl(b)
	if err != nil {
		return "", 0, err
	}
	size, err := segmentSize(files)
	if err != nil {
		return "", 0, err
	}
	return pgdata.SegmentName(control.Timeline, control.Redo, size), int64(uint64(control.Redo) % size), nil
}

// segmentSize is the size of a log segment, read from a segment's header.
func segmentSize(files *memfs.FS) (uint64, error) {
	list, err := files.ReadDir("/pg_wal")
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		if !isSegment(d.Name) {
			continue
		}
		b, err := files.ReadFile(walDir + d.Name)
		if err != nil {
			return 0, err
		}
		if len(b) < segmentSizeAt+4 {
			continue
		}
		if size := uint64(binary.LittleEndian.Uint32(b[segmentSizeAt:])); size >= 1<<20 && size <= 1<<30 && size&(size-1) == 0 {
			return size, nil
		}
	}
	return 0, fmt.Errorf("pg_wal holds no log segment with a valid header")
}

func isSegment(name string) bool {
	if len(name) != segmentNameBytes {
		return false
	}
	for i := 0; i < segmentNameBytes; i += 8 {
		if _, err := strconv.ParseUint(name[i:i+8], 16, 32); err != nil {
			return false
		}
	}
	return true
}
