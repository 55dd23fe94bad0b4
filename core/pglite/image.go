package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"sync"

	"github.com/tetratelabs/wazero/api"

	"blobpglite/core/memfs"
)

// Image is the whole state of an idle instance: memory, globals, files, open descriptors, loaded libraries. Any number
// of instances can be started from it, each in milliseconds, sharing pages until they write them. An image belongs
// to the file tree it holds and to the runtime that made it. It is safe for concurrent use.
//
// PostgreSQL's random numbers are seeded anew in each instance, but for those of SQL's random() if the session has called
// it before: then every instance goes on with the same ones, unless it is told SELECT setseed(...).
type Image struct {
	rt        *Runtime
	memory    *memorySnapshot
	globals   []uint64
	cloning   sync.Mutex // a tree is cloned by one goroutine at a time
	system    *memfs.FS
	data      *memfs.FS
	cwd       string
	umask     uint32
	open      []openState
	libraries []*library
	mainSlots map[string]uint32
	handles   map[uint32]string

	parameters map[string]string
}

// openState is an open file description and the descriptors that stand for it.
type openState struct {
	fds   []int
	file  openFile
	inode uint64
}

// Image copies the state of an instance that is idle: no statement runs. A transaction may be open; it is then open in
// every instance started from the image. What waits in a pipe is not kept: pipes come back empty.
func (in *Instance) Image() (*Image, error) {
	if err := in.acquire(); err != nil {
		return nil, err
	}
	defer in.relinquish()
	img := &Image{
		rt: in.rt, system: in.files.system.Clone(), data: in.files.data.Clone(), cwd: in.files.cwd, umask: in.files.umask,
		libraries: append([]*library(nil), in.libraries...), mainSlots: map[string]uint32{}, handles: map[uint32]string{},
		parameters: in.Parameters(),
	}
	for k, v := range in.mainSlots {
		img.mainSlots[k] = v
	}
	for k, v := range in.handles {
		img.handles[k] = v
	}
	for _, name := range in.program.globals {
		img.globals = append(img.globals, in.module.ExportedGlobal(name).Get())
	}
	at := map[*openFile]int{}
	for fd, o := range in.files.fds {
		if o == nil {
			continue
		}
		i, ok := at[o]
		if !ok {
			i = len(img.open)
			at[o] = i
			s := openState{file: openFile{dev: o.dev, dir: o.dir, isDir: o.isDir, pos: o.pos, flags: o.flags}}
			if o.file != nil {
				s.inode = o.file.Inode()
				s.file.fs = o.fs
				s.file.isSystem = o.fs == in.files.system
			}
			img.open = append(img.open, s)
		}
		img.open[i].fds = append(img.open[i].fds, fd)
	}
	var err error
	img.memory, err = snapshotMemory(in.mem.b)
	return img, err
}

// Data is a copy of the data directory at the time of the image.
func (img *Image) Data() *memfs.FS {
	_, data := img.trees()
	return data
}

// trees are copies of the file trees.
func (img *Image) trees() (system, data *memfs.FS) {
	img.cloning.Lock()
	defer img.cloning.Unlock()
	return img.system.Clone(), img.data.Clone()
}

// StartImage starts an instance from an image. The data directory is a copy of the image's, so o.Data must be nil;
// Settings, User and Database are those of the image.
func (rt *Runtime) StartImage(ctx context.Context, img *Image, o InstanceOptions) (*Instance, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case img.rt != rt:
		return nil, errors.New("start from an image: it was made by another runtime")
	case o.Data != nil:
		return nil, errors.New("start from an image: it brings its own data directory; leave Data nil")
	}
	o.fill()
	in, err := rt.startImage(img, o)
	if err != nil {
		return nil, fmt.Errorf("start from an image: %w", err)
	}
	return in, nil
}

func (rt *Runtime) startImage(img *Image, o InstanceOptions) (*Instance, error) {
	system, data := img.trees()
	fs := newFiles(system, data, o.Random)
	fs.cwd, fs.umask = img.cwd, img.umask
	if err := img.reopen(fs, o.Log); err != nil {
		return nil, err
	}
	in, err := rt.newInstance(rt.main, fs, o, img.memory.size)
	if err != nil {
		return nil, err
	}
	if err := img.restore(in); err != nil {
		in.release()
		return nil, err
	}
	return in, nil
}

