package pglite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"blobpglite/core/pglite/internal/assets"
	"blobpglite/core/pglite/internal/codecache"
)

// Verified says what VerifyInstallation has read and found intact.
type Verified struct {
	CacheDir     string
	Files        int // PGlite's, and those made from them
	Compilations int
	Bytes        int64
}

// VerifyInstallation reads everything in the cache, whether a start needs it or not, and compares it with its hashes and sums: the PGlite
// files, what was made from them, and the compiled code. (A start itself checks only sizes, and the sums of what it opens.) It makes,
// fetches and changes nothing. Errors name each file that is damaged or that a start would have to make first, and say what to do.
func VerifyInstallation(ctx context.Context, o Options) (v Verified, err error) {
	set, err := assets.Ensure(ctx, assets.Options{CacheDir: o.CacheDir, From: o.AssetsFrom, NoFetch: true})
	if err != nil {
		return v, err
	}
	v.CacheDir = set.CacheDir()
	hashed, err := set.Verify()
	v.Files, v.Bytes = hashed.Files, hashed.Bytes
	rt := &Runtime{assets: set, checked: guardable()}
	for _, name := range []string{rt.wholeName(mainProgram), rt.outlineName(), dataName(), installationName(), templateName()} {
		if !set.Has(name) {
			err = errors.Join(err, fmt.Errorf("%s was not made yet, or is being made: the next start makes it", name))
		}
	}
	c := &compilations{dir: filepath.Join(set.CacheDir(), compiledDir(rt.unchecked()))}
	versions, codeErr := filepath.Glob(filepath.Join(filepath.Dir(c.dir), "*"))
	for _, dir := range versions {
		codeErr = errors.Join(codeErr, (&compilations{dir: dir}).verify(&v))
	}
	if outline, readErr := set.ReadDerived(rt.outlineName()); readErr == nil {
		codeErr = errors.Join(codeErr, c.verifyLoans(outline))
	}
	return v, errors.Join(err, codeErr)
}

// verify reads all compilations that have a sum.
func (c *compilations) verify(v *Verified) (err error) {
	files, err := filepath.Glob(filepath.Join(c.dir, sumsDir, "*"))
	seen := map[string]bool{}
	for _, path := range files {
		sums, readErr := readSums(path)
		if readErr != nil {
			err = errors.Join(err, fmt.Errorf("check %s: %w; delete it, and the module is compiled again", path, readErr))
		}
		for _, want := range sums {
			if seen[want.name] {
				continue
			}
			seen[want.name] = true
			got, sumErr := c.sumOf(want.name)
			switch {
			case errors.Is(sumErr, os.ErrNotExist):
				continue // compiled again when it is needed
			case sumErr == nil && got != want:
				sumErr = fmt.Errorf("%w: it has changed since it was compiled", errDamaged)
			}
			if sumErr != nil {
				err = errors.Join(err, fmt.Errorf("check %s: %w; delete it, and the module is compiled again", filepath.Join(c.dir, want.name), sumErr))
				continue
			}
			v.Compilations++
			v.Bytes += got.size
		}
	}
	return err
}

// verifyLoans compares the entries lent to an outline with what was noted about them.
func (c *compilations) verifyLoans(outline []byte) error {
	path := c.loanPath(outline)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("PostgreSQL has no compilation that its outline is lent: the next start makes it: %w", err)
	}
	loans, err := c.readLoans(text)
	if err != nil {
		return fmt.Errorf("check %s: %w; delete it, and it is made again", path, err)
	}
	for _, l := range loans {
		got, entryErr := codecache.Describe(l.Path)
		if entryErr == nil && got != l.Entry {
			entryErr = errDamaged
		}
		if entryErr != nil {
			err = errors.Join(err, fmt.Errorf("check %s: %w; the next start compiles again what it needs of it", l.Path, entryErr))
		}
	}
	return err
}
