package memfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const modelSeed = 20251125

// pair is a tree under test, and the same tree in the operating system.
type pair struct {
	t    *testing.T
	rng  *rand.Rand
	root string
	mem  *FS
	open []handle
	last string
	seen map[string]int // operation and outcome
	away *shelf         // where bytes are evicted to; nil: none are
}

type handle struct {
	fd   int
	file *File
}

func newPair(t *testing.T, seed uint64) *pair {
	p := &pair{t: t, rng: rand.New(rand.NewPCG(seed, 1)), root: t.TempDir(), mem: New(Options{}), seen: map[string]int{}}
	t.Cleanup(p.closeAll)
	return p
}

func (p *pair) closeAll() {
	for _, h := range p.open {
		syscall.Close(h.fd)
		h.file.Close()
	}
	p.open = nil
}

// path makes up a path; there are few names, so that operations meet. It never leads above the root.
func (p *pair) path() string {
	names := []string{"a", "b", "c", "dd"}
	path := ""
	for range 1 + p.rng.IntN(3) {
		path += "/" + names[p.rng.IntN(len(names))]
		switch p.rng.IntN(40) {
		case 0:
			path += "/."
		case 1:
			path += "/../" + names[p.rng.IntN(len(names))]
		}
	}
	if p.rng.IntN(25) == 0 {
		path += "/"
	}
	return path
}

func (p *pair) size() int64 {
	switch p.rng.IntN(6) {
	case 0:
		return int64(p.rng.IntN(6)) * ChunkSize
	case 1:
		return int64(p.rng.IntN(40)) * ChunkSize / 2
	case 2:
		return int64(p.rng.IntN(50))
	case 3:
		return max(0, int64(p.rng.IntN(6))*ChunkSize+int64(p.rng.IntN(3)-1))
	}
	return int64(p.rng.IntN(7 * ChunkSize))
}

func (p *pair) bytes() []byte {
	n := []int{1, 7, 100, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3 * ChunkSize, 20000}[p.rng.IntN(8)]
	buf := make([]byte, n)
	for i := range buf {
		buf[i] = byte(p.rng.Uint32())
	}
	return buf
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err == nil || errors.Is(err, io.EOF) {
		return 0
	}
	if !errors.As(err, &errno) {
		panic(fmt.Sprintf("error without errno: %v", err))
	}
	return errno
}

func (p *pair) same(osErr, memErr error) bool {
	p.t.Helper()
	want, got := errnoOf(osErr), errnoOf(memErr)
	if want != got {
		p.t.Fatalf("%s: operating system says %q, memfs says %q", p.last, want.Error(), got.Error())
	}
	p.seen[fmt.Sprintf("%.6s %v", p.last, want.Error())]++
	var pe *fs.PathError
	if memErr != nil && want != 0 && !errors.As(memErr, &pe) {
		p.t.Fatalf("%s: %T is not a PathError", p.last, memErr)
	}
	return want == 0
}

func (p *pair) step() {
	p.t.Helper()
	if len(p.open) > 0 && p.rng.IntN(2) == 0 {
		p.stepFile(p.rng.IntN(len(p.open)))
		return
	}
	a, b := p.path(), p.path()
	perm := []uint32{0o700, 0o750, 0o755}[p.rng.IntN(3)]
	switch op := p.rng.IntN(20); op {
	case 0, 1, 2, 3, 4, 5:
		p.stepOpen(a, perm)
	case 6, 7:
		p.last = "mkdir " + a
		p.same(syscall.Mkdir(p.root+a, perm), p.mem.Mkdir(a, perm))
	case 8:
		p.last = "rmdir " + a
		p.same(syscall.Rmdir(p.root+a), p.mem.Rmdir(a))
	case 9, 10:
		p.last = "unlink " + a
		p.same(syscall.Unlink(p.root+a), p.mem.Unlink(a))
	case 11, 12, 13:
		p.last = "rename " + a + " " + b
		p.same(syscall.Rename(p.root+a, p.root+b), p.mem.Rename(a, b))
	case 14:
		p.last = "link " + a + " " + b
		p.same(syscall.Link(p.root+a, p.root+b), p.mem.Link(a, b))
	case 15:
		target := []string{"a", "b", "c/a", "dd", "a/b/c", "b/"}[p.rng.IntN(6)]
		p.last = "symlink " + target + " " + a
		p.same(syscall.Symlink(target, p.root+a), p.mem.Symlink(target, a))
	case 16:
		p.stepReadlink(a)
	case 17:
		size := p.size() - int64(p.rng.IntN(20)/19)*100000
		p.last = fmt.Sprintf("truncate %s %d", a, size)
		p.same(syscall.Truncate(p.root+a, size), p.brought(a, func() error { return p.mem.Truncate(a, size) }))
	case 18:
		p.last = fmt.Sprintf("chmod %s %o", a, perm)
		p.same(syscall.Chmod(p.root+a, perm), p.mem.Chmod(a, perm))
	case 19:
		p.stepStat(a)
	}
}

