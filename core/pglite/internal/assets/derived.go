package assets

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxSumBytes bounds the file that holds a derived artifact's sum.
const maxSumBytes = 128

// Derived returns the path of a file that is made from this set: build makes it if it is absent, or if its size differs
// from the one it was made with. The caller must check that its bytes are as written, or use [Set.DerivedWhole]. The name
// consists of letters, digits, dots, dashes and underscores, and includes the caller's format version. Sets with
// different pins share nothing.
//
// One process builds at a time, the others wait until ctx ends. build may call Derived for other names. Its errors are
// returned wrapped; others are the operating system's.
func (s *Set) Derived(ctx context.Context, name string, build func(context.Context, io.Writer) error) (string, error) {
	return s.derived(ctx, name, hasSize, build)
}

// DerivedWhole is Derived, but hashes the whole file: one with other bytes than were written is also made again.
func (s *Set) DerivedWhole(ctx context.Context, name string, build func(context.Context, io.Writer) error) (string, error) {
	return s.derived(ctx, name, intact, build)
}

// ReadDerived reads the file that Derived would return, if it exists and has the size it was made with; otherwise the
// error matches fs.ErrNotExist.
func (s *Set) ReadDerived(name string) ([]byte, error) {
	path := filepath.Join(s.derivedDir(), name)
	ok, err := hasSize(path)
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return os.ReadFile(path)
}

// Forget makes a derived file count as absent, because its reader found it damaged. In a read-only cache it stays.
func (s *Set) Forget(name string) error {
	if err := os.Remove(filepath.Join(s.derivedDir(), name+".sum")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget %s: %w", name, s.cache.explain(err))
	}
	return nil
}

// KeepNewest deletes the derived files whose names begin with prefix, except the n newest. Errors are the operating
// system's.
func (s *Set) KeepNewest(prefix string, n int) error {
	sums, err := filepath.Glob(filepath.Join(s.derivedDir(), prefix+"*.sum"))
	if err != nil {
		return err
	}
	made := map[string]time.Time{}
	for _, sum := range sums {
		info, err := os.Stat(sum)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process deletes too
		}
		if err != nil {
			return fmt.Errorf("delete old files: %w", err)
		}
		made[sum] = info.ModTime()
	}
	sums = slices.SortedFunc(maps.Keys(made), func(a, b string) int {
		return cmp.Or(made[b].Compare(made[a]), cmp.Compare(a, b))
	})
	for _, sum := range sums[min(n, len(sums)):] {
		path := strings.TrimSuffix(sum, ".sum")
		for _, name := range []string{sum, path, path + ".lock"} { // without its sum it counts as absent
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("delete old files: %w", s.cache.explain(err))
			}
		}
	}
	return nil
}

// Original reads a file of the package, and checks its hash.
func (s *Set) Original(path string) ([]byte, error) {
	f, ok := s.pin.file(filepath.Base(path))
	if !ok || filepath.Dir(path) != s.Dir {
		return nil, fmt.Errorf("read %s: it is not one of the PGlite files", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read one of the PGlite files: %w", err)
	}
	if err := f.same(path, int64(len(b)), sha256.Sum256(b)); err != nil {
		return nil, s.advise(err)
	}
	return b, nil
}

// derivedDir returns the folder of what is made from this set.
func (s *Set) derivedDir() string { return filepath.Join(s.cache.dir, s.pin.folder()+".derived") }

func (s *Set) derived(ctx context.Context, name string, there func(path string) (bool, error), build func(context.Context, io.Writer) error) (string, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`).MatchString(name) {
		return "", fmt.Errorf("derive %q: the name must consist of letters, digits, dots, dashes and underscores", name)
	}
	dir := s.derivedDir()
	path := filepath.Join(dir, name)
	ok, err := there(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("derive %s: %w", name, err)
	case ok:
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("derive %s: %w", name, s.cache.explain(err))
	}
	unlock, err := s.cache.lock(ctx, path, name)
	if err != nil {
		return "", fmt.Errorf("derive %s: %w", name, s.cache.explain(err))
	}
	defer unlock()
	if ok, err = there(path); err == nil && !ok { // unless another process was faster
		err = s.cache.build(ctx, path, build)
	}
	if err != nil {
		return "", fmt.Errorf("derive %s: %w", name, s.cache.explain(err))
	}
	return path, nil
}

// build makes path and its sum; the lock is held. The sum comes last, so a crash in between leaves a file without its
// sum, which counts as absent.
func (c *cache) build(ctx context.Context, path string, build func(context.Context, io.Writer) error) (err error) {
	temp := path + ".tmp"
	defer func() {
		if err != nil {
			if removeErr := os.Remove(temp); !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
	}()
	sum := &summing{hash: sha256.New()}
	err = c.writeFile(temp, func(w io.Writer) error {
		sum.w = w
		if err := build(ctx, sum); err != nil {
			return err
		}
		return sum.err // even if build ignored it
	})
	if err != nil {
		return err
	}
	if err := place(temp, path); err != nil {
		return err
	}
	err = c.writeFile(temp, func(w io.Writer) error {
		_, err := io.WriteString(w, sum.line())
		return err
	})
	if err != nil {
		return err
	}
	return place(temp, path+".sum")
}

// hasSize reports whether a derived file exists with the size it was made with. Absence is not an error.
func hasSize(path string) (bool, error) {
	want, _, err := readSum(path)
	if err != nil || want < 0 {
		return false, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("check %s: %w", path, err)
	}
	return info.Size() == want, nil
}

// intact reports whether a derived file exists and is as written. Absence is not an error.
func intact(path string) (bool, error) {
	want, sum, err := readSum(path)
	if err != nil || want < 0 {
		return false, err
	}
	size, got, err := hashFile(path, want)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("check %s: %w", path, err)
	}
	return size == want && got == sum, nil
}

// readSum returns the size and the SHA-256 in hex that a derived file was made with; a size below zero if they are
// unknown.
func readSum(path string) (size int64, sum string, err error) {
	file, err := os.Open(path + ".sum")
	if errors.Is(err, fs.ErrNotExist) {
		return -1, "", nil
	}
	if err != nil {
		return -1, "", fmt.Errorf("check %s: %w", path, err)
	}
	defer file.Close()
	line, err := io.ReadAll(io.LimitReader(file, maxSumBytes))
	if err != nil {
		return -1, "", fmt.Errorf("check %s: %w", path, err)
	}
	if n, err := fmt.Sscanf(string(line), "%d %64x\n", &size, &sum); n != 2 || err != nil {
		return -1, "", nil // damaged: as if absent
	}
	return size, hex.EncodeToString([]byte(sum)), nil
}

// summing counts and hashes what is written through it.
type summing struct {
	w    io.Writer
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	size int64
	err  error
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}

func (s *summing) line() string {
	return fmt.Sprintf("%d %x\n", s.size, s.hash.Sum(nil))
}

// Lock waits until no other process makes path, a file below the cache's folder, or ctx ends; progress messages name what
// during the wait. The lock also ends with the process.
func (s *Set) Lock(ctx context.Context, path, what string) (unlock func() error, err error) {
	unlock, err = s.cache.lock(ctx, path, what)
	return unlock, s.cache.explain(err)
}
