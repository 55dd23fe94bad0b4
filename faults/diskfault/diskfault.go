// Package diskfault is a disk in memory that can lose power, below core/store/file.
//
//	d := diskfault.New(seed)
//	st, err := file.Open(ctx, file.Options{Dir: "/db", Create: true, Disk: d.Process()})
//	d.CutAt(17)                                        // the 17th step from now on, and all following ones, fail
//	...
//	d = d.PowerCut()                                   // what is there when the power is back
//
// After a power cut, what was not synced may or may not be there: each changed name of a folder not synced since, and each sector of a
// file, is independently in its old or its new state; and some were written back without a sync. If only a Process dies, its locks end, and
// what it had written stays.
package diskfault

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"

	"blobpglite/core/store/file"
)

// ErrGone: the power was cut, or the process is dead.
var ErrGone = errors.New("the machine or the process is gone")

const (
	sector    = 512
	writeBack = 8 // one in writeBack steps writes something back without a sync
)

// Disk is a disk. It is safe for concurrent use.
type Disk struct {
	mu     sync.Mutex
	random *rand.Rand
	dirs   map[string]*folder
	step   int // steps done
	cut    int // the step that fails; 0: none
}

type folder struct{ now, durable map[string]*inode }

type inode struct {
	now, durable []byte
	locks        map[*handle]bool // exclusive
}

// New returns an empty disk.
func New(seed uint64) *Disk {
	return &Disk{random: rand.New(rand.NewPCG(seed, 1)), dirs: map[string]*folder{".": {now: map[string]*inode{}, durable: map[string]*inode{}}}}
}

// CutAt makes the nth step from now on fail, and every one after it.
func (d *Disk) CutAt(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = d.step + n
}

// Steps is how many steps were done.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.step
}

// PowerCut returns the disk as it is when the power is back. The old one must no longer be used.
func (d *Disk) PowerCut() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = 1
	after := New(d.random.Uint64())
	copies := map[*inode]*inode{}
	for _, dir := range slices.Sorted(maps.Keys(d.dirs)) {
		f := d.dirs[dir]
		names := map[string]*inode{}
		all := maps.Clone(f.durable)
		maps.Copy(all, f.now)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			old, is := f.durable[name], f.now[name]
			if old != is && d.random.IntN(2) == 0 {
				old = is
			}
			if old == nil {
				continue
			}
			if copies[old] == nil {
				content := d.survives(old)
				copies[old] = &inode{now: content, durable: slices.Clone(content), locks: map[*handle]bool{}}
			}
			names[name] = copies[old]
		}
		after.dirs[dir] = &folder{now: names, durable: maps.Clone(names)}
	}
	return after
}

// survives returns a file's content after the cut: each sector as it was synced, or as it was written.
func (d *Disk) survives(i *inode) []byte {
	size := len(i.durable)
	if d.random.IntN(2) == 0 {
		size = len(i.now)
	}
	content := make([]byte, size)
	copy(content, i.durable)
	for at := 0; at < size; at += sector {
		if end := min(at+sector, size, len(i.now)); at < end && d.random.IntN(2) == 0 {
			copy(content[at:end], i.now[at:end])
		}
	}
	return content
}

// Process is a disk as one process sees it.
type Process struct {
	d    *Disk
	dead bool // guarded by d.mu, like the fields below
	left int  // steps until it dies; 0: it does not
	open map[*handle]bool
}

var _ file.Disk = (*Process)(nil)

// Process returns the disk as another process sees it.
func (d *Disk) Process() *Process { return &Process{d: d, open: map[*handle]bool{}} }

// Kill ends the process: its locks are released, and everything it tries fails.
func (p *Process) Kill() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.dead = true
	for h := range p.open {
		delete(h.i.locks, h)
	}
}

// KillAt makes the process die before its nth step from now on.
func (p *Process) KillAt(n int) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.left = n
}

// do is one step.
func (p *Process) do(f func() error) error {
	d := p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step++
	if p.left > 0 {
		p.left--
		p.dead = p.dead || p.left == 0
	}
	if p.dead || d.cut > 0 && d.step >= d.cut {
		return ErrGone
	}
	err := f()
	if d.random.IntN(writeBack) == 0 {
		for _, dir := range slices.Sorted(maps.Keys(d.dirs)) {
			for _, name := range slices.Sorted(maps.Keys(d.dirs[dir].now)) {
				if i := d.dirs[dir].now[name]; d.random.IntN(2) == 0 {
					i.durable = slices.Clone(i.now)
				}
			}
		}
	}
	return err
}

