package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"weak"
)

func TestChangedSince(t *testing.T) {
	f := New(Options{})
	check(t, f.MkdirAll("d/e", 0o700))
	a := mustOpen(t, f, "d/e/a", os.O_RDWR|os.O_CREATE)
	a.WriteAt(make([]byte, 10*ChunkSize), 0)
	check(t, a.Truncate(20*ChunkSize))
	check(t, f.WriteFile("d/b", page(1), 0o600))
	want := func(fs *FS, path string, m Mark, want ...int64) {
		t.Helper()
		if got := slices.Collect(fs.ChangedSince(path, m)); !slices.Equal(got, want) {
			t.Fatalf("%s changed in %v, want %v", path, got, want)
		}
	}
	m := f.Mark()
	want(f, "d/e/a", m)
	want(f, "d/e/a", 0, slices.Collect(func(yield func(int64) bool) {
		for i := range int64(20) {
			if !yield(i) {
				return
			}
		}
	})...)
	a.WriteAt([]byte("x"), 3*ChunkSize+5)
	a.WriteAt(make([]byte, 2), 6*ChunkSize-1)
	a.WriteAt([]byte("x"), 15*ChunkSize)
	want(f, "d/e/a", m, 3, 5, 6, 15)
	c := f.Clone() // a mark is valid in a later clone
	want(c, "d/e/a", m, 3, 5, 6, 15)
	m2 := f.Mark()
	check(t, a.Truncate(ChunkSize+1))
	want(f, "d/e/a", m2, 1)
	check(t, a.Truncate(30*ChunkSize)) // what was cut off now reads as zeros
	want(f, "d/e/a", m2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15)
	want(c, "d/e/a", m2)
	check(t, f.Rename("d/b", "d/c"))
	want(f, "d/c", m2, 0)
	want(f, "d/b", m2)
	m3 := f.Mark()
	check(t, f.Rename("d/e", "d/f"))
	want(f, "d/e/a", m3)
	if got := slices.Collect(f.ChangedSince("d/f/a", m3)); len(got) != 30 {
		t.Fatalf("%d chunks changed below a renamed directory, want all 30", len(got))
	}
	check(t, f.Unlink("d/c"))
	check(t, f.WriteFile("d/c", page(1), 0o600))
	want(f, "d/c", m3, 0)
	want(f, "d", m3)
}

// A tree plus the chunks that ChangedSince names equals the later tree: an incremental copy relies on this.
func TestChangedSinceIsEnoughToFollow(t *testing.T) {
	t.Logf("seed %d", modelSeed)
	rng := rand.New(rand.NewPCG(modelSeed, 3))
	f := New(Options{})
	copies := map[string][]byte{}
	for round := range 60 {
		m := f.Mark()
		if round == 0 {
			m = 0
		}
		for range 20 {
			churn(t, f, rng)
		}
		snapshot := f.Clone()
		next := map[string][]byte{}
		check(t, snapshot.Walk("/", func(path string, info Info) error {
			if !info.IsRegular() {
				return nil
			}
			data := make([]byte, info.Size)
			copy(data, copies[path])
			now, err := snapshot.ReadFile(path)
			check(t, err)
			for i := range snapshot.ChangedSince(path, m) {
				copy(data[i*ChunkSize:], now[i*ChunkSize:min((i+1)*ChunkSize, info.Size)])
			}
			// Unwritten bytes by which the file grew are zeros, also where the copy was cut off before.
			if !bytes.Equal(data, now) {
				t.Fatalf("round %d: %s cannot be followed", round, path)
			}
			next[path] = data
			return nil
		}))
		copies = next
	}
}

func churn(t *testing.T, f *FS, rng *rand.Rand) {
	t.Helper()
	path := fmt.Sprintf("/f%d", rng.IntN(5))
	other := fmt.Sprintf("/f%d", rng.IntN(5))
	file := mustOpen(t, f, path, os.O_RDWR|os.O_CREATE)
	switch rng.IntN(6) {
	case 0:
		check(t, f.Unlink(path))
	case 1:
		check(t, f.Rename(path, other))
	case 2, 3:
		check(t, file.Truncate(int64(rng.IntN(8*ChunkSize))))
	default:
		data := make([]byte, rng.IntN(2*ChunkSize))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		if _, err := file.WriteAt(data, int64(rng.IntN(6*ChunkSize))); err != nil {
			t.Fatal(err)
		}
	}
	check(t, file.Close())
}

// Run with -race: a clone is read, and cloned and written, while the original changes.
func TestCloneIsReadWhileTheOriginalWrites(t *testing.T) {
	f := New(Options{})
	fillTree(f, 50, 8)
	want := sum(f)
	results := make(chan string, 8)
	for i := range 4 {
		c := f.Clone()
		go func() {
			verdict := ""
			for range 5 {
				if sum(c) != want {
					verdict = "a clone changed under its reader"
				}
			}
			fillTree(c.Clone(), 10, 4)
			fillTree(c, 10+i, 4)
			results <- verdict
		}()
		for n := range 200 {
			file, err := f.Open(fmt.Sprintf("/d%d/f%d", n%50/16, n%50), os.O_RDWR, 0)
			check(t, err)
			file.WriteAt(page(byte(n)), int64(n%9)*ChunkSize)
			file.WriteAt([]byte{1}, int64(n%9)*ChunkSize)
			check(t, file.Truncate(int64(n%7+1)*ChunkSize))
			check(t, file.Close())
			f.Mark()
			check(t, f.WriteFile("/new", page(1), 0o600))
			check(t, f.Rename("/new", "/newer"))
		}
		if verdict := <-results; verdict != "" {
			t.Fatal(verdict)
		}
		want = sum(f)
	}
}

