// Package pgdata reads what PostgreSQL 18 leaves in a data directory, without PostgreSQL: the control file, and where its
// write-ahead log ends. So that a restore can be judged before and after PostgreSQL's own recovery, which takes whatever it
// cannot read for the end of the log and goes on without a word.
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

// ErrCorrupt: the control file is not one of this PostgreSQL's, or damaged. Restore another state.
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

// ControlSize is how much of the file PostgreSQL uses, its checksum included.
const ControlSize = controlCRC + 4

// States of a cluster, as the control file has them (DBState).
const (
	shutDown           = 1
	shutDownInRecovery = 2
	inProduction       = 6
)

// castagnoli is the checksum of the control file and of records.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// LSN is a place in the write-ahead log, in bytes.
type LSN uint64

// String is PostgreSQL's own way to write it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// ParseLSN reads a place as PostgreSQL writes it. Errors: ErrLSN.
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%w: %.40q", ErrLSN, s)
	}
	return LSN(h<<32 | l), nil
}

// ErrLSN: a text is no place in a log.
var ErrLSN = errors.New("not a place in PostgreSQL's log, such as 0/1A2B3C")

// Control is what matters here of a control file.
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

// ParseControl reads a control file. Errors: ErrCorrupt.
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

// ShutDown says whether PostgreSQL would start without recovery: what stands behind the checkpoint would be overwritten.
func (c Control) ShutDown() bool { return c.State == shutDown || c.State == shutDownInRecovery }

// Built is the part of a control file, which ParseControl takes, that says how PostgreSQL was built and the cluster initialised: it never
// changes.
func Built(b []byte) []byte { return b[controlBuilt:controlBuiltEnd] }

// WithoutWorkers is a control file, which ParseControl takes, of a server that had no background workers and no WAL senders: a standby
// that has none does not start on another, though it needs none.
func WithoutWorkers(b []byte) []byte {
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out[controlWorkers:], 0)
	binary.LittleEndian.PutUint32(out[controlSenders:], 0)
	binary.LittleEndian.PutUint32(out[controlCRC:], crc32.Checksum(out[:controlCRC], castagnoli))
	return out
}

// InProduction is a control file, which ParseControl takes, of the same cluster as it is while it runs: then PostgreSQL
// recovers from the checkpoint when it starts.
func InProduction(b []byte) []byte {
	out := append([]byte(nil), b...)
	binary.LittleEndian.PutUint32(out[controlState:], inProduction)
	binary.LittleEndian.PutUint32(out[controlCRC:], crc32.Checksum(out[:controlCRC], castagnoli))
	return out
}
