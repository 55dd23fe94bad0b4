// Package pgdata reads files of a PostgreSQL 18 data directory without PostgreSQL: the control file, the end of the
// write-ahead log, shared catalogs. So a restore can be checked before and after PostgreSQL's own recovery, which
// silently takes anything that it cannot read for the end of the log.
//
//	control, err := pgdata.ParseControl(body)            // global/pg_control
//	end, err := log.End(control, shipped)                // the end of the last whole record; ErrCut: there is more, unreadable
//	body = pgdata.InProduction(body)                     // PostgreSQL recovers, whatever the file said
//
// The layouts are those of src/include/catalog/pg_control.h, access/xlog_internal.h and access/xlogrecord.h, little
// endian, with eight-byte integers at multiples of eight.
package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// ErrCorrupt: the control file is damaged, or of another version of PostgreSQL. Restore another state.
var ErrCorrupt = errors.New("the control file is damaged")

// ControlPath is the path of the control file in a data directory.
const ControlPath = "/global/pg_control"

// Offsets in the control file.
const (
	controlSystem      = 0
	controlVersionAt   = 8
	controlState       = 16
	controlCheckpoint  = 32 // where the last checkpoint's record begins
	controlRedo        = 40 // where recovery from it begins
	controlTimeline    = 48
	controlConnections = 180 // MaxConnections
	controlWorkers     = 184 // max_worker_processes
	controlSenders     = 188 // max_wal_senders
	controlPrepared    = 192 // max_prepared_xacts
	controlLocks       = 196 // max_locks_per_xact
	controlBuilt       = 204 // maxAlign
	controlBuiltEnd    = 257 // mock_authentication_nonce
	controlCRC         = 292
	controlVersion     = 1800
)

// ControlSize is how many bytes of the file PostgreSQL uses, including the checksum.
const ControlSize = controlCRC + 4

// States of a cluster in the control file (DBState).
const (
	shutDown           = 1
	shutDownInRecovery = 2
	inProduction       = 6
)

// castagnoli is for the checksums of the control file and of records.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// LSN is a place in the write-ahead log, in bytes from its beginning.
type LSN uint64

// String returns the LSN as PostgreSQL writes it: 0/1A2B3C.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// ParseLSN parses an LSN as PostgreSQL writes it. Error: ErrLSN.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%w: %.40q", ErrLSN, s)
	}
	return LSN(h<<32 | l), nil
}

// ErrLSN: the text is not an LSN.
var ErrLSN = errors.New("not a position in PostgreSQL's log: write one such as 0/1A2B3C")

// Control holds the relevant fields of a control file.
type Control struct {
	System           uint64 // the cluster's identifier
	State            uint32
	Checkpoint, Redo LSN
	Timeline         uint32
	MaxConnections   int // this and the settings below are those of the server that wrote it last, or whose log it recovered
	MaxWorkers       int // max_worker_processes
	MaxLocks         int // max_locks_per_transaction
	MaxPrepared      int // max_prepared_transactions
}

// ParseControl parses a control file. Error: ErrCorrupt.
func ParseControl(b []byte) (Control, error) {
	if len(b) < ControlSize {
		return Control{}, fmt.Errorf("%w: it has %d bytes", ErrCorrupt, len(b))
	}
	if v := binary.LittleEndian.Uint32(b[controlVersionAt:]); v != controlVersion {
		return Control{}, fmt.Errorf("%w: it has version %d, not %d", ErrCorrupt, v, controlVersion)
	}
	if crc32.Checksum(b[:controlCRC], castagnoli) != binary.LittleEndian.Uint32(b[controlCRC:]) {
		return Control{}, fmt.Errorf("%w: its checksum is wrong", ErrCorrupt)
	}
	return Control{
		System: binary.LittleEndian.Uint64(b[controlSystem:]), State: binary.LittleEndian.Uint32(b[controlState:]),
		Checkpoint: LSN(binary.LittleEndian.Uint64(b[controlCheckpoint:])), Redo: LSN(binary.LittleEndian.Uint64(b[controlRedo:])),
		Timeline: binary.LittleEndian.Uint32(b[controlTimeline:]), MaxPrepared: int(int32(binary.LittleEndian.Uint32(b[controlPrepared:]))),
		MaxConnections: int(int32(binary.LittleEndian.Uint32(b[controlConnections:]))), MaxWorkers: int(int32(binary.LittleEndian.Uint32(b[controlWorkers:]))), MaxLocks: int(int32(binary.LittleEndian.Uint32(b[controlLocks:]))),
	}, nil
}

// ShutDown reports whether PostgreSQL would start without recovery: then it would overwrite what follows the checkpoint.
func (c Control) ShutDown() bool { return c.State == shutDown || c.State == shutDownInRecovery }

// Built returns the part of a control file that says how PostgreSQL was built and the cluster initialized: it never
// changes. b must be acceptable to ParseControl.
func Built(b []byte) []byte { return b[controlBuilt:controlBuiltEnd] }

// WithoutWorkers returns a copy of a control file as of a server without background workers and WAL senders: otherwise a
// standby without any would refuse to start, though it needs none. b must be acceptable to ParseControl.
func WithoutWorkers(b []byte) []byte {
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out[controlWorkers:], 0)
	binary.LittleEndian.PutUint32(out[controlSenders:], 0)
	binary.LittleEndian.PutUint32(out[controlCRC:], crc32.Checksum(out[:controlCRC], castagnoli))
	return out
}

// InProduction returns a copy of a control file as of a running cluster, so that PostgreSQL recovers from the checkpoint
// when it starts. b must be acceptable to ParseControl.
func InProduction(b []byte) []byte {
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out[controlState:], inProduction)
	binary.LittleEndian.PutUint32(out[controlCRC:], crc32.Checksum(out[:controlCRC], castagnoli))
	return out
}