// at returns a name's folder, and the file of that name.
func (d *Disk) at(name string) (f *folder, base string, i *inode) {
	f, base = d.dirs[path.Dir(name)], path.Base(name)
	return f, base, f.now[base]
}

func fail(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (p *Process) handle(i *inode) *handle {
	h := &handle{p: p, i: i}
	p.open[h] = true
	return h
}

// Create implements file.Disk.
func (p *Process) Create(name string) (f file.File, err error) {
	return f, p.do(func() error {
		dir, base, there := p.d.at(name)
		if there != nil {
			return fail("create", name, fs.ErrExist)
		}
		dir.now[base] = &inode{locks: map[*handle]bool{}}
		f = p.handle(dir.now[base])
		return nil
	})
}

// Open implements file.Disk.
func (p *Process) Open(name string) (file.File, error) { return p.OpenWrite(name) }

// OpenWrite implements file.Disk.
func (p *Process) OpenWrite(name string) (file.File, error) {
	var h *handle
	err := p.do(func() error {
		_, _, i := p.d.at(name)
		if i == nil {
			return fail("open", name, fs.ErrNotExist)
		}
		h = p.handle(i)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Link implements file.Disk.
func (p *Process) Link(from, to string) error {
	return p.do(func() error {
		_, _, i := p.d.at(from)
		dir, base, there := p.d.at(to)
		switch {
		case i == nil:
			return fail("link", from, fs.ErrNotExist)
		case there != nil:
			return fail("link", to, fs.ErrExist)
		}
		dir.now[base] = i
		return nil
	})
}

// Rename implements file.Disk.
func (p *Process) Rename(from, to string) error {
	return p.do(func() error {
		old, base, i := p.d.at(from)
		if i == nil {
			return fail("rename", from, fs.ErrNotExist)
		}
		dir, target, _ := p.d.at(to)
		delete(old.now, base)
		dir.now[target] = i
		return nil
	})
}

// Remove implements file.Disk.
func (p *Process) Remove(name string) error {
	return p.do(func() error {
		dir, base, i := p.d.at(name)
		if i == nil {
			return fail("remove", name, fs.ErrNotExist)
		}
		delete(dir.now, base)
		return nil
	})
}

// Mkdir implements file.Disk. Folders are made before anything else, and are durable immediately.
func (p *Process) Mkdir(name string) error {
	return p.do(func() error {
		if p.d.dirs[name] != nil {
			return fail("mkdir", name, fs.ErrExist)
		}
		p.d.dirs[name] = &folder{now: map[string]*inode{}, durable: map[string]*inode{}}
		return nil
	})
}

// ReadDir implements file.Disk.
func (p *Process) ReadDir(name string) (names []string, err error) {
	return names, p.do(func() error {
		names = slices.Sorted(maps.Keys(p.d.dirs[name].now))
		return nil
	})
}

// SyncDir implements file.Disk.
func (p *Process) SyncDir(name string) error {
	return p.do(func() error {
		p.d.dirs[name].durable = maps.Clone(p.d.dirs[name].now)
		return nil
	})
}

// handle is an open file.
type handle struct {
	p *Process
	i *inode
}

func (h *handle) ReadAt(b []byte, off int64) (n int, err error) {
	return n, h.p.do(func() error {
		if off < int64(len(h.i.now)) {
			n = copy(b, h.i.now[off:])
		}
		if n < len(b) {
			return io.EOF
		}
		return nil
	})
}

func (h *handle) WriteAt(b []byte, off int64) (int, error) {
	return len(b), h.p.do(func() error {
		if grow := off + int64(len(b)) - int64(len(h.i.now)); grow > 0 {
			h.i.now = append(h.i.now, make([]byte, grow)...)
		}
		copy(h.i.now[off:], b)
		return nil
	})
}

func (h *handle) Sync() error {
	return h.p.do(func() error {
		h.i.durable = slices.Clone(h.i.now)
		return nil
	})
}

func (h *handle) Size() (n int64, err error) {
	return n, h.p.do(func() error {
		n = int64(len(h.i.now))
		return nil
	})
}

func (h *handle) Lock(exclusive bool) (locked bool, err error) {
	return locked, h.p.do(func() error {
		for other, theirs := range h.i.locks {
			if other != h && (exclusive || theirs) {
				return nil
			}
		}
		h.i.locks[h], locked = exclusive, true
		return nil
	})
}

// Close is not a step of the disk: it cannot fail in a way that matters.
func (h *handle) Close() error {
	h.p.d.mu.Lock()
	defer h.p.d.mu.Unlock()
	delete(h.i.locks, h)
	delete(h.p.open, h)
	return nil
}