func (p *pair) stepOpen(path string, perm uint32) {
	p.t.Helper()
	flag := []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR}[p.rng.IntN(4)]
	for _, extra := range []struct{ bit, odds int }{
		{os.O_CREATE, 2}, {os.O_EXCL, 8}, {os.O_TRUNC, 8}, {syscall.O_DIRECTORY, 15}, {syscall.O_NOFOLLOW, 10},
	} {
		if p.rng.IntN(extra.odds) == 0 {
			flag |= extra.bit
		}
	}
	p.last = fmt.Sprintf("open %s %#x", path, flag)
	fd, osErr := syscall.Open(p.root+path, flag|syscall.O_CLOEXEC, perm)
	file, memErr := p.mem.Open(path, flag, perm)
	if !p.same(osErr, memErr) {
		return
	}
	p.open = append(p.open, handle{fd, file})
	if len(p.open) > 6 {
		p.closeOne(p.rng.IntN(len(p.open)))
	}
}

func (p *pair) closeOne(i int) {
	p.t.Helper()
	h := p.open[i]
	p.last = "close"
	p.same(syscall.Close(h.fd), h.file.Close())
	p.open = append(p.open[:i], p.open[i+1:]...)
}

func (p *pair) stepReadlink(path string) {
	p.t.Helper()
	p.last = "readlink " + path
	buf := make([]byte, 300)
	n, osErr := syscall.Readlink(p.root+path, buf)
	target, memErr := p.mem.Readlink(path)
	if p.same(osErr, memErr) && target != string(buf[:n]) {
		p.t.Fatalf("%s: %q, want %q", p.last, target, buf[:n])
	}
}

func (p *pair) stepStat(path string) {
	p.t.Helper()
	p.last = "stat " + path
	var st syscall.Stat_t
	osErr := syscall.Stat(p.root+path, &st)
	info, memErr := p.mem.Stat(path)
	if p.same(osErr, memErr) {
		p.sameInfo(&st, info)
	}
}

func (p *pair) sameInfo(st *syscall.Stat_t, info Info) {
	p.t.Helper()
	if info.Mode != st.Mode {
		p.t.Fatalf("%s: mode %o, want %o", p.last, info.Mode, st.Mode)
	}
	if !info.IsDir() && (info.Size != st.Size || uint64(info.Nlink) != uint64(st.Nlink)) {
		p.t.Fatalf("%s: size %d, links %d; want %d, %d", p.last, info.Size, info.Nlink, st.Size, st.Nlink)
	}
}

func (p *pair) stepFile(i int) {
	p.t.Helper()
	h := p.open[i]
	off := p.size()
	if p.rng.IntN(30) == 0 {
		off = 1 << 20
	}
	switch p.rng.IntN(8) {
	case 0, 1, 2:
		buf := p.bytes()
		p.last = fmt.Sprintf("write %d at %d", len(buf), off)
		n, osErr := syscall.Pwrite(h.fd, buf, off)
		var m int
		memErr := p.broughtFile(h.file, func() (err error) { m, err = h.file.WriteAt(buf, off); return err })
		if p.same(osErr, memErr) && n != m {
			p.t.Fatalf("%s: %d bytes, want %d", p.last, m, n)
		}
	case 3, 4:
		p.stepRead(h, off)
	case 5:
		p.last = fmt.Sprintf("ftruncate %d", off)
		p.same(syscall.Ftruncate(h.fd, off), p.broughtFile(h.file, func() error { return h.file.Truncate(off) }))
	case 6:
		p.last = "fstat"
		var st syscall.Stat_t
		if p.same(syscall.Fstat(h.fd, &st), nil) {
			p.sameInfo(&st, h.file.Stat())
		}
	case 7:
		p.closeOne(i)
	}
}

func (p *pair) stepRead(h handle, off int64) {
	p.t.Helper()
	n := 1 + p.rng.IntN(3*ChunkSize)
	want, got := make([]byte, n), bytes.Repeat([]byte{0xee}, n)
	p.last = fmt.Sprintf("read %d at %d", n, off)
	k, osErr := syscall.Pread(h.fd, want, off)
	var m int
	memErr := p.broughtFile(h.file, func() (err error) { m, err = h.file.ReadAt(got, off); return err })
	if !p.same(osErr, memErr) {
		return
	}
	if k != m || !bytes.Equal(want[:k], got[:m]) {
		p.t.Fatalf("%s: %d bytes read differ from the %d wanted", p.last, m, k)
	}
	if (memErr == io.EOF) != (m < n) {
		p.t.Fatalf("%s: %d of %d bytes with error %v", p.last, m, n, memErr)
	}
}

