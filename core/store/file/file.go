// Package file is a store.Store over one folder of a local file system, usable by several processes concurrently.
//
//	st, err := file.Open(ctx, file.Options{Dir: "/srv/db", Create: true})
//	defer st.Close()
//	gen, err := st.Put(ctx, "wal/00000000000000000001", body, store.NewWriteID(), store.IfAbsent())
//
// What the folder holds:
//
//	format          marks the folder as such a store; its shared lock says that a process has it open
//	state           32 bytes: the next generation, how far generations are reserved, whether names may not be durable;
//	                its lock is the store's: exclusive to change a name, shared to look one up
//	objects/<name>  an object: a header (generation, write id, key, checksums), then the body; never changed once named
//	tmp/            objects without a name yet, and leftovers of crashes; emptied by a process that opens the store alone
//
// The two primitives are the file system's own. Create if absent is link(2), which refuses an existing name. A swap
// reads the generation and renames over the file, both under the exclusive lock (flock(2), which ends with its
// process). All objects are in one folder, so one fsync of it makes every earlier name durable, including those that
// other processes made.
//
// Survives: a process killed anywhere (files without a name are removed later; a name whose folder was not synced is
// synced by the next process that looks), a power cut (a file is synced before it is named, the folder before the
// answer, and no name is seen before it is durable; generations are reserved ahead, so none is used twice). Does not
// survive: a file system that lies about fsync, or whose locks do not hold between machines. Open tries link, lock
// and fsync in the folder itself, and refuses it if they do not work.
package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
)

// Names in the folder.
const (
	formatName = "format"
	stateName  = "state"
	objectsDir = "objects"
	tmpDir     = "tmp"

	formatText = "blob-pglite file store 1\n"
)

// Bounds.
const (
	// DefaultLockTimeout is how long an operation waits for another process that holds the store's lock.
	DefaultLockTimeout = 30 * time.Second

	reserve    = 4096 // generations reserved by one fsync
	firstPoll  = 100 * time.Microsecond
	longPoll   = 5 * time.Millisecond
	syncAhead  = 256 << 10 // a larger body is synced before the lock is taken
	dirMode    = 0o700
	longestDir = 16 // number of parents checked for a store that contains this folder
)

// ErrUnfit: the file system lacks something that the store needs. Use another folder.
var ErrUnfit = errors.New("the file system cannot hold a database")

// Options configures a Store.
type Options struct {
	Dir string // absolute path of the folder
	// Create makes the folder, its parents, and the store in it, if missing. Without it an absent store is
	// store.ErrNotFound.
	Create      bool
	Clock       clock.Clock   // stamps Attrs.Updated, waits for locks; nil: the system's
	LockTimeout time.Duration // 0: DefaultLockTimeout
	Disk        Disk          // below Dir; nil: the operating system's
}

// Store is an object store in a folder. Create it with Open, release it with Close. It is safe for concurrent use,
// and implements store.RangeGetter too.
type Store struct {
	o    Options
	disk Disk
	mark File          // locked as long as this store is open
	turn chan struct{} // full while a goroutine of this process has, or wants, the exclusive lock
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.RangeGetter = (*Store)(nil)
)

// Open opens the store in a folder. If it is absent, Options.Create makes it; otherwise that is store.ErrNotFound. A
// folder that holds something else, or lies inside another store, is refused with store.ErrInvalid, a file system
// that lacks what is needed with ErrUnfit.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = DefaultLockTimeout
	}
	s := &Store{o: o, disk: o.Disk, turn: make(chan struct{}, 1)}
	if s.disk == nil {
		if err := s.folder(); err != nil {
			return nil, fmt.Errorf("open the store in %s: %w", o.Dir, err)
		}
		s.disk = osDisk{o.Dir}
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("open the store in %s: %w", o.Dir, classed(err))
	}
	return s, nil
}

// Close releases the folder. The store must not be used afterwards.
func (s *Store) Close() error { return s.mark.Close() }

// String returns the address, file:///folder.
func (s *Store) String() string { return "file://" + filepath.ToSlash(s.o.Dir) }

// Probe repeats a check of Open: that link, flock and fsync work as required in this folder. Errors: ErrUnfit, or the
// file system's.
func (s *Store) Probe(context.Context) error {
	if err := s.probe(); err != nil {
		return fmt.Errorf("probe %s: %w", s, err)
	}
	return nil
}

// folder creates the folder, or refuses it.
func (s *Store) folder() error {
	dir := s.o.Dir
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || filepath.Dir(dir) == dir {
		return fmt.Errorf("%w: it must be the absolute path of a folder of its own, such as /home/me/db", store.ErrInvalid)
	}
	for parent, n := filepath.Dir(dir), 0; n < longestDir && filepath.Dir(parent) != parent; parent, n = filepath.Dir(parent), n+1 {
		if text, err := os.ReadFile(filepath.Join(parent, formatName)); err == nil && strings.HasPrefix(string(text), "blob-pglite file store") {
			return fmt.Errorf("%w: it lies inside another store, %s, whose folder belongs to it alone: choose a folder outside it", store.ErrInvalid, parent)
		}
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.o.Create:
		return fmt.Errorf("%w: there is no such folder", store.ErrNotFound)
	case errors.Is(err, fs.ErrNotExist):
		return classed(makeFolder(dir))
	case err != nil:
		return classed(err)
	case !info.IsDir():
		return fmt.Errorf("%w: it is not a folder", store.ErrInvalid)
	}
	return nil
}

