package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// file finds a file of the package by name.
func (p pin) file(name string) (pinnedFile, bool) {
	for _, f := range p.Files {
		if f.Name == name {
			return f, true
		}
	}
	return pinnedFile{}, false
}

// verify compares every file of the package in dir with its pin.
func (p pin) verify(dir string) error {
	for _, f := range p.Files {
		if err := f.verify(filepath.Join(dir, f.Name)); err != nil {
			return err
		}
	}
	return nil
}

// sizes compares the size of every file of the package in dir with its pin.
func (p pin) sizes(dir string) error {
	for _, f := range p.Files {
		path := filepath.Join(dir, f.Name)
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%w: it is not a regular file", ErrDamaged)
		}
		if err != nil {
			return fmt.Errorf("check %s: %w", path, err)
		}
		if info.Size() != f.Size {
			return f.compare(path, info.Size(), "")
		}
	}
	return nil
}

func (f pinnedFile) verify(path string) error {
	size, sum, err := hashFile(path, f.Size)
	if err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return f.compare(path, size, sum)
}

// same compares a file that was read with its pin.
func (f pinnedFile) same(path string, size int64, sum [sha256.Size]byte) error {
	return f.compare(path, size, hex.EncodeToString(sum[:]))
}

func (f pinnedFile) compare(path string, size int64, sum string) error {
	if size != f.Size {
		return fmt.Errorf("check %s: %w: %d bytes, %d expected", path, ErrDamaged, size, f.Size)
	}
	if sum != f.SHA256 {
		return fmt.Errorf("check %s: %w: SHA-256 %s..., %s... expected", path, ErrDamaged, prefix(sum), prefix(f.SHA256))
	}
	return nil
}

// Verified counts what was hashed and found intact.
type Verified struct {
	Files int
	Bytes int64
}

func (v *Verified) add(size int64) { v.Files, v.Bytes = v.Files+1, v.Bytes+size }

// Verify hashes everything: the package's files, those of other packages in the cache, and what was made from them.
// Errors name each damaged file and say what to do; they match [ErrDamaged], or are the operating system's.
func (s *Set) Verify() (v Verified, err error) {
	check := func(p pin, dir string, advise func(error) error) {
		for _, f := range p.Files {
			if fileErr := f.verify(filepath.Join(dir, f.Name)); fileErr != nil {
				err = errors.Join(err, advise(fileErr))
				continue
			}
			v.add(f.Size)
		}
	}
	check(s.pin, s.Dir, s.advise)
	others := append(slices.Collect(maps.Values(published())), toolsPin())
	slices.SortFunc(others, func(a, b pin) int { return strings.Compare(a.Folder, b.Folder) })
	for _, p := range others {
		dir := filepath.Join(s.cache.dir, p.folder())
		if _, statErr := os.Stat(dir); statErr == nil {
			check(p, dir, func(err error) error { return fmt.Errorf("%w; delete the folder %s and run again", err, dir) })
		}
	}
	sums, globErr := filepath.Glob(filepath.Join(s.derivedDir(), "*.sum"))
	err = errors.Join(err, globErr)
	for _, sum := range sums {
		path := strings.TrimSuffix(sum, ".sum")
		ok, fileErr := intact(path)
		if fileErr == nil && !ok {
			fileErr = fmt.Errorf("check %s: %w: it has changed since it was made; delete it, and it is made again", path, ErrDamaged)
		}
		info, statErr := os.Stat(path)
		if fileErr = errors.Join(fileErr, statErr); fileErr != nil {
			err = errors.Join(err, fileErr)
			continue
		}
		v.add(info.Size())
	}
	return v, err
}

// Has reports whether a derived file was made.
func (s *Set) Has(name string) bool {
	ok, err := hasSize(filepath.Join(s.derivedDir(), name))
	return ok && err == nil
}

// hashFile returns a file's size and its SHA-256 in hex. A file whose size is not want is not read, and its sum is empty.
func hashFile(path string, want int64) (size int64, sum string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() != want {
		return infoSize(info), "", err
	}
	h := sha256.New()
	size, err = io.Copy(h, file)
	return size, hex.EncodeToString(h.Sum(nil)), err
}

func infoSize(info os.FileInfo) int64 {
	if info == nil {
		return 0
	}
	return info.Size()
}

// prefix shortens a hash for a message.
func prefix(sum string) string { return sum[:min(len(sum), 12)] }
