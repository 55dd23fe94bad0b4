package memfs

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pages is n different pages and a piece of one.
func pages(n int) []byte {
	var b []byte
	for i := range n {
		b = append(b, page(byte(i+1))...)
	}
	return append(b, "the end"...)
}

// TestContent: a file with a Content is like one that was written, and its bytes are read once for all trees.
func TestContent(t *testing.T) {
	whole, reads := pages(3), 0
	c := NewContent(int64(len(whole)), func() ([]byte, error) {
		reads++
		return bytes.Clone(whole), nil
	})
	f := New(Options{MaxBytes: 5 * ChunkSize})
	at := time.Unix(1_700_000_000, 0)
	check(t, f.Install("a", 0o640, at, c))
	info, err := f.Stat("a")
	if err != nil || info.Size != int64(len(whole)) || info.Mode != ModeRegular|0o640 || !info.Mtime.Equal(at) || info.Blocks != 4*ChunkSize/512 || f.UsedBytes() != 4*ChunkSize {
		t.Fatalf("%+v, %v, %d bytes used", info, err, f.UsedBytes())
	}
	if err := f.Install("b", 0o600, at, c); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := f.Install("a", 0o600, at, c); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("twice: %v", err)
	}
	if f.ResidentBytes() != 0 || f.UnsettledBytes(nil) != 0 || f.Clone().ResidentBytes() != 0 {
		t.Errorf("%d bytes are in memory", f.ResidentBytes())
	}
	if reads != 0 {
		t.Error("it was read, and nobody has opened it")
	}
	m := f.Mark()
	g := f.Clone()
	file := mustOpen(t, f, "a", os.O_RDWR)
	file.WriteAt([]byte("x"), ChunkSize)
	check(t, file.Truncate(2*ChunkSize+1))
	if got := slices.Collect(f.ChangedSince("a", m)); !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("changed in %v", got)
	}
	if got := slices.Collect(g.ChangedSince("a", 0)); len(got) != 4 {
		t.Errorf("of a new file %v changed", got)
	}
	changed := bytes.Clone(whole[:2*ChunkSize+1])
	changed[ChunkSize] = 'x'
	for tree, want := range map[*FS][]byte{f: changed, g: whole, g.Clone(): whole} {
		if got, err := tree.ReadFile("a"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if f.ResidentBytes() != f.UsedBytes() || g.ResidentBytes() != g.UsedBytes() {
		t.Errorf("%d and %d bytes in memory", f.ResidentBytes(), g.ResidentBytes())
	}
	if reads != 1 || f.UsedBytes() != 3*ChunkSize || g.UsedBytes() != 4*ChunkSize {
		t.Errorf("read %d times; %d and %d bytes used", reads, f.UsedBytes(), g.UsedBytes())
	}
}

// TestContentUnlinked: a file that was never opened gives its room back, and is not read for that.
func TestContentUnlinked(t *testing.T) {
	f := New(Options{})
	check(t, f.Install("a", 0o600, time.Now(), NewContent(3*ChunkSize, func() ([]byte, error) {
		t.Error("it was read")
		return nil, nil
	})))
	check(t, f.WriteFile("b", page(1), 0o600))
	check(t, f.Rename("b", "a"))
	if f.UsedBytes() != ChunkSize || f.ResidentBytes() != ChunkSize {
		t.Errorf("%d bytes used, %d in memory", f.UsedBytes(), f.ResidentBytes())
	}
	check(t, f.Install("empty", 0o600, time.Now(), NewContent(0, nil)))
	if b, err := f.ReadFile("empty"); err != nil || len(b) != 0 {
		t.Error(b, err)
	}
	if err := f.Install("huge", 0o600, time.Now(), NewContent(MaxFileSize+1, nil)); !errors.Is(err, syscall.EFBIG) {
		t.Error(err)
	}
}

// TestContentFails: unreadable content is an I/O error that says why, and may be requested again.
func TestContentFails(t *testing.T) {
	cause := errors.New("damaged")
	for _, answer := range []func() ([]byte, error){
		func() ([]byte, error) { return nil, cause },
		func() ([]byte, error) { return make([]byte, 9), nil },
	} {
		f, next := New(Options{}), answer
		check(t, f.Install("a", 0o600, time.Now(), NewContent(10, func() ([]byte, error) { return next() })))
		for range 2 {
			if _, err := f.Open("a", os.O_RDONLY, 0); !errors.Is(err, syscall.EIO) {
				t.Error(err)
			}
		}
		if _, err := f.ReadFile("a"); !errors.Is(err, syscall.EIO) || err.Error() == syscall.EIO.Error() {
			t.Error(err)
		}
		next = func() ([]byte, error) { return []byte("0123456789"), nil }
		if b, err := f.ReadFile("a"); err != nil || string(b) != "0123456789" {
			t.Error(b, err)
		}
	}
}

// TestContentOfManyTrees: clones with goroutines of their own open and write the same file.
func TestContentOfManyTrees(t *testing.T) {
	whole := pages(5)
	var reads atomic.Int64
	f := New(Options{})
	check(t, f.Install("a", 0o600, time.Now(), NewContent(int64(len(whole)), func() ([]byte, error) {
		reads.Add(1)
		return bytes.Clone(whole), nil
	})))
	var all sync.WaitGroup
	for i := range 8 {
		tree := f.Clone()
		all.Go(func() {
			file, err := tree.Open("a", os.O_RDWR, 0)
			if err == nil {
				_, err = file.WriteAt([]byte{byte(i)}, int64(i))
			}
			want := bytes.Clone(whole)
			want[i] = byte(i)
			if got, readErr := tree.ReadFile("a"); err != nil || readErr != nil || !bytes.Equal(got, want) {
				t.Error(i, err, readErr)
			}
		})
	}
	all.Wait()
	if got, err := f.ReadFile("a"); err != nil || !bytes.Equal(got, whole) || reads.Load() != 1 {
		t.Error(err, reads.Load())
	}
}
