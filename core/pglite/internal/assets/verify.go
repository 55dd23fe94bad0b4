package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// hashFile gives the size and the SHA-256 in hex of a file. One whose size is
// not want is not read, its sum is empty.
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
