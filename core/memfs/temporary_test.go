package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
)

// testDisk is a file of the host's, or an error instead.
type testDisk struct {
	*os.File
	err error
}

func (d *testDisk) WriteAt(p []byte, off int64) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	return d.File.WriteAt(p, off)
}

func (d *testDisk) ReadAt(p []byte, off int64) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	return d.File.ReadAt(p, off)
}

func newTestDisk(t *testing.T) *testDisk {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &testDisk{File: f}
}

func isTemp(path string) bool { return strings.HasPrefix(path, "/tmp/") }

// checkTemporary compares a tree's counts with its content.
func checkTemporary(t *testing.T, f *FS) {
	t.Helper()
	var total, onDisk, used int64
	blocks := map[int64]bool{}
	for _, b := range f.temp.free {
		blocks[b] = true
	}
	for _, in := range f.inodes {
		if in == nil {
			continue
		}
		used += in.chunks
		if in.temp == nil {
			continue
		}
		for i, s := range in.table {
			if s.data == nil {
				continue
			}
			if total++; s.data == spilled {
				onDisk++
				b := in.temp.blocks[i] - 1
				if b < 0 || blocks[b] {
					t.Fatalf("block %d is nobody's, or somebody else's", b)
				}
				blocks[b] = true
			}
		}
	}
	if total != f.temp.total || onDisk != f.temp.onDisk || used*ChunkSize != f.usedBytes || int64(len(blocks)) != f.temp.end {
		t.Fatalf("%d chunks (counted: %d), %d on disk (%d), %d in all (%d), %d blocks (%d)", total, f.temp.total, onDisk, f.temp.onDisk, used, f.usedBytes/ChunkSize, len(blocks), f.temp.end)
	}
	if memory, _ := f.TemporaryBytes(); f.temp.Memory >= 0 && memory > f.temp.Memory {
		t.Fatalf("%d bytes are in memory, of %d", memory, f.temp.Memory)
	}
	if f.ResidentBytes() != f.usedBytes-onDisk*ChunkSize {
		t.Fatalf("%d bytes are resident, of %d, %d on disk", f.ResidentBytes(), f.usedBytes, onDisk*ChunkSize)
	}
}

// TestTemporaryModel does the same to byte slices and to files of which little may be in memory, while others use the tree.
func TestTemporaryModel(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := newTestDisk(t)
	f := New(Options{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(f.Mkdir("/tmp", 0o700))
	must(f.Mkdir("/base", 0o700))
	names, clones, waits := 0, 0, 0
	other := func() {
		switch rng.IntN(4) {
		case 0:
			names++
			must(f.WriteFile(fmt.Sprintf("/tmp/other%d", names), make([]byte, rng.IntN(5*ChunkSize)), 0o600))
		case 1:
			if names > 0 && f.Unlink(fmt.Sprintf("/tmp/other%d", 1+rng.IntN(names))) == nil {
				return
			}
		case 2:
			clones++
			c := f.Clone()
			info, err := c.Stat("/tmp/a")
			if err == nil && (info.Size != 0 || info.Blocks != 0) {
				t.Fatalf("the clone's temporary file is %+v", info)
			}
			if used := c.UsedBytes(); used != 0 {
				t.Fatalf("%d bytes are in the clone", used)
			}
		}
	}
	inWait := false
	f.SetTemporary(Temporary{Is: isTemp, Memory: 6 * ChunkSize, Disk: disk, Wait: func(io func()) {
		if waits++; !inWait {
			inWait = true
			other()
			inWait = false
		}
		io()
	}})
	file, err := f.Open("/tmp/a", os.O_RDWR|os.O_CREATE, 0o600)
	must(err)
	var want []byte
	for range 4000 {
		off, n := int64(rng.IntN(40*ChunkSize)), 1+rng.IntN(3*ChunkSize)
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			_, err := file.WriteAt(p, off)
			must(err)
			if grow := off + int64(n) - int64(len(want)); grow > 0 {
				want = append(want, make([]byte, grow)...)
			}
			copy(want[off:], p)
		case 4:
			size := int64(rng.IntN(len(want) + ChunkSize))
			must(file.Truncate(size))
			want = append(want[:min(size, int64(len(want)))], make([]byte, max(0, size-int64(len(want))))...)
		case 5:
			other()
		default:
			p := make([]byte, n)
			n, err := file.ReadAt(p, off)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if w := want[min(off, int64(len(want))):min(off+int64(len(p)), int64(len(want)))]; !bytes.Equal(p[:n], w) {
				t.Fatalf("%d bytes at %d differ", n, off)
			}
		}
		checkTemporary(t, f)
	}
	if waits < 1000 || clones < 100 {
		t.Errorf("%d waits and %d clones are too few", waits, clones)
	}
	must(f.Unlink("/tmp/a"))
	for i := range names {
		_ = f.Unlink(fmt.Sprintf("/tmp/other%d", 1+i))
	}
	must(file.Close())
	checkTemporary(t, f)
	if info, err := disk.Stat(); err != nil || info.Size() != 0 || f.UsedBytes() != 0 {
		t.Errorf("the disk has %d bytes left, the tree %d (%v)", info.Size(), f.UsedBytes(), err)
	}
}

// TestTemporaryLimit: without a disk, temporary files end where memory does, and no other file does.
func TestTemporaryLimit(t *testing.T) {
	f := New(Options{})
	f.SetTemporary(Temporary{Is: isTemp, Memory: 4 * ChunkSize})
	if err := errors.Join(f.Mkdir("/tmp", 0o700), f.WriteFile("/tmp/a", make([]byte, 3*ChunkSize), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteFile("/tmp/b", make([]byte, 2*ChunkSize), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := f.WriteFile("/kept", make([]byte, 9*ChunkSize), 0o600); err != nil {
		t.Errorf("another file: %v", err)
	}
	checkTemporary(t, f)
	if err := f.Unlink("/tmp/a"); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteFile("/tmp/c", make([]byte, 3*ChunkSize), 0o600); err != nil {
		t.Errorf("with room again: %v", err)
	}
	checkTemporary(t, f)
}

// TestTemporaryDiskFails: a disk error is the error of the operation that needs the disk.
func TestTemporaryDiskFails(t *testing.T) {
	disk := newTestDisk(t)
	f := New(Options{})
	f.SetTemporary(Temporary{Is: isTemp, Disk: disk})
	if err := errors.Join(f.Mkdir("/tmp", 0o700), f.WriteFile("/tmp/a", []byte("a"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		err  error
		want syscall.Errno
	}{{syscall.ENOSPC, syscall.ENOSPC}, {syscall.EDQUOT, syscall.ENOSPC}, {io.ErrUnexpectedEOF, syscall.EIO}} {
		want := e.want
		disk.err = e.err
		if err := f.WriteFile("/tmp/b", []byte("b"), 0o600); !errors.Is(err, want) {
			t.Errorf("a write: %v instead of %v", err, want)
		}
		if _, err := f.ReadFile("/tmp/a"); !errors.Is(err, want) {
			t.Errorf("a read: %v instead of %v", err, want)
		}
		checkTemporary(t, f)
	}
	disk.err = nil
	if b, err := f.ReadFile("/tmp/a"); err != nil || string(b) != "a" {
		t.Errorf("%q, %v", b, err)
	}
}