// restore gives a new instance the image's state. The memory comes after the libraries: their start functions set
// globals, which is wanted, and clear variables.
func (img *Image) restore(in *Instance) error {
	in.parameters = maps.Clone(img.parameters)
	for k, v := range img.mainSlots {
		in.mainSlots[k] = v
	}
	for k, v := range img.handles {
		in.handles[k] = v
	}
	err := in.guard(func() {
		for _, lib := range img.libraries {
			if err := in.reload(lib); err != nil {
				in.trapf("load %s again: %w", lib.Name, err)
			}
		}
	})
	if err != nil {
		return err
	}
	if err := img.memory.restore(in.linear.region); err != nil {
		return err
	}
	for i, name := range in.program.globals {
		in.module.ExportedGlobal(name).(api.MutableGlobal).Set(img.globals[i])
	}
	// Clones would share PostgreSQL's random numbers.
	const stateSize = 16
	state := in.mem.bytes(uint32(in.rt.main.consts["pg_global_prng_state"]), stateSize)
	if _, err := io.ReadFull(in.random, state); err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	return nil
}

// reload puts a library back where it was; its data and what its constructors did come with the memory.
func (in *Instance) reload(lib *library) error {
	side, err := in.rt.prepareSide(lib.Name, lib.File)
	if err != nil {
		return err
	}
	at := in.growTable(side.meta.Dylink.TableSize)
	slots := in.growTable(uint32(len(lib.Slots)))
	if at != lib.TableBase || slots != lib.SlotBase {
		return fmt.Errorf("its table entries are at %d and %d, they were at %d and %d", at, slots, lib.TableBase, lib.SlotBase)
	}
	if _, err := in.instantiateSide(lib, side); err != nil {
		return err
	}
	in.remember(lib)
	return nil
}

// reopen opens the image's descriptors on the copies of its trees.
func (img *Image) reopen(fs *files, log func(string)) error {
	var p *pipe
	for _, s := range img.open {
		o := s.file
		switch d := o.dev.(type) {
		case nil:
		case randomDevice:
			o.dev = openDevice("/dev/urandom", fs.random)
		case *lineDevice:
			o.dev = &lineDevice{emit: log}
		case pipeReader:
			p = &pipe{readers: 1, writers: 1}
			o.dev = pipeReader{p}
		case pipeWriter:
			if p == nil {
				return errors.New("a pipe's write end without its read end")
			}
			o.dev = pipeWriter{p}
		default:
			o.dev = d
		}
		if o.dev == nil && !o.isDir {
			o.fs = fs.data
			if o.isSystem {
				o.fs = fs.system
			}
			var err error
			if o.file, err = o.fs.OpenInode(s.inode, goFlags(o.flags&^(oCreat|oExcl|oTrunc))); err != nil {
				return fmt.Errorf("open an image's file again: %w", err)
			}
		}
		for _, fd := range s.fds {
			fs.set(fd, &o)
		}
	}
	return nil
}

// nonZeroRuns yields the runs of non-zero pages of b, with their offsets.
func nonZeroRuns(b []byte) iter.Seq2[int, []byte] {
	const page = 4096
	return func(yield func(int, []byte) bool) {
		start := -1
		for off := 0; off < len(b); off += page {
			if zero := isZero(b[off:min(off+page, len(b))]); zero == (start < 0) {
				continue
			} else if !zero {
				start = off
			} else {
				if !yield(start, b[start:off]) {
					return
				}
				start = -1
			}
		}
		if start >= 0 {
			yield(start, b[start:])
		}
	}
}

// zeroPage is compared with: that is done by vector instructions.
var zeroPage [4096]byte

// isZero says whether a page, or a part of one, is all zeros.
func isZero(b []byte) bool { return bytes.Equal(b, zeroPage[:len(b)]) }
