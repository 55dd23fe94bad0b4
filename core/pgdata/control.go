// Package pgdata reads files of a data directory of PostgreSQL 18 without PostgreSQL: the control file, the end of the
// write-ahead log, shared catalogs. So a restore can be checked before and after PostgreSQL's own recovery, which takes
// anything that it cannot read for the end of the log, without a message.
//
//	control, err := pgdata.ParseControl(body)            // global/pg_control
//	end, err := log.End(control, shipped)                // the end of the last whole record; ErrCut: there is more, unreadable
//	body = pgdata.InProduction(body)                     // PostgreSQL recovers, whatever the file said
//
// The layouts are those of src/include/catalog/pg_control.h, access/xlog_internal.h and access/xlogrecord.h, little endian,
// with eight-byte integers at multiples of eight.
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

// ControlPath is the control file's place in a data directory.
const ControlPath = "/global/pg_control"

// Places in the control file.
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

// States of a cluster, as the control file has them (DBState).
const (
	shutDown           = 1
	shutDownInRecovery = 2
	inProduction       = 6
)

// castagnoli is the checksum of the control file and of records.
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

// ErrLSN: a text is no LSN.
var ErrLSN = errors.New("not a place in PostgreSQL's log, such as 0/1A2B3C")

// Control holds the fields of a control file that matter here.
type Control struct {
	System           uint64 // the cluster's identifier
	State            uint32
	Checkpoint, Redo LSN
	Timeline         uint32
	MaxConnections   int // likewise, as what follows
	MaxWorkers       int // max_worker_processes
	MaxLocks         int // max_locks_per_transaction
	MaxPrepared      int // max_prepared_transactions of the server that wrote it last, or of whose log it recovered
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

// ShutDown says whether PostgreSQL would start without recovery: then it would overwrite what follows the checkpoint.
func (c Control) ShutDown() bool { return c.State == shutDown || c.State == shutDownInRecovery }

// Built returns the part of a control file that says how PostgreSQL was built and the cluster initialised: it never changes. b must be one
// that ParseControl accepts.
func Built(b []byte) []byte { return b[controlBuilt:controlBuiltEnd] }

// WithoutWorkers returns a copy of a control file as of a server without background workers and WAL senders: a standby without any would
// otherwise refuse to start, though it needs none. b must be one that ParseControl accepts.
func WithoutWorkers(b []byte) []byte {
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out[controlWorkers:], 0)
	binary.LittleEndian.PutUint32(out[controlSenders:], 0)
	binary.LittleEndian.PutUint32(out[controlCRC:], crc32.Checksum(out[:controlCRC], castagnoli))
	return out
}

// InProduction returns a copy of a control file as of a cluster that runs, so that PostgreSQL recovers from the checkpoint when
// it starts. b must be one that ParseControl accepts.
func InProduction(b []byte) []byte {
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out[controlState:], inProduction)
	binary.LittleEndian.PutUint32(out[controlCRC:], crc32.Checksum(out[:controlCRC], castagnoli))
	return out
}