// fillTree makes n files of some chunks, 16 a directory.
func fillTree(f *FS, n, chunks int) {
	buf := page(0)
	for i := range n {
		dir := fmt.Sprintf("/d%d", i/16)
		f.MkdirAll(dir, 0o700)
		file := must(f.Open(fmt.Sprintf("%s/f%d", dir, i), os.O_RDWR|os.O_CREATE, 0o600))
		for c := range chunks {
			buf[0], buf[1] = byte(i), byte(c)
			file.WriteAt(buf, int64(c)*ChunkSize)
		}
		file.Close()
	}
}

func sum(f *FS) uint32 {
	h := crc32.NewIEEE()
	f.Walk("/", func(path string, info Info) error {
		fmt.Fprint(h, path, info.Size)
		if info.IsRegular() {
			h.Write(must(f.ReadFile(path)))
		}
		return nil
	})
	return h.Sum32()
}

func BenchmarkClone2000Files(b *testing.B) {
	f := New(Options{})
	fillTree(f, 2000, 4)
	b.ReportAllocs()
	for b.Loop() {
		f.Clone()
	}
}

func BenchmarkWrite8K(b *testing.B) {
	for _, c := range []struct {
		name  string
		fresh func(f *FS, i int)
	}{
		{"in place", func(*FS, int) {}},
		{"after clone", func(f *FS, i int) {
			if i%4096 == 0 {
				f.Clone()
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := New(Options{})
			file := must(f.Open("a", os.O_RDWR|os.O_CREATE, 0o600))
			file.WriteAt(make([]byte, 4096*ChunkSize), 0)
			buf := page(1)
			b.SetBytes(ChunkSize)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				c.fresh(f, i)
				file.WriteAt(buf, int64(i*61%4096)*ChunkSize)
				i++
			}
		})
	}
}

func BenchmarkAppend8K(b *testing.B) {
	f := New(Options{})
	file := must(f.Open("a", os.O_RDWR|os.O_CREATE, 0o600))
	buf := page(1)
	b.SetBytes(ChunkSize)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		if off == 64<<20 {
			file.Truncate(0)
			off = 0
		}
		file.WriteAt(buf, off)
		off += ChunkSize
	}
}

func BenchmarkRead8K(b *testing.B) {
	f := New(Options{})
	file := must(f.Open("a", os.O_RDWR|os.O_CREATE, 0o600))
	file.WriteAt(make([]byte, 4096*ChunkSize), 0)
	buf := page(1)
	b.SetBytes(ChunkSize)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		file.ReadAt(buf, int64(i*61%4096)*ChunkSize)
		i++
	}
}

func BenchmarkOpenClose(b *testing.B) {
	f := New(Options{})
	fillTree(f, 2000, 1)
	b.ReportAllocs()
	for b.Loop() {
		must(f.Open("/d77/f1240", os.O_RDWR, 0)).Close()
	}
}

// TestDiscard: the memory is free although the tree, a File and a clone are still referred to, and only the clone still has files.
func TestDiscard(t *testing.T) {
	f := New(Options{})
	check(t, f.MkdirAll("d", 0o700))
	check(t, f.WriteFile("d/shared", page(1), 0o600))
	c := f.Clone()
	file := mustOpen(t, f, "d/own", os.O_RDWR|os.O_CREATE)
	file.WriteAt(page(2), 0)
	own := weak.Make(file.in.table[0].data)
	called := false
	f.SetHooks(Hooks{Write: func(string, int64, []byte) { called = true }, Create: func(string) { called = true }})
	f.Discard()
	runtime.GC()
	if own.Value() != nil || f.UsedBytes() != 0 || f.ResidentBytes() != 0 {
		t.Fatalf("memory is kept: %v, %d bytes used", own.Value() != nil, f.UsedBytes())
	}
	for _, fs := range []*FS{f, f.Clone()} {
		fs.Evict(Eviction{})
		for _, path := range []string{"/", "d", "d/shared", "new"} {
			if _, err := fs.Open(path, os.O_RDWR|os.O_CREATE, 0o600); !errors.Is(err, syscall.ENOENT) {
				t.Errorf("open %s: %v, want ENOENT", path, err)
			}
		}
		if err := fs.Walk("/", func(string, Info) error { return nil }); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("walk: %v, want ENOENT", err)
		}
	}
	if n, err := file.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Errorf("an open file reads %d bytes, %v", n, err)
	}
	_, _ = file.WriteAt([]byte("x"), 0)
	check(t, file.Close())
	if called {
		t.Error("a hook was called")
	}
	if got, err := c.ReadFile("d/shared"); err != nil || !bytes.Equal(got, page(1)) {
		t.Errorf("the clone: %v", err)
	}
	runtime.KeepAlive(f)
}
