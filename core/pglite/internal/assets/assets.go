package assets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Environment variables used for empty [Options].
const (
	cacheVariable = "BLOBPGLITE_CACHE"
	fromVariable  = "BLOBPGLITE_ASSETS"
)

// ErrDamaged is wrapped when a file does not match its pin. Remove it, as the message says, and start again.
var ErrDamaged = errors.New("file is not the expected one")

// ErrUnavailable is wrapped when the files are missing and cannot be fetched. Install npm, or provide the files by other
// means, as the message says.
var ErrUnavailable = errors.New("PGlite files are not available")

// Options says where the files are.
type Options struct {
	// CacheDir is the folder for the files and for derived artifacts; it is created if need be. Empty: $BLOBPGLITE_CACHE,
	// or blobpglite in os.UserCacheDir.
	CacheDir string
	// From is a folder that holds the files of the npm package's dist folder; they are checked and used from there,
	// without npm. Empty: $BLOBPGLITE_ASSETS.
	From string
	// Progress is called during long steps, on the caller's goroutine. done and total are bytes; total is 0 where
	// unknown. Nil: not called.
	Progress func(step string, done, total int64)
	// NoFetch: missing files are not fetched, but fail with ErrUnavailable.
	NoFetch bool
}

// Set is the PGlite files. It is safe for concurrent use.
type Set struct {
	Dir string // absolute path of the folder that holds the files; read only

	pin   pin
	cache cache
	given bool // the folder was named by the caller
}

// Ensure returns the PGlite files: from a folder named in the options, from the cache, or fetched into the cache with
// npm. They are hashed when they are fetched and when something is made from them; here only their sizes are checked.
// Several processes may call it concurrently; one fetches, the others wait until ctx ends.
//
// Errors match [ErrDamaged], [ErrUnavailable], or the operating system's, such as syscall.ENOSPC or fs.ErrPermission.
func Ensure(ctx context.Context, o Options) (*Set, error) {
	return ensure(ctx, o, pglitePin(), createFile)
}

func ensure(ctx context.Context, o Options, p pin, create createFunc) (*Set, error) {
	c := cache{dir: o.CacheDir, progress: o.Progress, create: create}
	if c.progress == nil {
		c.progress = func(string, int64, int64) {}
	}
	if c.dir == "" {
		dir, err := defaultCacheDir()
		if err != nil {
			return nil, err
		}
		c.dir = dir
	}
	dir, err := filepath.Abs(c.dir)
	if err != nil {
		return nil, fmt.Errorf("find the cache folder %s: %w", c.dir, err)
	}
	c.dir = dir
	from := o.From
	if from == "" {
		from = os.Getenv(fromVariable)
	}
	if from != "" {
		if from, err = filepath.Abs(from); err != nil {
			return nil, fmt.Errorf("find the folder of the PGlite files: %w", err)
		}
		s := &Set{Dir: from, pin: p, cache: c, given: true}
		if err := p.sizes(from); err != nil {
			return nil, s.advise(err)
		}
		return s, nil
	}
	s := &Set{Dir: filepath.Join(c.dir, p.folder()), pin: p, cache: c}
	if _, err := os.Stat(s.Dir); errors.Is(err, fs.ErrNotExist) {
		if o.NoFetch {
			return nil, fmt.Errorf("use the cached PGlite files: %w: there is no %s", ErrUnavailable, s.Dir)
		}
		if err := c.fetch(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := p.sizes(s.Dir); err != nil {
		return nil, s.advise(err)
	}
	return s, nil
}

// advise adds to an error about one of the files what to do about it.
func (s *Set) advise(err error) error {
	if s.given {
		return fmt.Errorf("use the PGlite files in %s: %w; put the files of the dist folder of the npm package %s there, or unset %s",
			s.Dir, err, s.pin.spec(), fromVariable)
	}
	return fmt.Errorf("use the cached PGlite files: %w; delete the folder %s and run again", err, s.Dir)
}

func defaultCacheDir() (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w; set %s to a folder", err, cacheVariable)
	}
	return filepath.Join(dir, "blobpglite"), nil
}

// CacheDir returns the absolute path of the root for derived artifacts of all kinds.
func (s *Set) CacheDir() string { return s.cache.dir }

// Version returns the version of the npm package, such as "0.5.16".
func (s *Set) Version() string { return s.pin.Version }

// SHA256 returns the hash of pglite.wasm in hex.
func (s *Set) SHA256() string {
	f, _ := s.pin.file(mainWasm)
	return f.SHA256
}

// PGliteWasm returns the path of pglite.wasm, PostgreSQL.
func (s *Set) PGliteWasm() string { return filepath.Join(s.Dir, mainWasm) }

// InitdbWasm returns the path of initdb.wasm.
func (s *Set) InitdbWasm() string { return filepath.Join(s.Dir, initdbWasm) }

// Extensions returns the names of the contrib extensions, sorted.
func (s *Set) Extensions() []string {
	var names []string
	for _, f := range s.pin.Files {
		if name, ok := strings.CutSuffix(f.Name, extensionSuffix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Files of the package that this program knows by name.
const (
	mainWasm        = "pglite.wasm"
	initdbWasm      = "initdb.wasm"
	dataFile        = "pglite.data"
	glueFile        = "pglite.js"
	extensionSuffix = ".tar.gz"
)

// explain adds to an error of writing to the cache what to do about it.
func (c *cache) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: the disk of the cache folder %s is full; free some space, or set %s to a folder on another disk", err, c.dir, cacheVariable)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: the cache folder %s lacks the file and cannot be written; make it writable, or set %s to a folder that is", err, c.dir, cacheVariable)
	}
	return err
}
