package pglite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
)

// guest is an instance without PostgreSQL, for calling imports as the guest would.
type guest struct {
	t     testing.TB
	in    *Instance
	calls map[string]hostFunc
	next  uint32 // free memory
}

// Open flags with the numbers of the guest's headers, as a check of the constants.
const (
	rdonly, wronly, rdwr = 0, 1, 2
	creat, excl          = 0o100, 0o200
	trunc, appendTo      = 0o1000, 0o2000
	directory            = 0o200000
)

func newGuest(t testing.TB) *guest {
	t.Helper()
	system := memfs.New(memfs.Options{})
	for _, dir := range []string{dataRoot, "/tmp"} {
		if err := system.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	clk := clock.NewVirtual(time.Unix(1_000_000, 5))
	in := &Instance{
		files: newFiles(system, memfs.New(memfs.Options{Now: clk.Now}), strings.NewReader(strings.Repeat("random", 100))),
		mem:   &memory{b: make([]byte, 4*wasmPage)}, clock: clk, killed: make(chan struct{}),
	}
	in.random = in.files.random
	calls := fileCalls()
	for name, f := range processCalls() {
		calls[name] = f
	}
	return &guest{t: t, in: in, calls: calls, next: 64}
}

// call calls an import. Strings and byte slices go to memory, and their address is passed.
func (g *guest) call(name string, args ...any) int64 {
	g.t.Helper()
	s := make([]uint64, max(len(args), 1))
	for i, a := range args {
		switch a := a.(type) {
		case string:
			s[i] = uint64(g.put([]byte(a + "\x00")))
		case []byte:
			s[i] = uint64(g.put(a))
		case int:
			s[i] = uint64(a)
		case int64:
			s[i] = uint64(a)
		case uint32:
			s[i] = uint64(a)
		default:
			g.t.Fatalf("argument of type %T", a)
		}
	}
	f, ok := g.calls[name]
	if !ok {
		g.t.Fatalf("no import %s", name)
	}
	f(g.in, s)
	return int64(int32(s[0]))
}

// put places bytes in memory.
func (g *guest) put(b []byte) uint32 {
	at := g.next
	g.in.mem.putBytes(at, b)
	g.next = (at + uint32(len(b)) + 15) &^ 15
	return at
}

// want calls an import and compares the result.
func (g *guest) want(result any, name string, args ...any) {
	g.t.Helper()
	var wanted int64
	switch r := result.(type) {
	case errno:
		wanted = -int64(r)
		if strings.HasPrefix(name, "fd_") {
			wanted = int64(r)
		}
	case int:
		wanted = int64(r)
	}
	if got := g.call(name, args...); got != wanted {
		g.t.Fatalf("%s%v returned %d, want %d", name, args, got, wanted)
	}
}

func (g *guest) open(name string, flags int) int {
	g.t.Helper()
	fd := g.call("__syscall_openat", atFdcwd, name, flags, []byte{0xa4, 1, 0, 0}) // 0o644
	if fd < 0 {
		g.t.Fatalf("open %s: %d", name, fd)
	}
	return int(fd)
}

// vectors makes an iovec with parts of these sizes, and returns the address of the first part.
func (g *guest) vectors(sizes ...int) (iov, first uint32) {
	total := 0
	for _, n := range sizes {
		total += n
	}
	first = g.put(make([]byte, total))
	var list []byte
	at := first
	for _, n := range sizes {
		list = binary.LittleEndian.AppendUint32(list, at)
		list = binary.LittleEndian.AppendUint32(list, uint32(n))
		at += uint32(n)
	}
	return g.put(list), first
}

func (g *guest) write(fd int, text string) errno {
	g.t.Helper()
	iov, at := g.vectors(len(text)/2, len(text)-len(text)/2)
	g.in.mem.putBytes(at, []byte(text))
	done := g.put(make([]byte, 4))
	e := errno(g.call("fd_write", fd, iov, 2, done))
	if e == eOK && int(g.in.mem.u32(done)) != len(text) {
		g.t.Fatalf("wrote %d of %d", g.in.mem.u32(done), len(text))
	}
	return e
}

func (g *guest) read(fd, n int) (string, errno) {
	g.t.Helper()
	iov, at := g.vectors(n/2, n-n/2)
	done := g.put(make([]byte, 4))
	e := errno(g.call("fd_read", fd, iov, 2, done))
	return string(g.in.mem.bytes(at, g.in.mem.u32(done))), e
}

func (g *guest) wantRead(fd, n int, text string, want errno) {
	g.t.Helper()
	if got, e := g.read(fd, n); got != text || e != want {
		g.t.Fatalf("read %q, error %d; want %q, %d", got, e, text, want)
	}
}

func (g *guest) seek(fd int, off int64, whence int) int64 {
	g.t.Helper()
	at := g.put(make([]byte, 8))
	if e := g.call("fd_seek", fd, off, whence, at); e != 0 {
		return -e
	}
	return int64(g.in.mem.u64(at))
}

func TestResolve(t *testing.T) {
	f := newGuest(t).in.files
	for _, c := range []struct{ cwd, name, tree, rel string }{
		{"/", "/pglite/data", "data", "/"},
		{"/", "/pglite/data/", "data", "/"},
		{"/", "/pglite/data/base/1", "data", "/base/1"},
		{"/", "/pglite/database", "system", "/pglite/database"},
		{"/", "/pglite", "system", "/pglite"},
		{"/", "pglite/data/x", "data", "/x"},
		{"/", "/pglite/data/../share", "system", "/pglite/share"},
		{"/", "/pglite//data//x", "data", "/x"},
		{"/", "/pglite/./data/./x", "data", "/x"},
		{dataRoot, "base/1", "data", "base/1"},
		{dataRoot, "../share", "system", "/pglite/share"},
		{dataRoot, "../../..", "system", "/"},
		{dataRoot, ".", "data", "."},
		{dataRoot, "/tmp/x", "system", "/tmp/x"},
		{dataRoot + "/base", "1", "data", "/base/1"},
		{dataRoot + "/base", "..", "data", "/"},
		{"/tmp", "x", "system", "/tmp/x"},
	} {
		f.cwd = c.cwd
		tree, rel := f.resolve(c.name)
		got := "system"
		if tree == f.data {
			got = "data"
		}
		if strings.TrimSuffix(rel, "/") != strings.TrimSuffix(c.rel, "/") || got != c.tree {
			t.Errorf("%s in %s is %s in the %s tree, want %s in %s", c.name, c.cwd, rel, got, c.rel, c.tree)
		}
	}
}

func TestOpen(t *testing.T) {
	g := newGuest(t)
	fd := g.open("/pglite/data/f", rdwr|creat|excl)
	if e := g.write(fd, "hello"); e != eOK {
		t.Fatal(e)
	}
	perm := []byte{0xff, 1, 0, 0}
	openat := func(result any, name string, flags int) {
		t.Helper()
		g.want(result, "__syscall_openat", atFdcwd, name, flags, perm)
	}
	openat(eEXIST, "/pglite/data/f", rdwr|creat|excl)
	openat(eNOENT, "/pglite/data/none", rdonly)
	openat(eNOENT, "/pglite/data/none/x", rdwr|creat)
	openat(eNOTDIR, "/pglite/data/f", rdonly|directory)
	openat(eNOTDIR, "/pglite/data/f/x", rdonly)
	openat(eISDIR, "/pglite/data", rdwr)
	openat(eISDIR, "/pglite/data", wronly|creat)
	g.wantRead(g.open("/pglite/data/f", rdonly), 10, "hello", eOK)
	g.wantRead(g.open("/pglite/data/f", rdwr|trunc), 10, "", eOK)
	reader := g.open("/pglite/data/f", rdonly)
	if e := g.write(reader, "x"); e != eBADF {
		t.Fatal(e)
	}
	writer := g.open("/pglite/data/f", wronly)
	g.wantRead(writer, 1, "", eBADF)
	g.wantRead(g.open("/pglite/data", rdonly), 1, "", eISDIR)
	g.wantRead(99, 1, "", eBADF)
	a, b := g.open("/pglite/data/f", wronly|appendTo), g.open("/pglite/data/f", wronly|appendTo)
	for i, fd := range []int{a, b, a} {
		if e := g.write(fd, fmt.Sprint(i)); e != eOK {
			t.Fatal(e)
		}
	}
	g.wantRead(reader, 10, "012", eOK)
}

func TestDescriptors(t *testing.T) {
	g := newGuest(t)
	var fds []int
	for range 4 {
		fds = append(fds, g.open("/tmp/f", rdwr|creat))
	}
	if !slices.Equal(fds, []int{0, 1, 2, 3}) {
		t.Fatal(fds)
	}
	g.want(eOK, "fd_close", 1)
	g.want(eBADF, "fd_close", 1)
	g.want(eOK, "fd_close", 2)
	g.want(1, "__syscall_dup", 0) // the lowest
	if e := g.write(0, "abcdef"); e != eOK {
		t.Fatal(e)
	}
	if pos := g.seek(1, 0, 1); pos != 6 { // duplicates share the position
		t.Fatal(pos)
	}
	g.want(eOK, "fd_close", 0)
	if pos := g.seek(1, 2, 0); pos != 2 {
		t.Fatal(pos)
	}
	g.wantRead(1, 2, "cd", eOK)
	g.want(7, "__syscall_dup3", 1, 7, 0)
	g.want(3, "__syscall_dup3", 1, 3, 0) // the previous file there is closed
	g.want(eINVAL, "__syscall_dup3", 3, 3, 0)
	g.want(eBADF, "__syscall_dup3", 50, 3, 0)
	g.want(eBADF, "__syscall_dup3", 3, maxDescriptors, 0)
	g.want(eBADF, "__syscall_dup", 50)
	g.wantRead(3, 2, "ef", eOK)
	g.want(5, "__syscall_fcntl64", 7, fDupfd, []byte{5, 0, 0, 0})
	_ = g.open("/tmp/f", rdonly) // 0
	g.want(6, "__syscall_fcntl64", 7, fDupfd, []byte{5, 0, 0, 0})
	g.want(eINVAL, "__syscall_fcntl64", 7, 99, 0)
	g.want(eBADF, "__syscall_fcntl64", 77, fGetfl, 0)
	g.want(rdwr|creat, "__syscall_fcntl64", 7, fGetfl, 0)
	g.want(0, "__syscall_fcntl64", 7, fSetfl, []byte{0, 8, 0, 0}) // O_NONBLOCK
	g.want(rdwr|creat|oNonblock, "__syscall_fcntl64", 3, fGetfl, 0)
}

// At the limit a new descriptor is refused, and the file it was for stays usable.
func TestTooManyDescriptors(t *testing.T) {
	g := newGuest(t)
	fd := g.open("/tmp/f", rdwr|creat)
	for i := range maxDescriptors - 1 {
		g.want(i+1, "__syscall_dup", fd)
		g.next = 64
	}
	g.want(eMFILE, "__syscall_dup", fd)
	g.want(eMFILE, "__syscall_fcntl64", fd, fDupfd, []byte{3, 0, 0, 0})
	g.want(eMFILE, "__syscall_openat", atFdcwd, "/tmp/f", rdonly, 0)
	g.want(eMFILE, "__syscall_openat", atFdcwd, "/dev/null", rdonly, 0)
	g.want(eMFILE, "__syscall_pipe2", make([]byte, 8), 0)
	if e := g.write(fd, "still open"); e != eOK {
		t.Fatal(e)
	}
	g.want(eOK, "fd_close", 100)
	g.want(eMFILE, "__syscall_pipe2", make([]byte, 8), 0) // needs two
	g.want(100, "__syscall_dup", fd)
}

func TestPipe(t *testing.T) {
	g := newGuest(t)
	ends := g.put(make([]byte, 8))
	g.want(0, "__syscall_pipe2", ends, oNonblock)
	r, w := int(g.in.mem.u32(ends)), int(g.in.mem.u32(ends+4))
	g.wantRead(r, 4, "", eAGAIN)
	if e := g.write(w, "abc"); e != eOK {
		t.Fatal(e)
	}
	if e := g.write(r, "x"); e != eBADF {
		t.Fatal(e)
	}
	g.wantRead(w, 1, "", eBADF)
	g.wantRead(r, 2, "ab", eOK)
	if got := g.seek(r, 0, 0); got != -int64(eSPIPE) {
		t.Fatal(got)
	}
	poll := func(fd, events, result, revents int) {
		t.Helper()
		p := g.put([]byte{byte(fd), 0, 0, 0, byte(events), 0, 0, 0})
		g.want(result, "__syscall_poll", p, 1, 0)
		if got := int(g.in.mem.u16(p + 6)); got != revents {
			t.Fatalf("revents %d, want %d", got, revents)
		}
	}
	poll(r, pollIn, 1, pollIn)
	poll(w, pollOut, 1, pollOut)
	poll(60, pollIn, 1, pollNval)
	g.wantRead(r, 2, "c", eOK)
	poll(r, pollIn, 0, 0)
	g.want(9, "__syscall_dup3", w, 9, 0)
	g.want(eOK, "fd_close", w)
	g.wantRead(r, 1, "", eAGAIN) // one writer is left
	g.want(eOK, "fd_close", 9)
	g.wantRead(r, 1, "", eOK)
	poll(r, pollIn, 1, pollIn) // end of file
	g.want(0, "__syscall_pipe2", ends, 0)
	r, w = int(g.in.mem.u32(ends)), int(g.in.mem.u32(ends+4))
	for range maxPipe / 1024 {
		if e := g.write(w, strings.Repeat("x", 1024)); e != eOK {
			t.Fatal(e)
		}
		g.next = ends + 16
	}
	if e := g.write(w, "x"); e != eAGAIN {
		t.Fatal(e)
	}
	g.want(eOK, "fd_close", r)
	if e := g.write(w, "x"); e != ePIPE {
		t.Fatal(e)
	}
}

func TestSeekAndPositions(t *testing.T) {
	g := newGuest(t)
	fd := g.open("/pglite/data/f", rdwr|creat)
	g.write(fd, "0123456789")
	for _, c := range []struct {
		off    int64
		whence int
		want   int64
	}{{3, 0, 3}, {2, 1, 5}, {-5, 1, 0}, {-1, 1, -int64(eINVAL)}, {-4, 2, 6}, {5, 2, 15}, {0, 9, -int64(eINVAL)}, {1 << 40, 0, 1 << 40}, {0, 0, 0}} {
		if got := g.seek(fd, c.off, c.whence); got != c.want {
			t.Errorf("seek %d from %d: %d, want %d", c.off, c.whence, got, c.want)
		}
	}
	iov, at := g.vectors(2, 3)
	done := g.put(make([]byte, 4))
	g.want(eOK, "fd_pread", fd, iov, 2, int64(4), done)
	if got := string(g.in.mem.bytes(at, g.in.mem.u32(done))); got != "45678" {
		t.Fatal(got)
	}
	g.in.mem.putBytes(at, []byte("abcde"))
	g.want(eOK, "fd_pwrite", fd, iov, 2, int64(8), done)
	g.want(eINVAL, "fd_pread", fd, iov, 2, int64(-1), done)
	g.want(eINVAL, "fd_pwrite", fd, iov, 1, int64(-1), done)
	g.want(eBADF, "fd_pread", 77, iov, 1, int64(0), done)
	g.wantRead(fd, 20, "01234567abcde", eOK) // none of these moved the position
	g.want(0, "__syscall_ftruncate64", fd, int64(3))
	g.want(0, "__syscall_fallocate", fd, 0, int64(0), int64(5))
	g.want(eNOTSUP, "__syscall_fallocate", fd, 1, int64(0), int64(5))
	g.want(eINVAL, "__syscall_ftruncate64", fd, int64(-1))
	g.seek(fd, 0, 0)
	g.wantRead(fd, 20, "012\x00\x00", eOK)
	g.want(0, "__syscall_truncate64", "/pglite/data/f", int64(1))
	g.want(eNOENT, "__syscall_truncate64", "/pglite/data/none", int64(1))
	g.want(0, "__syscall_fdatasync", fd)
	g.want(eOK, "fd_sync", fd)
	g.want(eBADF, "__syscall_fdatasync", 77)
	g.want(eOK, "fd_sync", g.open("/pglite/data", rdonly))
	g.want(eISDIR, "__syscall_ftruncate64", g.open("/pglite/data", rdonly), int64(0))
	g.want(eINVAL, "__syscall_ftruncate64", g.open("/dev/null", rdwr), int64(0))
}

func TestDirectoryListing(t *testing.T) {
	g := newGuest(t)
	g.want(0, "__syscall_mkdirat", atFdcwd, "/pglite/data/d", 0o755)
	g.want(eEXIST, "__syscall_mkdirat", atFdcwd, "/pglite/data/d", 0o755)
	wanted := []string{". 4", ".. 4"}
	for i := range 10 {
		g.want(eOK, "fd_close", g.open(fmt.Sprintf("/pglite/data/d/f%d", i), rdwr|creat))
		wanted = append(wanted, fmt.Sprintf("f%d 8", i))
	}
	g.want(0, "__syscall_mkdirat", atFdcwd, "/pglite/data/d/sub", 0o755)
	g.want(0, "__syscall_symlinkat", "f0", atFdcwd, "/pglite/data/d/link")
	wanted = append(wanted, "link 10", "sub 4")
	fd := g.open("/pglite/data/d", rdonly|directory)
	list := func(perCall int) []string {
		t.Helper()
		buf := g.put(make([]byte, perCall*direntSize+100)) // the remaining space is too small for another entry
		var got []string
		for {
			n := int(g.call("__syscall_getdents64", fd, buf, perCall*direntSize+100))
			if n < 0 || n%direntSize != 0 || n > perCall*direntSize {
				t.Fatal(n)
			}
			if n == 0 {
				slices.Sort(got[2:])
				return got
			}
			for i := range n / direntSize {
				p := g.in.mem.bytes(buf+uint32(i*direntSize), direntSize)
				got = append(got, fmt.Sprintf("%s %d", strings.TrimRight(string(p[19:]), "\x00"), p[18]))
			}
		}
	}
	for _, perCall := range []int{1, 3, 100} {
		if got := list(perCall); !slices.Equal(got, wanted) {
			t.Fatalf("%d at a time: %v, want %v", perCall, got, wanted)
		}
		g.want(eOK, "fd_close", g.open("/pglite/data/d/late", rdwr|creat)) // seen after a rewind
		if perCall == 1 {
			wanted = slices.Insert(wanted, 12, "late 8")
		}
		g.seek(fd, 0, 0)
	}
	g.want(0, "__syscall_getdents64", fd, make([]byte, 10), 10)
	g.want(eNOTDIR, "__syscall_getdents64", g.open("/pglite/data/d/f0", rdonly), make([]byte, 300), 300)
	g.want(eBADF, "__syscall_getdents64", 77, make([]byte, 300), 300)
	g.want(eNOTEMPTY, "__syscall_rmdir", "/pglite/data/d")
}

func TestPathsRelativeToDirectories(t *testing.T) {
	g := newGuest(t)
	g.want(0, "__syscall_mkdirat", atFdcwd, "/pglite/data/d", 0o755)
	dir := g.open("/pglite/data/d", rdonly)
	file := int(g.call("__syscall_openat", dir, "f", rdwr|creat, []byte{0xb6, 1, 0, 0})) // 0o666
	buf := g.put(make([]byte, statSize))
	mode := func() uint32 { return g.in.mem.u32(buf + 4) }
	g.want(0, "__syscall_newfstatat", dir, "f", buf, 0)
	if got := mode(); got != 0o100644 { // umask 022
		t.Fatalf("mode %o", got)
	}
	g.want(0o22, "__syscall_umask", 0o77)
	g.want(0, "__syscall_mkdirat", dir, "sub", 0o777)
	g.want(0, "__syscall_stat64", "/pglite/data/d/sub", buf)
	if got := mode(); got != 0o40700 {
		t.Fatalf("mode %o", got)
	}
	g.want(0, "__syscall_newfstatat", dir, "", buf, atEmptyPath)
	if got := mode(); got != 0o40755 {
		t.Fatalf("mode %o", got)
	}
	g.want(0, "__syscall_fchmod", file, 0o600)
	g.want(0, "__syscall_fchmodat2", dir, "sub", 0o711, 0)
	g.want(0, "__syscall_chmod", "/pglite/data/d", 0o700)
	g.want(eNOENT, "__syscall_chmod", "/pglite/data/none", 0o700)
	g.want(0, "__syscall_fstat64", file, buf)
	if got := mode(); got != 0o100600 {
		t.Fatalf("mode %o", got)
	}
	g.want(eNOTDIR, "__syscall_openat", file, "x", rdonly, 0)
	g.want(eBADF, "__syscall_openat", 77, "x", rdonly, 0)
	g.want(eNOENT, "__syscall_faccessat", dir, "none", 0, 0)
	g.want(0, "__syscall_faccessat", dir, "f", 0, 0)
	g.want(0, "__syscall_faccessat", 77, "/dev/null", 0, 0)
	g.want(0, "__syscall_renameat", dir, "f", atFdcwd, "/pglite/data/g")
	g.want(eXDEV, "__syscall_renameat", atFdcwd, "/pglite/data/g", atFdcwd, "/tmp/g")
	g.want(eNOENT, "__syscall_renameat", dir, "f", dir, "h")
	g.want(0, "__syscall_linkat", atFdcwd, "/pglite/data/g", dir, "again", 0)
	g.want(0, "__syscall_fstat64", file, buf)
	if links := g.in.mem.u32(buf + 8); links != 2 {
		t.Fatal(links)
	}
	g.want(0, "__syscall_unlinkat", dir, "again", 0)
	g.want(eNOENT, "__syscall_unlinkat", dir, "again", 0)
	g.want(eISDIR, "__syscall_unlinkat", dir, "sub", 0)
	g.want(0, "__syscall_unlinkat", dir, "sub", atRemovedir)
	g.want(0, "__syscall_symlinkat", "../g", dir, "link")
	g.want(4, "__syscall_readlinkat", dir, "link", make([]byte, 10), 10)
	g.want(2, "__syscall_readlinkat", dir, "link", make([]byte, 10), 2)
	g.want(eINVAL, "__syscall_readlinkat", atFdcwd, "/pglite/data/g", make([]byte, 10), 10)
	g.want(0, "__syscall_lstat64", "/pglite/data/d/link", buf)
	if got := mode() & modeType; got != modeSymlink {
		t.Fatalf("mode %o", got)
	}
	g.want(0, "__syscall_chdir", dataRoot)
	g.want(eNOTDIR, "__syscall_chdir", "g")
	g.want(eNOENT, "__syscall_chdir", "none")
	g.want(0, "__syscall_stat64", "d/link", buf)
	g.want(eRANGE, "__syscall_getcwd", make([]byte, 5), 5)
	cwd := g.put(make([]byte, 50))
	g.want(len(dataRoot)+1, "__syscall_getcwd", cwd, 50)
	if got := g.in.mem.cstr(cwd); got != dataRoot {
		t.Fatal(got)
	}
}

func TestFileTimes(t *testing.T) {
	g := newGuest(t)
	fd := g.open("/pglite/data/f", rdwr|creat)
	buf := g.put(make([]byte, statSize))
	check := func(atime, mtime, nanos int64) {
		t.Helper()
		g.want(0, "__syscall_fstat64", fd, buf)
		if a, m, n := int64(g.in.mem.u64(buf+40)), int64(g.in.mem.u64(buf+56)), int64(g.in.mem.u32(buf+64)); a != atime || m != mtime || n != nanos {
			t.Fatalf("times %d and %d.%d, want %d and %d.%d", a, m, n, atime, mtime, nanos)
		}
	}
	spec := func(sec, nsec int64) []byte {
		return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(sec)), uint64(nsec))
	}
	g.want(0, "__syscall_utimensat", atFdcwd, "/pglite/data/f", append(spec(10, 0), spec(20, 7)...), 0)
	check(10, 20, 7)
	g.want(0, "__syscall_utimensat", atFdcwd, "/pglite/data/f", append(spec(0, utimeOmit), spec(0, utimeNow)...), 0)
	check(10, 1_000_000, 5)
	g.want(0, "__syscall_utimensat", atFdcwd, "/pglite/data/f", 0, 0)
	check(1_000_000, 1_000_000, 5)
	g.want(eNOENT, "__syscall_utimensat", atFdcwd, "/pglite/data/none", 0, 0)
}

