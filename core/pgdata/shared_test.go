package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"testing"
)

// relMap returns a map of files with these catalogs.
func relMap(entries ...[2]uint32) []byte {
	b := make([]byte, relMapCRC+4)
	binary.LittleEndian.PutUint32(b, relMapMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(entries)))
	for i, e := range entries {
		binary.LittleEndian.PutUint32(b[8+8*i:], e[0])
		binary.LittleEndian.PutUint32(b[12+8*i:], e[1])
	}
	binary.LittleEndian.PutUint32(b[relMapCRC:], crc32.Checksum(b[:relMapCRC], castagnoli))
	return b
}

// heap returns a page with these rows, from its end on, as PostgreSQL places them.
func heap(rows ...SharedRow) []byte {
	const header, size = 32, 32 + 4 + nameData + 8
	page := make([]byte, heapPage)
	upper := heapPage
	for i, r := range rows {
		upper -= size
		binary.LittleEndian.PutUint32(page[heapHeader+4*i:], uint32(upper)|lineNormal<<15|size<<17)
		page[upper+rowHoff] = header
		binary.LittleEndian.PutUint32(page[upper+header:], r.OID)
		copy(page[upper+header+4:], r.Name)
	}
	binary.LittleEndian.PutUint16(page[12:], uint16(heapHeader+4*len(rows)))
	return page
}

type tree map[string][]byte

func (t tree) read(name string) ([]byte, error) {
	if b, ok := t[name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func TestShared(t *testing.T) {
	rows := []SharedRow{{10, "postgres"}, {16384, "app"}, {10, "boss"}}
	page := heap(rows[:2]...)
	binary.LittleEndian.PutUint32(page[heapHeader+8:], 0)                   // an unused line pointer
	binary.LittleEndian.PutUint32(page[heapHeader+12:], 8000|1<<15|500<<17) // one that extends beyond the page
	binary.LittleEndian.PutUint16(page[12:], heapHeader+16)
	files := tree{
		"/global/pg_filenode.map": relMap([2]uint32{Database, 1262}, [2]uint32{AuthID, 4711}),
		"/global/4711":            slices.Concat(page, make([]byte, heapPage), heap(rows[2])),
	}
	got, err := Shared(files.read, AuthID)
	if err != nil || !slices.Equal(got, rows) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Shared(files.read, Database); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Shared(files.read, 999); !errors.Is(err, ErrCatalog) {
		t.Errorf("a catalog that is not mapped: %v", err)
	}
	for name, damage := range map[string]func(b []byte) []byte{
		"no magic": func(b []byte) []byte { b[0]++; return b }, "a wrong checksum": func(b []byte) []byte { b[9]++; return b }, "cut short": func(b []byte) []byte { return b[:100] },
	} {
		bad := tree{"/global/pg_filenode.map": damage(relMap([2]uint32{AuthID, 4711})), "/global/4711": heap(rows...)}
		if _, err := Shared(bad.read, AuthID); !errors.Is(err, ErrCatalog) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzShared(f *testing.F) {
	f.Add(heap(SharedRow{10, "postgres"}, SharedRow{16384, "app"}))
	f.Fuzz(func(t *testing.T, body []byte) {
		files := tree{"/global/pg_filenode.map": relMap([2]uint32{AuthID, 4711}), "/global/4711": body}
		rows, err := Shared(files.read, AuthID)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.Name == "" || len(r.Name) >= nameData {
				t.Errorf("a name of %d bytes", len(r.Name))
			}
		}
	})
}
