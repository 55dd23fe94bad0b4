package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// forceFlag lets a command overwrite a file.
func (c *config) forceFlag(f *flag.FlagSet) {
	f.BoolVar(&c.force, "force", false, "overwrite an existing file")
}

// toStdout is the file name that means standard output.
const toStdout = "-"

// errExists: the file already exists.
var errExists = errors.New("it already exists, and may be the only copy of something: choose another name, or use -force to overwrite it")

// mayWrite checks whether a file may be written, before the work for it is done. direct: it is a device or a pipe, and is written in place.
func mayWrite(name string, force bool) (direct bool, err error) {
	if name == toStdout {
		return false, nil
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir():
		return false, fmt.Errorf("%s is a folder: name a file in it", name)
	case !info.Mode().IsRegular():
		return true, nil
	case !force:
		return false, fmt.Errorf("%s: %w", name, errExists)
	}
	return false, nil
}

// writeFile makes a file from what write writes: all of it or nothing, and without force never over an existing file. Standard output is
// written directly.
func writeFile(name string, out io.Writer, force bool, write func(io.Writer) error) (err error) {
	direct, err := mayWrite(name, force)
	switch {
	case err != nil:
		return err
	case name == toStdout:
		return write(out)
	case direct:
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), name, force); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return nil // the file is there; only whether its name survives a power cut is unknown
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// place renames a file. Without force, it never replaces another one, even one made in the meantime.
func place(from, to string, force bool) error {
	if force {
		return os.Rename(from, to)
	}
	err := os.Link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w", to, errExists)
	}
	// This file system has no hard links.
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s: %w", to, errExists), err)
	}
	return os.Rename(from, to)
}
