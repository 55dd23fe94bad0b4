package pglite

import (
	"errors"
	"fmt"
	"time"
)

// In single-user mode there is no walwriter: what a transaction with synchronous_commit=off has put into PostgreSQL's
// buffers of its log stays there until somebody else commits. The host does its work, and reads from PostgreSQL what it
// needs for that.

// Places in TransamVariablesData (src/include/access/transam.h).
const completionCountAt = 56

// Of a page and a segment of the log: the headers that a place at their beginning is behind.
const (
	logPage        = 8192
	logPageHeader  = 24
	logFirstHeader = 40
	finfoBytes     = 64 // more than an FmgrInfo has
)

// insertLSN is the number of pg_current_wal_insert_lsn() in pg_proc.
const insertLSN = 2852

// Replayed is how far the recovery came that PostgreSQL began with: the place in its log behind the last record that it
// replayed, or behind its checkpoint. Zero: it did not recover, for it had been shut down.
func (in *Instance) Replayed() (uint64, error) {
	if err := in.acquire(); err != nil {
		return 0, err
	}
	defer in.relinquish()
	at := uint64(0)
	err := in.guard(func() { at = in.call(in.fn.replayed, 0) })
	return at, in.outcome(err)
}

// FlushingLog says whether what PostgreSQL writes now is what it held back of its log: no answer waits for it. It is for hooks
// of the files.
func (in *Instance) FlushingLog() bool { return in.flushing }

// WalWriterDelay is PostgreSQL's wal_writer_delay. It is for the owner, between two runs.
func (in *Instance) WalWriterDelay() time.Duration { return in.walDelay }

// writeLog is the walwriter's work: if a transaction that changed something has ended since the last time, it writes what
// PostgreSQL holds of its log in buffers to the file. PostgreSQL waits for its client, and has been heard.
func (in *Instance) writeLog() error {
	count := in.completions()
	if count == in.flushedAt {
		return nil
	}
	in.flushing = true
	raised, err := in.flushLog()
	in.flushing = false
	if err == nil && raised {
		in.dead = errors.New("PostgreSQL fails to write its log")
		err = in.dead
	}
	in.flushedAt = count
	return err
}

// completions counts the transactions that changed something and have ended, since PostgreSQL started.
func (in *Instance) completions() uint64 {
	at := in.mem.u32(uint32(in.rt.main.consts["TransamVariables"]))
	return in.mem.u64(at + completionCountAt)
}

// flushLog is XLogFlush up to where PostgreSQL writes next. Its errors are those of the guest's exits.
func (in *Instance) flushLog() (raised bool, err error) {
	var at, flushed uint64
	err = in.guard(func() {
		if in.lsnFunction == 0 {
			in.lsnFunction = uint32(in.call(in.fn.malloc, finfoBytes))
			in.call(in.fn.fmgrInfo, insertLSN, uint64(in.lsnFunction))
			in.delayAt = in.walWriterDelayAt()
		}
		p := uint32(in.call(in.fn.functionCall0, uint64(in.lsnFunction), 0)) // a Datum of four bytes: where the value is
		at = in.mem.u64(p)
		in.call(in.fn.pfree, uint64(p))
		flushed = in.call(in.fn.flushedTo, 0)
		in.walDelay = in.millis(in.delayAt)
	})
	if err != nil {
		return false, err
	}
	// A place behind the header of a page that is still empty is not one that can be flushed to: its beginning is.
	segment := uint64(in.mem.u32(uint32(in.rt.main.consts["wal_segment_size"])))
	if segment == 0 {
		return false, fmt.Errorf("PostgreSQL does not know the size of a segment of its log")
	}
	switch {
	case at%segment == logFirstHeader:
		at -= logFirstHeader
	case at%logPage == logPageHeader:
		at -= logPageHeader
	}
	if at <= flushed {
		return false, nil
	}
	_, exited, code, err := in.enterGuest(in.fn.flushTo, at)
	if err == nil && exited && code != exitLongjmp {
		in.dead = fmt.Errorf("PostgreSQL ended with exit code %d", code)
		err = in.dead
	}
	return exited, err
}
