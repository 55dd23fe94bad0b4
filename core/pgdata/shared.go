package pgdata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Catalogs whose rows begin with an OID and a name, and which all databases of a cluster share.
const (
	AuthID   = 1260 // pg_authid
	Database = 1262 // pg_database
)

// ErrCatalog: a catalog cannot be read from the files.
var ErrCatalog = errors.New("the catalog cannot be read")

// SharedRow is one version of a row of a shared catalog.
type SharedRow struct {
	OID  uint32
	Name string
}

// Layout of global/pg_filenode.map (src/backend/utils/cache/relmapper.c), and of pages and rows (storage/bufpage.h, access/htup_details.h).
const (
	relMapPath     = "/global/pg_filenode.map"
	relMapMagic    = 0x592717
	relMapEntries  = 64
	relMapCRC      = 8 + 8*relMapEntries
	heapPage       = 8192
	heapHeader     = 24
	lineNormal     = 1
	rowHeader      = 23
	rowHoff        = 22
	nameData       = 64
	maxSharedPages = 1 << 12
)

// Shared reads a shared catalog without PostgreSQL: all versions of its rows in the file, including those of open or
// rolled-back transactions, in storage order. So try a name before you rely on it. It does not see what PostgreSQL has
// only in memory: make a checkpoint first. read returns a file of the data directory. Errors: ErrCatalog, those of read.
func Shared(read func(name string) ([]byte, error), catalog uint32) ([]SharedRow, error) {
	mapping, err := read(relMapPath)
	if err != nil {
		return nil, err
	}
	number, err := mapped(mapping, catalog)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("/global/%d", number)
	body, err := read(name)
	if err != nil {
		return nil, err
	}
	var rows []SharedRow
	for off := 0; off+heapPage <= min(len(body), maxSharedPages*heapPage); off += heapPage {
		rows = append(rows, pageRows(body[off:off+heapPage])...)
	}
	return rows, nil
}

// mapped returns the number of the file that holds a catalog.
func mapped(b []byte, catalog uint32) (uint32, error) {
	if len(b) < relMapCRC+4 || binary.LittleEndian.Uint32(b) != relMapMagic {
		return 0, fmt.Errorf("%w: %s is not a file map", ErrCatalog, relMapPath)
	}
	if crc32.Checksum(b[:relMapCRC], castagnoli) != binary.LittleEndian.Uint32(b[relMapCRC:]) {
		return 0, fmt.Errorf("%w: the checksum of %s is wrong", ErrCatalog, relMapPath)
	}
	for i := range min(binary.LittleEndian.Uint32(b[4:]), relMapEntries) {
		if at := b[8+8*i:]; binary.LittleEndian.Uint32(at) == catalog {
			return binary.LittleEndian.Uint32(at[4:]), nil
		}
	}
	return 0, fmt.Errorf("%w: %s does not say where %d is", ErrCatalog, relMapPath, catalog)
}

// pageRows returns the rows of one page. What cannot be a row is left out.
func pageRows(page []byte) []SharedRow {
	var rows []SharedRow
	lower := int(binary.LittleEndian.Uint16(page[12:]))
	for at := heapHeader; at+4 <= min(lower, heapPage); at += 4 {
		line := binary.LittleEndian.Uint32(page[at:])
		off, flags, n := int(line&0x7FFF), line>>15&3, int(line>>17)
		if flags != lineNormal || n < rowHeader || off+n > heapPage {
			continue
		}
		row := page[off : off+n]
		data := int(row[rowHoff])
		if data < rowHeader || data+4+nameData > n {
			continue
		}
		name, _, whole := bytes.Cut(row[data+4:data+4+nameData], []byte{0})
		if whole && len(name) > 0 {
			rows = append(rows, SharedRow{OID: binary.LittleEndian.Uint32(row[data:]), Name: string(name)})
		}
	}
	return rows
}