// compare checks the whole tree, and its accounting.
func (p *pair) compare() {
	p.t.Helper()
	var want, got []string
	err := filepath.WalkDir(p.root, func(path string, _ fs.DirEntry, err error) error {
		want = append(want, "/"+filepath.ToSlash(must(filepath.Rel(p.root, path))))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	want[0] = "/"
	err = p.mem.Walk("/", func(path string, info Info) error {
		got = append(got, path)
		var st syscall.Stat_t
		p.last = "compare " + path
		if err := syscall.Lstat(p.root+path, &st); err != nil {
			p.t.Fatalf("%s: %v", p.last, err)
		}
		if path != "/" {
			p.sameInfo(&st, info)
		}
		if info.IsRegular() {
			look := p.mem
			if p.away != nil {
				look = p.mem.Clone()
				check(p.t, look.Bring(p.t.Context(), p.away, path))
			}
			if a, b := must(os.ReadFile(p.root+path)), must(look.ReadFile(path)); !bytes.Equal(a, b) {
				p.t.Fatalf("%s: contents differ", p.last)
			}
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		p.t.Fatalf("trees differ:\n%q want\n%q", got, want)
	}
	p.checkAccounts()
}

func (p *pair) checkAccounts() {
	p.t.Helper()
	var used int64
	for ino, in := range p.mem.inodes {
		if in == nil {
			continue
		}
		if uint64(ino) != in.ino {
			p.t.Fatalf("inode %d calls itself %d", ino, in.ino)
		}
		chunks, gone := int64(0), int64(0)
		for _, s := range in.table {
			if s.data != nil {
				chunks++
			}
			if s.data == away {
				gone++
			}
		}
		if chunks != in.chunks || gone != in.away {
			p.t.Fatalf("inode %d has %d chunks, %d away, and counts %d, %d", ino, chunks, gone, in.chunks, in.away)
		}
		used += chunks * ChunkSize
	}
	if used != p.mem.UsedBytes() {
		p.t.Fatalf("UsedBytes %d, want %d", p.mem.UsedBytes(), used)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestBehavesAsTheOperatingSystem(t *testing.T) {
	seen := map[string]int{}
	for i := range uint64(6) {
		seed := modelSeed + i
		t.Logf("seed %d", seed)
		p := newPair(t, seed)
		for n := range 6000 {
			p.step()
			if n%500 == 499 {
				p.compare()
			}
		}
		for k, v := range p.seen {
			seen[k] += v
		}
		p.closeAll()
		p.compare()
	}
	t.Logf("outcomes: %d kinds", len(seen))
	if len(seen) < 40 {
		t.Fatalf("only %d kinds of outcome: the operations do not meet: %v", len(seen), seen)
	}
}

func TestClonesDivergeAsTwoTrees(t *testing.T) {
	for i := range uint64(3) {
		seed := modelSeed + 100 + i
		t.Logf("seed %d", seed)
		trees := []*pair{newPair(t, seed)}
		for round := range 24 {
			for _, p := range trees {
				for range 150 {
					p.step()
				}
			}
			for _, p := range trees {
				p.compare()
			}
			from := trees[round%len(trees)]
			next := from.clone(seed + uint64(round))
			if len(trees) < 4 {
				trees = append(trees, next)
			} else {
				gone := trees[(round+1)%4]
				gone.closeAll()
				trees[(round+1)%4] = next
			}
		}
	}
}

// clone makes a pair out of a clone and a copy of the operating system's tree.
func (p *pair) clone(seed uint64) *pair {
	p.t.Helper()
	c := newPair(p.t, seed)
	c.mem = p.mem.Clone()
	links := map[uint64]string{}
	err := filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		rel := must(filepath.Rel(p.root, path))
		if err != nil || rel == "." {
			return err
		}
		to := filepath.Join(c.root, rel)
		st := must(d.Info()).Sys().(*syscall.Stat_t)
		if first, ok := links[st.Ino]; ok {
			return os.Link(first, to)
		}
		switch {
		case d.IsDir():
			if err := os.Mkdir(to, 0o700); err != nil {
				return err
			}
			return os.Chmod(to, fs.FileMode(st.Mode&0o777))
		case d.Type()&fs.ModeSymlink != 0:
			links[st.Ino] = to
			return os.Symlink(must(os.Readlink(path)), to)
		}
		links[st.Ino] = to
		return os.WriteFile(to, must(os.ReadFile(path)), fs.FileMode(st.Mode&0o777))
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}
