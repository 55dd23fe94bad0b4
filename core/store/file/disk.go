package file

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Disk is what the store needs of a file system; tests inject faults here. Names are relative to the store's folder,
// with slashes. Errors wrap those of io/fs. Nothing is durable until it is synced: a file's content by Sync, a name
// by SyncDir of its folder.
type Disk interface {
	Create(name string) (File, error)    // a new file, for writing; it must not exist
	Open(name string) (File, error)      // for reading
	OpenWrite(name string) (File, error) // for reading and writing; it must exist
	Link(from, to string) error          // a second name; fs.ErrExist if it is taken
	Rename(from, to string) error        // replaces what has the name
	Remove(name string) error
	Mkdir(name string) error
	ReadDir(name string) ([]string, error) // names in it, in any order
	SyncDir(name string) error
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer // also releases its lock
	Sync() error
	Size() (int64, error)
	// Lock takes an exclusive or a shared lock that ends with Close or the process, or converts the lock that this
	// open file has. It does not wait: false means that another open file holds a conflicting lock.
	Lock(exclusive bool) (bool, error)
}

// osDisk is the operating system's file system, below a folder.
type osDisk struct{ root string }

func (d osDisk) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

func (d osDisk) open(name string, flag int) (File, error) {
	f, err := os.OpenFile(d.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d osDisk) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}
func (d osDisk) Open(name string) (File, error)      { return d.open(name, os.O_RDONLY) }
func (d osDisk) OpenWrite(name string) (File, error) { return d.open(name, os.O_RDWR) }
func (d osDisk) Link(from, to string) error          { return os.Link(d.path(from), d.path(to)) }
func (d osDisk) Rename(from, to string) error        { return os.Rename(d.path(from), d.path(to)) }
func (d osDisk) Remove(name string) error            { return os.Remove(d.path(name)) }
func (d osDisk) Mkdir(name string) error             { return os.Mkdir(d.path(name), dirMode) }

func (d osDisk) ReadDir(name string) ([]string, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

func (d osDisk) SyncDir(name string) error {
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
