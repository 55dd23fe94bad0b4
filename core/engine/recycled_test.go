package engine

import (
	"bytes"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/wal"
)

// TestRecycledSegment: a used segment of the log that gets another name, as with wal_recycle=on, keeps its contents. What is written into
// it is carried completely, and a restore has it.
func TestRecycledSegment(t *testing.T) {
	t.Parallel()
	const used, again, size = walDir + "000000010000000000000001", walDir + "000000010000000000000009", 4 * walPage
	files := memfs.New(memfs.Options{})
	if err := files.MkdirAll("/pg_wal", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteFile(used, bytes.Repeat([]byte{7}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	var ops []wal.Op
	c := newWALShipper(files, func(op wal.Op) { ops = append(ops, op) })
	files.SetHooks(memfs.Hooks{Write: c.write, Rename: c.rename, Unlink: c.unlink})
	if err := files.Rename(used, again); err != nil {
		t.Fatal(err)
	}
	page := append(bytes.Repeat([]byte{1}, 100), make([]byte, walPage-100)...) // zeros over the segment's old contents
	if err := files.WriteFile(again, page, 0o600); err != nil {
		t.Fatal(err)
	}
	restored := memfs.New(memfs.Options{})
	if err := restored.MkdirAll("/pg_wal", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := restored.WriteFile(again, bytes.Repeat([]byte{7}, size), 0o600); err != nil { // as a layer has it
		t.Fatal(err)
	}
	for _, op := range ops {
		if err := apply(restored, op, size); err != nil {
			t.Fatal(err)
		}
	}
	got, err := restored.ReadFile(again)
	if err != nil || !bytes.Equal(got[:walPage], page) {
		t.Errorf("the page is not what was written (%v)", err)
	}
}

// TestLogIsCopiedOnce: the carried bytes of a write are copied once, and take no more memory than their size: one allocation for what a
// small commit has added to its page, and one for a write of several pages.
func TestLogIsCopiedOnce(t *testing.T) {
	const path, pages, each = walDir + "000000010000000000000001", 8, 100
	var carried, room int
	c := newWALShipper(memfs.New(memfs.Options{}), func(op wal.Op) { carried, room = carried+len(op.Data), room+cap(op.Data) })
	page, at := make([]byte, walPage), 0
	small := func() {
		page[at%walPage]++
		at += each
		c.segmentWrite(path, 0, page)
	}
	small()
	if n := testing.AllocsPerRun(each, small); n != 1 {
		t.Errorf("a commit on a page that is known: %v allocations", n)
	}
	several := bytes.Repeat([]byte{1}, pages*walPage)
	carried, room = 0, 0
	n := testing.AllocsPerRun(1, func() { c.segmentWrite(path, walPage, several) })
	if n != 1 || carried != 2*len(several) || room != carried { // AllocsPerRun makes one extra run
		t.Errorf("%d pages: %v allocations; %d bytes carried in %d", pages, n, carried, room)
	}
}
