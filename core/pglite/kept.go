package pglite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"blobpglite/core/memfs"
)

// What was prepared for some settings (see Prepare) can be kept in the cache, so that a later process with the same settings reads it
// instead of running PostgreSQL up to its first fork. The file is named by a hash of everything it depends on: the settings, the format,
// and this program's build ID, because the host itself changes the memory on the way. A program without a build ID (outside ELF) keeps
// nothing.
//
// Format: numbers are unsigned varints, byte strings follow their length, a CRC-32C ends the file. A file that is truncated, changed or
// from another program counts as absent.

// errNotKept means that no file is kept for these settings, which is not a failure.
var errNotKept = errors.New("not kept")

// maxKept bounds a byte string in the file. A whole file is about 4 MB.
const maxKept = 256 << 20

// keptPrefix begins the names of the files. The keptFiles newest are retained: each build of the program, and each set of settings, makes
// another one.
const (
	keptPrefix = "prepared-"
	keptFiles  = 8
)

// KeepPrepared does what Prepare does, and writes the result to the cache for later processes of the same program. It is for set-up: the
// cache must be writable. It fails if PostgreSQL does not start with these settings. Settings that load libraries before the first client
// are not kept.
func (rt *Runtime) KeepPrepared(ctx context.Context, o ClusterOptions) error {
	if err := rt.Prepare(ctx, o); err != nil {
		return err
	}
	o.fill()
	rt.mu.Lock()
	p := rt.prepared
	rt.mu.Unlock()
	if p == nil || !maps.Equal(p.settings, o.settings()) {
		return errors.New("keep a start of PostgreSQL: another one was prepared meanwhile")
	}
	<-p.ready
	name, err := rt.keptName(p.settings)
	if err != nil {
		return nil // without a build ID it could be mistaken for another program's
	}
	content, err := p.encode(rt.system)
	if errors.Is(err, errNotKept) {
		return nil
	}
	if err == nil {
		_, err = rt.assets.DerivedWhole(ctx, name, func(_ context.Context, w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
	}
	if err == nil {
		err = rt.assets.KeepNewest(keptPrefix, keptFiles)
	}
	if err != nil {
		return fmt.Errorf("keep a start of PostgreSQL: %w", err)
	}
	return nil
}

// loadKept reads what a set-up kept for these settings. Errors: errNotKept, errDamaged, or the operating system's.
func (rt *Runtime) loadKept(settings map[string]string) (*prepared, error) {
	name, err := rt.keptName(settings)
	if err != nil {
		return nil, errNotKept
	}
	b, err := rt.assets.ReadDerived(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotKept
	}
	if err == nil {
		b, err = unsealed(b)
	}
	p := &prepared{}
	if err == nil {
		err = p.decode(b, rt.installed())
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return p, nil
}

// keptName returns the name of the file for these settings.
func (rt *Runtime) keptName(settings map[string]string) (string, error) {
	id, err := buildID()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q", id, rt.suffix())
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(hash, " %q %q", name, settings[name])
	}
	return fmt.Sprintf("%sv%d-%x.image", keptPrefix, formatVersion, hash.Sum(nil)[:8]), nil
}

// buildID returns the linker's hash of this program, from its ELF note.
func buildID() (string, error) {
	file, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := elf.Open(file)
	if err != nil {
		return "", err
	}
	defer program.Close()
	section := program.Section(".note.go.buildid")
	if section == nil {
		return "", fmt.Errorf("%s has no build ID", file)
	}
	note, err := section.Data()
	const head = 16 // sizes, kind, "Go\0\0"
	if err != nil || len(note) <= head {
		return "", errors.Join(fmt.Errorf("%s has no build ID", file), err)
	}
	return string(note[head:]), nil
}

// encode returns the file's content, or errNotKept if it cannot be kept. system is the installation's tree, which is left out.
func (p *prepared) encode(system *memfs.FS) ([]byte, error) {
	if len(p.image.libraries) > 0 || len(p.image.handles) > 0 {
		return nil, errNotKept // they are compiled modules, placed by the process that loads them
	}
	if err := p.onlyShared(system); err != nil {
		return nil, err
	}
	memory := make([]byte, p.image.memory.ends)
	if _, err := p.image.memory.file.ReadAt(memory, 0); err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	img, w := p.image, keptWriter{}
	w.number(img.memory.size, img.memory.ends, uint64(img.base), uint64(img.transam), uint64(img.children), truth(img.autovacuum))
	w.number(uint64(len(img.globals)))
	w.number(img.globals...)
	w.number(uint64(len(img.mainSlots)))
	for _, name := range slices.Sorted(maps.Keys(img.mainSlots)) {
		w.bytes([]byte(name))
		w.number(uint64(img.mainSlots[name]))
	}
	w.extents(extents(memory))
	w.number(uint64(p.size), uint64(p.at))
	w.extents(p.segment)
	w.bytes(p.control)
	w.bytes(p.conf)
	w.bytes([]byte(p.files.cwd))
	w.number(uint64(p.files.umask), uint64(len(p.dynamic)))
	for _, d := range p.dynamic {
		name, info, err := p.sharedFile(d.inode)
		if err != nil {
			return nil, err
		}
		w.bytes([]byte(name))
		w.number(uint64(info.Mode), uint64(info.Size), uint64(d.addr), uint64(d.size), uint64(d.off), uint64(d.length))
		w.extents(d.content)
	}
	return sealed(w.b), nil
}

// decode is the inverse of encode. system is a copy of the installation's tree.
func (p *prepared) decode(b []byte, system *memfs.FS) error {
	r := keptReader{b: b}
	img := forkImage{mainSlots: map[string]uint32{}, handles: map[uint32]string{}}
	size, ends := r.number(maxMemory), r.number(maxMemory)
	img.base, img.transam, img.children, img.autovacuum = r.word(), r.word(), r.word(), r.number(1) == 1
	for range r.count() {
		img.globals = append(img.globals, r.number(0))
	}
	for range r.count() {
		name := string(r.bytes())
		img.mainSlots[name] = r.word()
	}
	memory := r.extents(ends)
	p.size, p.at = int(r.number(maxMemory)), int(r.number(maxMemory))
	p.segment = cloned(r.extents(uint64(p.size)))
	p.control, p.conf = bytes.Clone(r.bytes()), bytes.Clone(r.bytes())
	p.files = newFiles(system, nil, nil)
	p.files.cwd, p.files.umask = string(r.bytes()), r.word()
	for range r.count() {
		name, mode, length := string(r.bytes()), r.word(), r.number(maxMemory)
		d := dynamicSegment{sharedMapping: sharedMapping{addr: r.word(), size: r.word()}}
		d.off, d.length = int64(r.number(maxMemory)), int64(r.number(maxMemory))
		d.content = cloned(r.extents(uint64(d.length)))
		if r.err == nil {
			d.inode, r.err = putShared(system, name, mode, int64(length))
		}
		p.dynamic = append(p.dynamic, d)
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = errDamaged
	}
	if r.err == nil && ends > size {
		r.err = errDamaged
	}
	if r.err != nil {
		return r.err
	}
	file, err := memoryFile("an image")
	if err != nil {
		return err
	}
	img.memory = (&memorySnapshot{file: file, size: size, ends: ends}).owned()
	if err := file.Truncate(int64(size)); err != nil {
		return fmt.Errorf("size the memory file of an image to %d bytes: %w", size, err)
	}
	for _, m := range memory {
		if _, err := file.WriteAt(m.b, int64(m.off)); err != nil {
			return fmt.Errorf("write the memory file of an image: %w", err)
		}
	}
	p.image = img
	return nil
}

// onlyShared fails if PostgreSQL changed anything in its installation's tree except the files of shared memory.
func (p *prepared) onlyShared(system *memfs.FS) error {
	was := map[string]int64{}
	if err := system.Walk("/", func(name string, info memfs.Info) error {
		was[name] = info.Size
		return nil
	}); err != nil {
		return err
	}
	return p.files.system.Walk("/", func(name string, info memfs.Info) error {
		size, ok := was[name]
		if (!ok || size != info.Size) && !isSharedMemory(name) {
			return fmt.Errorf("it has changed %s", name)
		}
		return nil
	})
}

// sharedFile returns the file of a piece of dynamic shared memory.
func (p *prepared) sharedFile(inode uint64) (name string, info memfs.Info, err error) {
	err = p.files.system.Walk("/dev/shm", func(at string, found memfs.Info) error {
		if found.Ino == inode {
			name, info = at, found
		}
		return nil
	})
	if err == nil && name == "" {
		err = errors.New("a piece of shared memory has no file")
	}
	return name, info, err
}

// putShared makes the file of a piece of dynamic shared memory and returns its inode.
func putShared(system *memfs.FS, name string, mode uint32, size int64) (uint64, error) {
	if !isSharedMemory(name) || path.Clean(name) != name {
		return 0, errDamaged
	}
	file, err := system.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode&^memfs.ModeType)
	if err != nil {
		return 0, err
	}
	return file.Inode(), errors.Join(file.Truncate(size), file.Close())
}

// cloned copies extents: a slice of the file would keep all of it in memory.
func cloned(all []extent) []extent {
	for i := range all {
		all[i].b = bytes.Clone(all[i].b)
	}
	return all
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// keptWriter builds the file's content.
type keptWriter struct{ b []byte }

func (w *keptWriter) number(all ...uint64) {
	for _, n := range all {
		w.b = binary.AppendUvarint(w.b, n)
	}
}

func (w *keptWriter) bytes(b []byte) {
	w.number(uint64(len(b)))
	w.b = append(w.b, b...)
}

func (w *keptWriter) extents(all []extent) {
	w.number(uint64(len(all)))
	for _, r := range all {
		w.number(uint64(r.off))
		w.bytes(r.b)
	}
}

// keptReader reads the file's content. Its results share memory with the content. After an error it returns zeros.
type keptReader struct {
	b   []byte
	err error
}

// number reads a number that is at most most; most 0: any.
func (r *keptReader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.b)
	if r.err == nil && (size <= 0 || most > 0 && n > most) {
		r.err = errDamaged
	}
	if r.err != nil {
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *keptReader) word() uint32 { return uint32(r.number(1<<32 - 1)) }

// count reads the number of items that follow, each of at least one byte.
func (r *keptReader) count() uint64 { return r.number(uint64(len(r.b)) + 1) }

func (r *keptReader) bytes() []byte {
	n := r.number(maxKept)
	if n > uint64(len(r.b)) {
		r.err = errDamaged
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

// extents reads pieces of a memory of size bytes.
func (r *keptReader) extents(size uint64) (all []extent) {
	for range r.count() {
		at := r.number(maxMemory)
		b := r.bytes()
		if at+uint64(len(b)) > size {
			r.err = errDamaged
		}
		if r.err != nil {
			return nil
		}
		all = append(all, extent{int(at), b})
	}
	return all
}
