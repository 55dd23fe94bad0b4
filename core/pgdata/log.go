package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrCut: the log holds more than can be read. What follows the place named in the error would be lost: restore an
// earlier state, and find out what damaged the log.
var ErrCut = errors.New("the write-ahead log cannot be read to its end")

// PageSize is PostgreSQL's XLOG_BLCKSZ.
const PageSize = 8192

// Layout of the log's pages and records.
const (
	pageMagic    = 0xD118
	shortHeader  = 24
	longHeader   = 40
	recordHeader = 24
	recordCRC    = 20
	maxRecord    = 1020 << 20 // XLogRecordMaxSize

	pageContinues = 0x1 // the page's first record began before it
	pageLong      = 0x2
	pageOverwrite = 0x8 // a record that a crash cut off is not continued here
	pageFlags     = 0xF

	xlogManager = 0    // RM_XLOG_ID
	xlogSwitch  = 0x40 // the rest of the segment is unused
)

// Log is a write-ahead log in files.
type Log struct {
	Segment uint64                            // bytes of a segment
	Read    func(name string) ([]byte, error) // reads a segment by name; it may be shorter than Segment

	control Control
	name    string
	body    []byte
}

// SegmentName returns the name of the segment that holds a place.
func SegmentName(timeline uint32, at LSN, segment uint64) string {
	n, perLog := uint64(at)/segment, (uint64(1)<<32)/segment
	return fmt.Sprintf("%08X%08X%08X", timeline, n/perLog, n%perLog)
}

// stop says why a record cannot be read, and where the page with the fault begins.
type stop struct {
	page LSN
	why  string
}

func (s *stop) Error() string { return s.why }

// End returns where the log ends: after the last complete record, read from the control file's checkpoint on, the way
// PostgreSQL's recovery reads it. shipped is how far the log is known to reach: the place after the last non-zero byte
// written; zero: unknown. A log that was cut off in the middle of a record ends before that record. Errors: ErrCut, those
// of Read.
func (l *Log) End(c Control, shipped LSN) (LSN, error) {
	l.control = c
	if c.Redo > c.Checkpoint {
		return 0, fmt.Errorf("%w: its checkpoint at %s would be recovered from %s", ErrCut, c.Checkpoint, c.Redo)
	}
	last, next, failed := l.record(c.Redo, 0, true)
	if failed != nil {
		return 0, fmt.Errorf("%w: recovery would begin at %s: %w", ErrCut, c.Redo, failed)
	}
	for {
		at, after, failed := l.record(next, last, false)
		if failed == nil {
			last, next = at, after
			continue
		}
		if next <= c.Checkpoint || shipped > next && failed.page < shipped {
			return next, fmt.Errorf("%w: it reaches to %s, but there is no valid record at %s: %w", ErrCut, max(shipped, c.Checkpoint), next, failed)
		}
		return next, nil
	}
}

// record reads the record at a place, or at the beginning of the next page. It returns where that record and the next one
// begin. first: the preceding record is unknown.
func (l *Log) record(at, last LSN, first bool) (begin, next LSN, _ *stop) {
	for {
		begin, next, again, failed := l.tryRecord(at, last, first)
		if again == 0 || failed != nil {
			return begin, next, failed
		}
		at = again
	}
}

// tryRecord does the work of record; again is the page to read instead, if a crash has cut this record off.
func (l *Log) tryRecord(at, last LSN, first bool) (begin, next, again LSN, failed *stop) {
	start := at - at%PageSize
	page, header, failed := l.page(start)
	if failed != nil {
		return 0, 0, 0, failed
	}
	if at == start {
		at += LSN(header)
	}
	off := int(at - start)
	switch {
	case off < header:
		return 0, 0, 0, &stop{start, "it lies within the header of a page"}
	case off == header && flags(page)&pageContinues != 0:
		return 0, 0, 0, &stop{start, "the page continues a record that is not there"}
	}
	size := int(binary.LittleEndian.Uint32(page[off:]))
	if size < recordHeader || size > maxRecord {
		return 0, 0, 0, &stop{start, fmt.Sprintf("a record's length is %d", size)}
	}
	if off <= PageSize-recordHeader && !follows(page[off:], last, first) {
		return 0, 0, 0, &stop{start, "the record there does not follow the one before"}
	}
	record := append(make([]byte, 0, min(size, 2*PageSize)), page[off:min(off+size, PageSize)]...)
	next = at + aligned(size)
	for len(record) < size {
		start += PageSize
		if page, header, failed = l.page(start); failed != nil {
			return 0, 0, 0, failed
		}
		if flags(page)&pageOverwrite != 0 {
			return 0, 0, start, nil
		}
		rest := int(binary.LittleEndian.Uint32(page[16:]))
		if flags(page)&pageContinues == 0 || rest != size-len(record) {
			return 0, 0, 0, &stop{start, "the page does not continue the record"}
		}
		record = append(record, page[header:min(header+rest, PageSize)]...)
		next = start + LSN(header) + aligned(rest)
	}
	if !follows(record, last, first) {
		return 0, 0, 0, &stop{start, "the record there does not follow the one before"}
	}
	if crc32.Update(crc32.Checksum(record[recordHeader:], castagnoli), castagnoli, record[:recordCRC]) != binary.LittleEndian.Uint32(record[recordCRC:]) {
		return 0, 0, 0, &stop{start, "its checksum is wrong"}
	}
	if record[17] == xlogManager && record[16]&0xF0 == xlogSwitch {
		next = (next + LSN(l.Segment) - 1) / LSN(l.Segment) * LSN(l.Segment)
	}
	return at, next, 0, nil
}