// makeFolder makes a folder and its parents, durably.
func makeFolder(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return osDisk{parent}.SyncDir(".")
}

// open finds the store or makes it, and becomes one of its users.
func (s *Store) open(ctx context.Context) error {
	mark, err := s.disk.OpenWrite(formatName)
	if errors.Is(err, fs.ErrNotExist) {
		if !s.o.Create {
			return fmt.Errorf("%w: there is no store in that folder", store.ErrNotFound)
		}
		failed := s.create()
		if mark, err = s.disk.OpenWrite(formatName); err != nil { // if it exists, another process was first, and has cleaned up
			return cmp.Or(failed, err)
		}
	}
	if err != nil {
		return err
	}
	if err = checkFormat(mark); err == nil {
		err = s.enter(ctx, mark)
	}
	if err == nil {
		err = s.probe()
	}
	if err != nil {
		return errors.Join(err, mark.Close())
	}
	s.mark = mark
	return nil
}

func checkFormat(f File) error {
	text := make([]byte, len(formatText))
	size, err := f.Size()
	if err != nil {
		return err
	}
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if size != int64(len(formatText)) || string(text[:n]) != formatText {
		return fmt.Errorf("%w: its file %q is not that of a store, or was written by a newer version", store.ErrCorrupt, formatName)
	}
	return nil
}

// create makes the store in an empty folder, or resumes after a crash interrupted that. Several processes may do it
// concurrently. The format file comes last.
func (s *Store) create() error {
	names, err := s.disk.ReadDir(".")
	if err != nil {
		return err
	}
	for _, name := range names {
		switch name {
		case formatName, stateName, objectsDir, tmpDir:
		default:
			return fmt.Errorf("%w: the folder contains other files, such as %q: choose an empty one", store.ErrInvalid, name)
		}
	}
	for _, dir := range []string{objectsDir, tmpDir} {
		if err := s.disk.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := s.install(stateName, state{next: 1, reserved: 1}.encode()); err != nil {
		return err
	}
	if err := s.disk.SyncDir("."); err != nil { // everything, before the format file claims it
		return err
	}
	if err := s.install(formatName, []byte(formatText)); err != nil {
		return err
	}
	return s.disk.SyncDir(".")
}

// install creates a file with a content, unless it exists.
func (s *Store) install(name string, content []byte) error {
	tmp, err := s.temporary(content)
	if err != nil {
		return err
	}
	if err := s.disk.Link(tmp, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return unfit("a file cannot get a second name (link)", err)
	}
	return s.disk.Remove(tmp)
}

// temporary makes a synced file in tmp, which has no name as an object.
func (s *Store) temporary(content []byte) (name string, err error) {
	name = tmpDir + "/" + store.NewWriteID()
	f, err := s.disk.Create(name)
	if err != nil {
		return "", err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	return name, errors.Join(err, f.Close())
}

// probe checks what the store relies on.
func (s *Store) probe() (err error) {
	tmp, err := s.temporary([]byte("probe"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.disk.Remove(tmp)) }()
	second := tmp + "-2"
	if err := s.disk.Link(tmp, second); err != nil {
		return unfit("a file cannot get a second name (link)", err)
	}
	again := s.disk.Link(tmp, second)
	if err := s.disk.Remove(second); err != nil {
		return err
	}
	if !errors.Is(again, fs.ErrExist) {
		return unfit("link does not refuse a name that exists", again)
	}
	if err := s.disk.SyncDir(tmpDir); err != nil {
		return unfit("a folder cannot be synced (fsync)", err)
	}
	return s.probeLock(tmp)
}

func (s *Store) probeLock(name string) error {
	var files [2]File
	for i := range files {
		f, err := s.disk.OpenWrite(name)
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	if locked, err := files[0].Lock(true); err != nil || !locked {
		return unfit("a file cannot be locked (flock)", err)
	}
	if locked, err := files[1].Lock(false); err != nil || locked {
		return unfit("a lock does not exclude other processes (flock)", err)
	}
	return nil
}

func unfit(what string, err error) error {
	if err == nil {
		return fmt.Errorf("%w: %s", ErrUnfit, what)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnfit, what, err)
}

// enter registers this process as a user of the store. A process that is alone first repairs what a crash or a power
// cut left; others wait until it has done so.
func (s *Store) enter(ctx context.Context, mark File) error {
	alone, err := mark.Lock(true)
	if err != nil {
		return unfit("a file cannot be locked (flock)", err)
	}
	if alone {
		if err := s.repair(ctx); err != nil {
			return err
		}
	}
	return s.wait(ctx, func() (bool, error) { return mark.Lock(false) })
}

// repair empties tmp, and skips the generations that may have been used before a power cut.
func (s *Store) repair(ctx context.Context) error {
	names, err := s.disk.ReadDir(tmpDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.disk.Remove(tmpDir + "/" + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.exclusive(ctx, func(st *held) error {
		st.next = max(st.next, st.reserved)
		return st.settle()
	})
}
