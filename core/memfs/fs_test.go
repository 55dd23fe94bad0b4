package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func page(b byte) []byte { return bytes.Repeat([]byte{b}, ChunkSize) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t *testing.T, f *FS, path string, flag int) *File {
	t.Helper()
	file, err := f.Open(path, flag, 0o600)
	check(t, err)
	return file
}

func TestHooksTellWhatHappened(t *testing.T) {
	f := New(Options{})
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	f.SetHooks(Hooks{
		Write:    func(path string, off int64, p []byte) { note("write %s %d %d", path, off, len(p)) },
		Truncate: func(path string, size int64) { note("truncate %s %d", path, size) },
		Sync:     func(path string, dataOnly bool) { note("sync %s %v", path, dataOnly) },
		Rename:   func(from, to string) { note("rename %s %s", from, to) },
		Unlink:   func(path string) { note("unlink %s", path) },
		Create:   func(path string) { note("create %s", path) },
	})
	check(t, f.Mkdir("pg_wal", 0o700))
	w := mustOpen(t, f, "//pg_wal/./seg", os.O_RDWR|os.O_CREATE)
	w.WriteAt(page(1), 8192)
	w.WriteAt(nil, 0)
	check(t, w.Sync(true))
	check(t, w.Allocate(0, 100))
	check(t, w.Allocate(0, 20000))
	check(t, f.Rename("pg_wal/seg", "pg_wal/seg2"))
	w.WriteAt([]byte("x"), 0)
	check(t, f.Rename("pg_wal", "wal"))
	w.WriteAt([]byte("x"), 1)
	check(t, f.Link("wal/seg2", "wal/seg3"))
	check(t, f.Unlink("wal/seg2"))
	check(t, w.Truncate(5))
	check(t, f.Rename("wal/seg3", "wal/seg3"))
	check(t, f.Unlink("wal/seg3"))
	w.WriteAt([]byte("nobody sees this"), 0)
	check(t, w.Sync(false))
	check(t, f.Symlink("wal", "link"))
	check(t, f.WriteFile("link/new", []byte("abc"), 0o600))
	check(t, f.WriteFile("link/new", []byte("d"), 0o600))
	check(t, f.Unlink("wal/new"))
	check(t, f.Rmdir("wal"))
	want := []string{
		"create /pg_wal", "create /pg_wal/seg", "write /pg_wal/seg 8192 8192", "sync /pg_wal/seg true",
		"truncate /pg_wal/seg 20000", "rename /pg_wal/seg /pg_wal/seg2", "write /pg_wal/seg2 0 1",
		"rename /pg_wal /wal", "write /wal/seg2 1 1", "create /wal/seg3", "unlink /wal/seg2", "truncate /wal/seg3 5",
		"unlink /wal/seg3", "create /link", "create /wal/new", "write /wal/new 0 3", "truncate /wal/new 0",
		"write /wal/new 0 1", "unlink /wal/new", "unlink /wal",
	}
	if !slices.Equal(log, want) {
		t.Fatalf("hooks told\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
	log = nil
	check(t, f.Clone().WriteFile("/other", page(1), 0o600))
	if len(log) != 0 {
		t.Fatalf("a clone told its original's hooks: %v", log)
	}
}

func TestSpaceIsBounded(t *testing.T) {
	f := New(Options{MaxBytes: 3 * ChunkSize})
	a := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	n, err := a.WriteAt(make([]byte, 5*ChunkSize), 100)
	if !errors.Is(err, syscall.ENOSPC) || n != 3*ChunkSize-100 {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if got := a.Stat().Size; got != 3*ChunkSize {
		t.Fatalf("size %d after a short write", got)
	}
	if _, err := a.WriteAt(page(1), 0); err != nil {
		t.Fatalf("overwrite: %v", err)
	}
	c := f.Clone()
	if cf := mustOpen(t, c, "a", os.O_RDWR); c.UsedBytes() != 3*ChunkSize {
		t.Fatalf("a clone uses %d", c.UsedBytes())
	} else if _, err := cf.WriteAt(page(2), 0); err != nil {
		t.Fatalf("overwrite of a shared chunk: %v", err)
	}
	if err := a.Allocate(0, 3*ChunkSize+1); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("allocate: %v", err)
	}
	check(t, a.Allocate(0, 3*ChunkSize))
	check(t, a.Truncate(ChunkSize))
	check(t, a.Allocate(0, 3*ChunkSize))
	if err := a.Allocate(ChunkSize, 3*ChunkSize); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("allocate past the end: %v", err)
	}
	check(t, f.WriteFile("b", make([]byte, 2*ChunkSize), 0o600))
	check(t, f.Unlink("b"))
	if f.UsedBytes() != ChunkSize {
		t.Fatalf("%d bytes used after unlink", f.UsedBytes())
	}
	if err := a.InstallChunk(0, new([ChunkSize]byte)); err != nil || f.UsedBytes() != ChunkSize {
		t.Fatalf("install over a chunk: %v, %d bytes used", err, f.UsedBytes())
	}
}

func TestLimits(t *testing.T) {
	f := New(Options{})
	a := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	check(t, f.Symlink("loop", "loop"))
	_, atLimit := a.WriteAt([]byte{1}, MaxFileSize)
	_, negative := a.WriteAt([]byte{1}, -1)
	_, negativeRead := a.ReadAt(make([]byte, 1), -1)
	_, loop := f.Stat("loop/x")
	_, long := f.Stat(strings.Repeat("n", NameMax+1))
	_, longPath := f.Stat(strings.Repeat("n/", PathMax))
	_, nul := f.Open("a\x00b", os.O_CREATE, 0)
	_, noInode := f.OpenInode(99, os.O_RDONLY)
	for name, c := range map[string]struct {
		err  error
		want syscall.Errno
	}{
		"write at the limit": {atLimit, syscall.EFBIG}, "negative write": {negative, syscall.EINVAL},
		"negative read": {negativeRead, syscall.EINVAL}, "loop": {loop, syscall.ELOOP},
		"long name": {long, syscall.ENAMETOOLONG}, "long path": {longPath, syscall.ENAMETOOLONG},
		"zero byte": {nul, syscall.EINVAL}, "no inode": {noInode, syscall.ENOENT},
		"truncate at the limit": {a.Truncate(MaxFileSize + 1), syscall.EFBIG},
		"allocate at the limit": {a.Allocate(1, MaxFileSize), syscall.EFBIG},
		"allocate overflow":     {a.Allocate(1<<62, 1<<62), syscall.EFBIG},
		"negative allocate":     {a.Allocate(-1, 5), syscall.EINVAL},
		"root removed":          {f.Rmdir("/"), syscall.EBUSY}, "root renamed": {f.Rename("/", "x"), syscall.EBUSY},
		"directory linked":   {f.Link("/", "x"), syscall.EPERM},
		"chunk past the end": {a.InstallChunk(0, new([ChunkSize]byte)), syscall.EINVAL},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if _, err := a.WriteAt([]byte{1}, MaxFileSize-1); err != nil {
		t.Errorf("last byte: %v", err)
	}
	check(t, a.Close())
	for _, err := range []error{a.Close(), a.Sync(true), a.Truncate(0), a.Allocate(0, 1)} {
		if !errors.Is(err, syscall.EBADF) {
			t.Errorf("closed file: %v", err)
		}
	}
}

func TestUnlinkedOpenFileLivesAndGoesAlong(t *testing.T) {
	f := New(Options{})
	a := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	a.WriteAt(page(1), 0)
	check(t, f.Unlink("a"))
	if a.Path() != "" || a.Stat().Nlink != 0 {
		t.Fatalf("path %q, %d links", a.Path(), a.Stat().Nlink)
	}
	c := f.Clone()
	ca, err := c.OpenInode(a.Inode(), os.O_RDWR)
	check(t, err)
	ca.WriteAt(page(2), 0)
	got := make([]byte, ChunkSize)
	a.ReadAt(got, 0)
	if !bytes.Equal(got, page(1)) {
		t.Fatal("a clone's write is seen in the original")
	}
	check(t, a.Close())
	check(t, ca.Close())
	if f.UsedBytes() != 0 || c.UsedBytes() != 0 {
		t.Fatalf("%d and %d bytes used after close", f.UsedBytes(), c.UsedBytes())
	}
	if _, err := c.OpenInode(ca.Inode(), os.O_RDWR); !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("freed inode opened: %v", err)
	}
}

func TestPathFollowsNames(t *testing.T) {
	f := New(Options{})
	check(t, f.MkdirAll("x/y/z", 0o700))
	check(t, f.MkdirAll("x/y/z", 0o700))
	a := mustOpen(t, f, "x/y/z/a", os.O_RDWR|os.O_CREATE)
	c := f.Clone()
	want := func(want string) {
		t.Helper()
		if a.Path() != want {
			t.Fatalf("path %q, want %q", a.Path(), want)
		}
	}
	want("/x/y/z/a")
	check(t, f.Rename("x/y", "q"))
	want("/q/z/a")
	check(t, f.Link("q/z/a", "b"))
	want("/q/z/a")
	check(t, f.Unlink("q/z/a"))
	want("/b")
	check(t, f.WriteFile("c", nil, 0o600))
	check(t, f.Rename("c", "b"))
	want("")
	ca, err := c.OpenInode(a.Inode(), os.O_RDONLY)
	check(t, err)
	if ca.Path() != "/x/y/z/a" {
		t.Fatalf("the clone's path moved along: %q", ca.Path())
	}
}

func TestExtentsAndInstallChunk(t *testing.T) {
	f := New(Options{})
	a := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	check(t, a.Truncate(3*ChunkSize+10))
	c := [ChunkSize]byte(page(7))
	check(t, a.InstallChunk(3, &c))
	a.WriteAt(page(5), ChunkSize)
	got := map[int64]int{}
	for off, data := range a.Extents() {
		got[off] = len(data)
	}
	if len(got) != 2 || got[ChunkSize] != ChunkSize || got[3*ChunkSize] != 10 {
		t.Fatalf("extents %v", got)
	}
	check(t, a.Truncate(4*ChunkSize))
	tail := make([]byte, ChunkSize)
	if _, err := a.ReadAt(tail, 3*ChunkSize); err != nil {
		t.Fatal(err)
	}
	if tail[9] != 7 || tail[10] != 0 || tail[ChunkSize-1] != 0 {
		t.Fatal("bytes past the end came back when the file grew")
	}
	if n, err := a.ReadAt(tail, 4*ChunkSize-1); n != 1 || err != io.EOF {
		t.Fatalf("read over the end: %d, %v", n, err)
	}
}

func TestTimesAndModes(t *testing.T) {
	now := time.Unix(1000, 5)
	f := New(Options{Now: func() time.Time { return now }})
	check(t, f.WriteFile("a", []byte("x"), 0o640))
	now = now.Add(time.Hour)
	check(t, f.Chmod("a", 0o600))
	then := time.Unix(77, 123)
	check(t, f.Chtimes("a", time.Time{}, then))
	info, err := f.Stat("a")
	check(t, err)
	if !info.Mtime.Equal(then) || !info.Atime.Equal(time.Unix(1000, 5)) || !info.Ctime.Equal(now) || info.Mode != ModeRegular|0o600 {
		t.Fatalf("%+v", info)
	}
	c := f.Clone()
	check(t, c.Chmod("a", 0o400))
	if info, _ := f.Stat("a"); info.Mode != ModeRegular|0o600 {
		t.Fatal("a clone's chmod is seen in the original")
	}
	file := mustOpen(t, f, "a", os.O_WRONLY)
	file.WriteAt([]byte("y"), 0)
	if !file.Stat().Mtime.Equal(now) || file.Stat().Blocks != ChunkSize/512 {
		t.Fatalf("%+v", file.Stat())
	}
}

func TestWalkAndReadDir(t *testing.T) {
	f := New(Options{})
	check(t, f.MkdirAll("b/c", 0o700))
	check(t, f.WriteFile("b/c/x", nil, 0o600))
	check(t, f.WriteFile("b-", nil, 0o600))
	check(t, f.Symlink("b", "a"))
	var got []string
	check(t, f.Walk("", func(path string, info Info) error {
		got = append(got, path)
		if path == "/b/c" {
			return iofs.SkipDir
		}
		return nil
	}))
	if want := "/ /a /b /b/c /b-"; strings.Join(got, " ") != want {
		t.Fatalf("walk gave %q, want %q", got, want)
	}
	got = nil
	check(t, f.Walk("/b/", func(path string, info Info) error {
		got = append(got, path)
		return iofs.SkipAll
	}))
	if len(got) != 1 || got[0] != "/b" {
		t.Fatalf("walk gave %q", got)
	}
	stop := errors.New("stop")
	if err := f.Walk("/", func(string, Info) error { return stop }); err != stop {
		t.Fatalf("walk gave %v", err)
	}
	list, err := f.ReadDir("a")
	check(t, err)
	if len(list) != 1 || list[0].Name != "c" || list[0].Mode != ModeDir|0o700 {
		t.Fatalf("%+v", list)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	f := New(Options{})
	a := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	b := mustOpen(t, f, "b", os.O_RDWR|os.O_CREATE)
	told := 0
	f.SetHooks(Hooks{Write: func(string, int64, []byte) { told++ }, Sync: func(string, bool) { told++ }})
	buf := page(1)
	a.WriteAt(make([]byte, 64*ChunkSize), 0)
	b.WriteAt(buf, 0)
	i := int64(0)
	if n := testing.AllocsPerRun(200, func() {
		i++
		a.WriteAt(buf, i%64*ChunkSize)
		a.ReadAt(buf, i*7%64*ChunkSize)
		b.WriteAt(buf[:30], i*30)
		a.Sync(true)
		a.Stat()
	}); n != 0 {
		t.Fatalf("%v allocations for writes and reads of chunks that exist", n)
	}
	if n := testing.AllocsPerRun(200, func() {
		a.Truncate(0)
		a.WriteAt(buf, 0)
	}); n != 0 {
		t.Fatalf("%v allocations for a chunk that was just freed", n)
	}
	if told == 0 {
		t.Fatal("hooks were not told")
	}
}

// TestForget: the contents are dropped, for this tree only, and later writes find zeros.
func TestForget(t *testing.T) {
	var heard int
	f := New(Options{})
	f.SetHooks(Hooks{Truncate: func(string, int64) { heard++ }, Write: func(string, int64, []byte) { heard++ }})
	body := bytes.Repeat([]byte("x"), 3*ChunkSize+7)
	if err := f.WriteFile("/a", body, 0o600); err != nil {
		t.Fatal(err)
	}
	heard = 0
	c := f.Clone()
	if err := f.Forget("/a"); err != nil {
		t.Fatal(err)
	}
	if got, err := f.ReadFile("/a"); err != nil || !bytes.Equal(got, make([]byte, len(body))) || f.UsedBytes() != 0 || heard != 0 {
		t.Errorf("%d bytes are read (%v), %d used, %d hooks called", len(got), err, f.UsedBytes(), heard)
	}
	if got, err := c.ReadFile("/a"); err != nil || !bytes.Equal(got, body) {
		t.Errorf("the clone has lost its bytes (%v)", err)
	}
	if err := f.Forget("/none"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("of a file that is not there: %v", err)
	}
	if err := f.Forget("/"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("of a folder: %v", err)
	}
}