func TestDevices(t *testing.T) {
	g := newGuest(t)
	null, zero, random := g.open("/dev/null", rdwr), g.open("/dev/zero", rdonly), g.open("/dev/urandom", rdonly)
	if e := g.write(null, "x"); e != eOK {
		t.Fatal(e)
	}
	g.wantRead(null, 5, "", eOK)
	g.wantRead(zero, 5, "\x00\x00\x00\x00\x00", eOK)
	g.wantRead(random, 6, "random", eOK)
	g.wantRead(random, 1000, "", eIO) // the source has ended
	buf := g.put(make([]byte, statSize))
	g.want(0, "__syscall_stat64", "/dev/urandom", buf)
	if got := g.in.mem.u32(buf + 4); got != modeChar|0o666 {
		t.Fatalf("mode %o", got)
	}
	g.want(eNOENT, "__syscall_openat", atFdcwd, "/dev/none", rdonly, 0)
	g.want(eNOTTY, "__syscall_ioctl", null, 0, 0)
	for i, want := range map[int]byte{null: 2, g.open("/tmp", rdonly): 3, g.open("/tmp/f", rdwr|creat): 4} {
		g.want(eOK, "fd_fdstat_get", i, buf)
		if got := g.in.mem.b[buf]; got != want {
			t.Fatalf("descriptor %d has type %d, want %d", i, got, want)
		}
	}
}

