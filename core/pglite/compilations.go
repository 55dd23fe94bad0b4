package pglite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"

	"blobpglite/core/clock"
	"blobpglite/core/pglite/internal/codecache"
	"blobpglite/core/pglite/internal/lean"
)

// compilations is wazero's compilation cache, plus what wazero itself lacks: it knows which entries belong to a module, and detects damage.
// wazero 1.12 checks an entry's code, but not the offsets at which functions begin in it, and it leaves an entry that it cannot read in
// place.
//
//	<dir>/wazero-<version>-<platform>/<entry>   wazero's
//	<dir>/sums/<module's hash>                  a line for each entry of the module: name, size, CRC-32C
//	<dir>/loans/<outline's hash>                see outlines.go
//
// An entry that no sum names, or that does not match its sum, is deleted before wazero sees it, and compiled again, once. A sum is written
// after its entry, both by renaming; a crash in between costs a compilation. A process that compiles holds a lock, so processes that share
// the folder compile a module once; loading takes no lock and writes nothing. If the folder cannot be written, or was deleted, missing
// entries are compiled for this process alone.
type compilations struct {
	dir      string
	files    *codecache.Files // between wazero and the folder; nil: wazero uses the folder directly
	runtime  wazero.Runtime
	lock     func(ctx context.Context, path, what string) (unlock func() error, err error)
	progress func(step string, done, total int64)
}

const (
	compiledName = "compiled" // below the cache's folder
	sumsDir      = "sums"
	maxSums      = 1 << 16         // bytes of a file of sums
	abandonedAt  = 2 * time.Hour   // a temporary file this old was left by a process that has ended
	sumBuffer    = 256 * 1024      // bytes per read
	entryDigits  = 2 * sha256.Size // of an entry's name
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged: an entry is not what was written.
var errDamaged = errors.New("damaged")

// makeSums makes the folder of the sums.
func makeSums(dir string) error {
	if err := os.Mkdir(filepath.Join(dir, sumsDir), 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// entrySum is a line of a file of sums.
type entrySum struct {
	name string // below dir
	size int64
	crc  uint32
}

// compile loads a module's compilation, or compiles it (fresh). what is the module's name in messages, empty for the small modules whose
// compilation is not worth reporting.
func (c *compilations) compile(ctx context.Context, what string, bin []byte) (compiled wazero.CompiledModule, fresh bool, err error) {
	key := hashOf(bin)
	found, why := c.check(key)
	if found {
		if compiled, fresh, err = c.load(ctx, what, key, bin); err == nil || ctx.Err() != nil {
			return compiled, fresh, err
		}
		why = err // intact, but wazero cannot read it
	}
	unlock, err := c.locked(ctx, what)
	if c.files != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return c.unkept(ctx, what, bin, err)
	}
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if again, _ := c.check(key); again && !found { // another process was faster
		return c.load(ctx, what, key, bin)
	}
	if why != nil {
		c.report("the compilation of "+named(what)+" in the cache is damaged, it is deleted and made again: "+why.Error(), " ")
	}
	if err := c.discard(key); err != nil {
		return nil, false, fmt.Errorf("delete the damaged compilation of %s: %w", named(what), err)
	}
	c.report("compiling ", what)
	compiled, fresh, err = c.noting(ctx, key, bin)
	if err == nil || ctx.Err() != nil {
		return compiled, fresh, err
	}
	// There may be an entry after all, noted under another module (see noteSums), and damaged.
	if damaged, discardErr := c.discardDamaged(); !damaged || discardErr != nil {
		return nil, false, errors.Join(err, discardErr)
	}
	c.report("compiling again ", what)
	return c.noting(ctx, key, bin)
}

// hashOf identifies a module.
func hashOf(bin []byte) [sha256.Size]byte { return sha256.Sum256(bin) }

func named(what string) string {
	if what == "" {
		return "a generated module"
	}
	return what
}

// report announces a step for modules that have a name.
func (c *compilations) report(step, what string) {
	if what != "" {
		c.progress(strings.TrimSpace(step+what), 0, 0)
	}
}

// load is for a module whose entries are intact. Perhaps none of them is for this processor; then wazero compiles it.
func (c *compilations) load(ctx context.Context, what string, key [32]byte, bin []byte) (wazero.CompiledModule, bool, error) {
	c.report("loading ", what)
	return c.noting(ctx, key, bin)
}

// give passes a module to wazero, which loads or compiles it: without bounds checks, if it is marked.
func (c *compilations) give(ctx context.Context, bin []byte) (compiled wazero.CompiledModule, err error) {
	err = lean.Compile(func() (err error) {
		compiled, err = c.runtime.CompileModule(ctx, bin)
		return err
	})
	return compiled, err
}

// unkept compiles a module where the folder was deleted or cannot be written, for this process alone.
func (c *compilations) unkept(ctx context.Context, what string, bin []byte, why error) (compiled wazero.CompiledModule, fresh bool, err error) {
	c.report(fmt.Sprintf("compiling %s, which cannot be kept: %v", named(what), why), " ")
	err = c.files.Unkept(func() (err error) {
		compiled, err = c.give(ctx, bin)
		return err
	})
	return compiled, err == nil, err
}

// noting lets wazero load or compile a module, and notes the resulting entry.
func (c *compilations) noting(ctx context.Context, key [32]byte, bin []byte) (compiled wazero.CompiledModule, fresh bool, err error) {
	before, err := c.entries()
	if err != nil {
		return nil, false, err
	}
	if compiled, err = c.give(ctx, bin); err != nil {
		return nil, false, err
	}
	after, err := c.entries()
	if err == nil {
		fresh, err = c.noteSums(key, before, after)
	}
	if err != nil {
		return nil, false, errors.Join(err, compiled.Close(ctx))
	}
	return compiled, fresh, nil
}

// noteSums writes the sums of new entries. If another process makes an entry of another module in the meantime, it is noted here too, which
// is harmless.
func (c *compilations) noteSums(key [32]byte, before, after map[string]bool) (fresh bool, err error) {
	sums, _ := c.sums(key)
	for name := range after {
		if before[name] {
			continue
		}
		sum, err := c.sumOf(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted by another process, which has no sum of it
		}
		if err != nil {
			return false, err
		}
		sums, fresh = append(sums, sum), true
	}
	if !fresh {
		return false, nil
	}
	var text bytes.Buffer
	for _, s := range sums {
		fmt.Fprintf(&text, "%s %d %08x\n", s.name, s.size, s.crc)
	}
	return true, c.write(c.sumPath(key), text.Bytes())
}

// write puts a complete file in place.
func (c *compilations) write(path string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("note a compilation: %w", err)
	}
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("note a compilation: %w", err), os.Remove(temp.Name()))
	}
	return nil
}

