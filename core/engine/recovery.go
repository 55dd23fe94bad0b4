package engine

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/wal"
)

// PostgreSQL takes anything it cannot read for the end of its log, without a message, and overwrites what follows. And if the control file
// says that it was shut down, it does not read its log at all. So the end of the log is determined here before PostgreSQL starts, and
// compared afterwards with how far it has recovered.

// ErrRecovery: the restored log holds more than PostgreSQL recovered, or could recover. Nothing was served and nothing was written. Restore
// an earlier state (OpenAt, or `pgserve branch -at`), and look for what damaged the log.
var ErrRecovery = errors.New("the log was not recovered to its end")

// recovery is what PostgreSQL has to recover when it starts on files.
type recovery struct {
	end  pgdata.LSN // of the last record
	mild bool       // nothing follows the checkpoint of a clean end, so it need not recover
}

// recoverable returns where recovery must end for restored files, into which records were replayed. It also makes PostgreSQL recover: if
// the control file says that it was shut down, but records follow, the file is changed. Errors: ErrRecovery, those of the files.
func recoverable(files *memfs.FS, records []wal.Record, logger *slog.Logger) (recovery, error) {
	body, err := files.ReadFile(pgdata.ControlPath)
	if err != nil {
		return recovery{}, err
	}
	control, err := pgdata.ParseControl(body)
	if err != nil {
		return recovery{}, err
	}
	size, err := segmentSize(files)
	if err != nil {
		return recovery{}, err
	}
	log := pgdata.Log{Segment: size, Read: func(name string) ([]byte, error) { return files.ReadFile(walDir + name) }}
	end, err := log.End(control, shipped(records, size))
	if err != nil {
		return recovery{}, fmt.Errorf("%w: %w", ErrRecovery, err)
	}
	if !control.ShutDown() {
		return recovery{end: end}, nil
	}
	if more, err := log.Behind(control); err != nil || !more {
		return recovery{end: end, mild: true}, err
	}
	logger.Warn("the layer says that PostgreSQL was shut down, but records follow it: they are recovered",
		"checkpoint", control.Checkpoint.String(), "end", end.String())
	return recovery{end: end}, files.WriteFile(pgdata.ControlPath, pgdata.InProduction(body), 0o600)
}

// recovered checks how far PostgreSQL recovered; to zero: not at all. Error: ErrRecovery.
func (r recovery) recovered(to pgdata.LSN) error {
	if to >= r.end || to == 0 && r.mild {
		return nil
	}
	return fmt.Errorf("%w: it ends at %s, but PostgreSQL stopped at %s", ErrRecovery, r.end, to)
}

// shipped is the place after the last byte of PostgreSQL's log that records carry; zero: they carry none. The last one counts: it is the
// highest of its life, and what an earlier life had written beyond it is void.
func shipped(records []wal.Record, segmentBytes uint64) pgdata.LSN {
	for i := len(records) - 1; i >= 0; i-- {
		for j := len(records[i].Ops) - 1; j >= 0; j-- {
			op := &records[i].Ops[j]
			name := segment(op.Path)
			if op.Kind != wal.OpWrite || name == "" {
				continue
			}
			if n := len(bytes.TrimRight(op.Data, "\x00")); n > 0 { // zeros may only fill the page
				return pgdata.SegmentStart(name, segmentBytes) + pgdata.LSN(op.Offset) + pgdata.LSN(n)
			}
		}
	}
	return 0
}

// reaches is the last nonzero byte of a write to PostgreSQL's log, as an operation: recovery must reach it.
func reaches(path string, off int64, p []byte) (wal.Op, bool) {
	if segment(path) == "" {
		return wal.Op{}, false
	}
	n := len(bytes.TrimRight(p, "\x00"))
	if n == 0 {
		return wal.Op{}, false
	}
	return wal.Op{Kind: wal.OpWrite, Path: path, Offset: off + int64(n) - 1, Data: []byte{p[n-1]}}, true
}

// inProduction makes the control file say that PostgreSQL runs, for a layer that records follow.
func inProduction(files *memfs.FS) error {
	body, err := files.ReadFile(pgdata.ControlPath)
	if err != nil {
		return err
	}
	control, err := pgdata.ParseControl(body)
	if err != nil || !control.ShutDown() {
		return err
	}
	return files.WriteFile(pgdata.ControlPath, pgdata.InProduction(body), 0o600)
}

// signals are files with which an operator makes PostgreSQL recover from an archive, onto a new timeline. That is not possible here.
var signals = map[string]bool{"recovery.signal": true, "standby.signal": true, "backup_label": true, "tablespace_map": true}

// isSignal says whether a file of the data directory is a signal.
func isSignal(name string) bool { return path.Dir(name) == "/" && signals[path.Base(name)] }

// dropSignals removes the signals.
func dropSignals(files *memfs.FS) error {
	for name := range signals {
		if _, err := files.Stat("/" + name); err == nil {
			if err := files.Unlink("/" + name); err != nil {
				return err
			}
		}
	}
	return nil
}