func TestLineDevice(t *testing.T) {
	var lines []string
	d := &lineDevice{emit: func(s string) { lines = append(lines, s) }}
	for _, s := range []string{"on", "e\ntwo\n\nthr", "ee\n", strings.Repeat("x", maxLine+10), "\n"} {
		if n, e := d.write([]byte(s)); n != len(s) || e != eOK {
			t.Fatal(n, e)
		}
	}
	want := []string{"one", "two", "", "three", strings.Repeat("x", maxLine), strings.Repeat("x", 10)}
	if !slices.Equal(lines, want) {
		t.Fatalf("%.100q", lines)
	}
}

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want errno
	}{
		{nil, 0}, {syscall.ENOENT, 44}, {&fs.PathError{Op: "open", Err: syscall.EEXIST}, 20}, {syscall.ENOTDIR, 54}, {syscall.EISDIR, 31},
		{syscall.ENOTEMPTY, 55}, {fmt.Errorf("write: %w", syscall.ENOSPC), 51}, {syscall.EINVAL, 28}, {syscall.EXDEV, 75}, {syscall.EROFS, 69},
		{errors.New("other"), 29}, {syscall.EHOSTDOWN, 29},
	} {
		if got := toErrno(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	if got := int32(eNOENT.neg()); got != -44 {
		t.Fatal(got)
	}
}