// check reports whether a module has entries, all of them intact; why says what is wrong with one.
func (c *compilations) check(key [32]byte) (found bool, why error) {
	sums, err := c.sums(key)
	if err != nil {
		return false, err
	}
	for _, want := range sums {
		got, err := c.sumOf(want.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, err
		case got.size != want.size:
			return false, fmt.Errorf("%w: %s has %d bytes instead of %d", errDamaged, want.name, got.size, want.size)
		case got.crc != want.crc:
			return false, fmt.Errorf("%w: %s has other bytes than were written", errDamaged, want.name)
		}
	}
	return len(sums) > 0, nil
}

func (c *compilations) sumPath(key [32]byte) string {
	return filepath.Join(c.dir, sumsDir, fmt.Sprintf("%x", key))
}

// sums reads a file of sums; it returns none if there is no such file.
func (c *compilations) sums(key [32]byte) ([]entrySum, error) {
	return readSums(c.sumPath(key))
}

func readSums(path string) (sums []entrySum, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSums))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var s entrySum
		if n, err := fmt.Sscanf(line, "%s %d %08x\n", &s.name, &s.size, &s.crc); n != 3 || err != nil || !filepath.IsLocal(s.name) {
			return nil, fmt.Errorf("%w: %s", errDamaged, filepath.Base(path))
		}
		sums = append(sums, s)
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%w: %s is empty", errDamaged, filepath.Base(path))
	}
	return sums, nil
}

func (c *compilations) sumOf(name string) (s entrySum, err error) {
	file, err := os.Open(filepath.Join(c.dir, name))
	if err != nil {
		return s, err
	}
	defer file.Close()
	s.name = name
	buf := make([]byte, sumBuffer)
	for {
		n, err := file.Read(buf)
		s.size += int64(n)
		s.crc = crc32.Update(s.crc, castagnoli, buf[:n])
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return s, fmt.Errorf("check a compilation: %w", err)
		}
	}
}

// entries returns wazero's entries, by their names below dir.
func (c *compilations) entries() (map[string]bool, error) {
	paths, err := filepath.Glob(filepath.Join(c.dir, "wazero-*", "*"))
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(paths))
	for _, p := range paths {
		if len(filepath.Base(p)) == entryDigits {
			names[filepath.Join(filepath.Base(filepath.Dir(p)), filepath.Base(p))] = true
		}
	}
	return names, nil
}

// discardDamaged deletes all entries that do not match a sum, and reports whether there were any. The lock is held.
func (c *compilations) discardDamaged() (found bool, err error) {
	files, err := filepath.Glob(filepath.Join(c.dir, sumsDir, "*"))
	if err != nil {
		return false, err
	}
	for _, path := range files {
		sums, _ := readSums(path)
		for _, want := range sums {
			got, sumErr := c.sumOf(want.name)
			if sumErr != nil || got == want {
				continue // a process that uses it will see
			}
			found = true
			err = errors.Join(err, remove(filepath.Join(c.dir, want.name)))
		}
	}
	return found, err
}

// remove deletes a file that may not exist any more.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// discard deletes a module's entries, all entries that no sum names, and leftovers of processes that have ended. The lock is held.
func (c *compilations) discard(key [32]byte) error {
	if err := remove(c.sumPath(key)); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(c.dir, sumsDir, "*"))
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, path := range files {
		sums, _ := readSums(path) // a damaged file's entries are unknown
		for _, s := range sums {
			known[s.name] = true
		}
	}
	names, err := c.entries()
	if err != nil {
		return err
	}
	for name := range names {
		if !known[name] {
			err = errors.Join(err, remove(filepath.Join(c.dir, name)))
		}
	}
	return errors.Join(err, c.sweep())
}

// sweep deletes temporary files of processes that have ended.
func (c *compilations) sweep() (err error) {
	left, err := filepath.Glob(filepath.Join(c.dir, "*", "*.tmp"))
	for _, path := range left {
		info, statErr := os.Stat(path)
		if statErr == nil && clock.System().Now().Sub(info.ModTime()) > abandonedAt {
			err = errors.Join(err, remove(path))
		}
	}
	return err
}

// locked waits until no other process compiles.
func (c *compilations) locked(ctx context.Context, what string) (unlock func() error, err error) {
	return c.lock(ctx, filepath.Join(c.dir, "compile"), named(what))
}