// follows reports whether a record names the preceding one.
func follows(record []byte, last LSN, first bool) bool {
	return first || LSN(binary.LittleEndian.Uint64(record[8:])) == last
}

func flags(page []byte) uint16 { return binary.LittleEndian.Uint16(page[2:]) }

// aligned rounds a length up to a multiple of eight.
func aligned(n int) LSN { return LSN((n + 7) &^ 7) }

// page returns the page that begins at a place, and the length of its header.
func (l *Log) page(at LSN) (page []byte, header int, failed *stop) {
	name := SegmentName(l.control.Timeline, at, l.Segment)
	if name != l.name {
		body, err := l.Read(name)
		if err != nil {
			return nil, 0, &stop{at, fmt.Sprintf("segment %s: %v", name, err)}
		}
		l.name, l.body = name, body
	}
	off := int(uint64(at) % l.Segment)
	if off+PageSize <= len(l.body) {
		page = l.body[off : off+PageSize]
	} else {
		page = make([]byte, PageSize) // missing bytes read as zeros, which PostgreSQL takes for the end
		copy(page, l.body[min(off, len(l.body)):])
	}
	header = shortHeader
	if flags(page)&pageLong != 0 {
		header = longHeader
	}
	switch {
	case binary.LittleEndian.Uint16(page) != pageMagic || flags(page)&^pageFlags != 0:
		return nil, 0, &stop{at, fmt.Sprintf("there is no page at %s", at)}
	case LSN(binary.LittleEndian.Uint64(page[8:])) != at:
		return nil, 0, &stop{at, fmt.Sprintf("the page at %s has the address of %s", at, LSN(binary.LittleEndian.Uint64(page[8:])))}
	case (off == 0) != (header == longHeader):
		return nil, 0, &stop{at, fmt.Sprintf("the page at %s has the header of another place", at)}
	case header == longHeader && binary.LittleEndian.Uint64(page[24:]) != l.control.System:
		return nil, 0, &stop{at, fmt.Sprintf("the page at %s belongs to another cluster", at)}
	}
	return page, header, nil
}

// Rest checks what a recovery that got as far as at has left of a log that reaches to shipped (see End). That must be
// the beginning of a record whose rest is still to come; anything else is ErrCut.
func (l *Log) Rest(c Control, at, shipped LSN) error {
	l.control = c
	_, next, failed := l.record(at, 0, true)
	switch {
	case failed == nil && next <= shipped+aligned(1):
		return fmt.Errorf("%w: there is a complete record at %s that was not replayed", ErrCut, at)
	case failed != nil && shipped > at && failed.page+PageSize <= shipped:
		return fmt.Errorf("%w: it reaches to %s, but there is no valid record at %s: %w", ErrCut, shipped, at, failed)
	}
	return nil
}

// Behind reports whether a record follows the checkpoint. Call it after End, which has read the checkpoint.
func (l *Log) Behind(c Control) (bool, error) {
	l.control = c
	at, next, failed := l.record(c.Checkpoint, 0, true)
	if failed != nil {
		return false, fmt.Errorf("%w: the checkpoint at %s: %w", ErrCut, c.Checkpoint, failed)
	}
	_, _, failed = l.record(next, at, false)
	return failed == nil, nil
}

// SegmentStart returns the place at which a segment begins, by its name; segment is the size of segments in bytes.
func SegmentStart(name string, segment uint64) LSN {
	var timeline, high, low uint64
	if _, err := fmt.Sscanf(name, "%08X%08X%08X", &timeline, &high, &low); err != nil {
		return 0
	}
	return LSN((high*((uint64(1)<<32)/segment) + low) * segment)
}
