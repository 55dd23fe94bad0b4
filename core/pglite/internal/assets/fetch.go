package assets

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Bounds on npm's output.
const (
	maxTarballBytes  = 64 << 20
	maxUnpackedBytes = 256 << 20
	maxTarEntries    = 20_000
	maxNpmOutput     = 64 << 10
	npmStopWait      = 5 * time.Second // for its pipes, after it was told to stop
)

// fetch fetches the files of a package into the cache.
func (c *cache) fetch(ctx context.Context, p pin) error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("make the cache folder: %w", c.explain(err))
	}
	target := filepath.Join(c.dir, p.folder())
	unlock, err := c.lock(ctx, target, "the PGlite files")
	if err != nil {
		return c.explain(err)
	}
	defer unlock()
	if _, err := os.Stat(target); err == nil {
		return nil // another process was faster
	}
	temp := target + ".tmp"
	if err := os.RemoveAll(temp); err != nil { // left by a maker that died
		return fmt.Errorf("clear %s: %w", temp, err)
	}
	err = c.fetchInto(ctx, p, temp, target)
	if err != nil {
		err = errors.Join(c.explain(err), os.RemoveAll(temp))
	}
	return err
}

func (c *cache) fetchInto(ctx context.Context, p pin, temp, target string) error {
	pack, files := filepath.Join(temp, "pack"), filepath.Join(temp, "files")
	for _, dir := range []string{pack, files} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a folder in the cache: %w", err)
		}
	}
	c.progress("fetching "+p.spec()+" with npm", 0, 0)
	if err := runNpm(ctx, p, pack, target+".log"); err != nil {
		return err
	}
	tarball, err := readTarball(p, pack)
	if err != nil {
		return err
	}
	if err := c.unpack(ctx, p, tarball, files); err != nil {
		return fmt.Errorf("unpack %s: %w", p.spec(), err)
	}
	if err := p.verify(files); err != nil {
		return err
	}
	if err := errors.Join(syncDir(files), place(files, target), os.RemoveAll(temp)); err != nil {
		return fmt.Errorf("keep the files of %s: %w", p.spec(), err)
	}
	return nil
}

// runNpm makes npm put the tarball into dir. npm's output goes to the file log, as it may reveal more of its
// configuration than a message should.
func runNpm(ctx context.Context, p pin, dir, log string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("fetch %s: %w: npm was not found (%w); install Node.js with npm, or set %s to a folder with the files of the package's dist folder",
			p.spec(), ErrUnavailable, err, fromVariable)
	}
	var said bounded
	cmd := exec.CommandContext(ctx, npm, "pack", p.spec(), "--ignore-scripts", "--update-notifier=false")
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &said, &said, npmStopWait
	if err = cmd.Run(); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("fetch %s with npm: %w", p.spec(), context.Cause(ctx))
	}
	code := npmCode(said.Bytes())
	if code == "ENOSPC" {
		return fmt.Errorf("fetch %s with npm: %w", p.spec(), syscall.ENOSPC)
	}
	where := "its output is in " + log
	if err := os.WriteFile(log, said.Bytes(), 0o600); err != nil {
		where = "its output could not be kept: " + err.Error()
	}
	return fmt.Errorf("fetch %s: %w: npm failed (%w, code %s; %s); make sure that npm can reach its registry and run again, or set %s to a folder with the files of the package's dist folder",
		p.spec(), ErrUnavailable, err, code, where, fromVariable)
}

// npmCode returns the error code that npm prints on a line of its own.
func npmCode(said []byte) string {
	m := regexp.MustCompile(`(?m)^npm (?:error|ERR!) code ([A-Z0-9_]{1,40})\s*$`).FindSubmatch(said)
	if m == nil {
		return "unknown"
	}
	return string(m[1])
}

// bounded keeps the first maxNpmOutput bytes written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxNpmOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// readTarball reads the only tarball in dir and compares it with its pin.
func readTarball(p pin, dir string) ([]byte, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("fetch %s: %w: npm left %d tarballs, one expected", p.spec(), ErrUnavailable, len(found))
	}
	file, err := os.Open(found[0])
	if err != nil {
		return nil, fmt.Errorf("read the tarball of %s: %w", p.spec(), err)
	}
	defer file.Close()
	tarball, err := io.ReadAll(io.LimitReader(file, maxTarballBytes))
	if err != nil {
		return nil, fmt.Errorf("read the tarball of %s: %w", p.spec(), err)
	}
	sum := sha512.Sum512(tarball)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != p.Integrity {
		return nil, fmt.Errorf("check %s (%d bytes): %w: SHA-512 %s..., %s... expected; run again; if it happens again, do not trust the npm registry in use",
			filepath.Base(found[0]), len(tarball), ErrDamaged, prefix(got), prefix(p.Integrity))
	}
	return tarball, nil
}

// unpack writes the pinned files of a tarball into dir and ignores the others.
func (c *cache) unpack(ctx context.Context, p pin, tarball []byte, dir string) error {
	var total, done int64
	for _, f := range p.Files {
		total += f.Size
	}
	step := "unpacking " + p.spec()
	c.progress(step, 0, total)
	return eachTarFile(bytes.NewReader(tarball), maxUnpackedBytes, func(h *tar.Header, contents io.Reader) error {
		name, ok := strings.CutPrefix(h.Name, p.Inside)
		if !ok {
			return nil
		}
		f, ok := p.file(name)
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.writeFile(filepath.Join(dir, name), func(w io.Writer) error {
			_, err := io.Copy(w, io.LimitReader(contents, f.Size+1))
			return err
		})
		done += f.Size
		c.progress(step, done, total)
		return err
	})
}

// eachTarFile calls visit for each regular file of a gzipped tar. It refuses names that lead out of the folder, links and
// devices, and archives of more than limit bytes or maxTarEntries entries.
func eachTarFile(r io.Reader, limit int64, visit func(*tar.Header, io.Reader) error) error {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	bound := &io.LimitedReader{R: zipped, N: limit}
	archive := tar.NewReader(bound)
	for range maxTarEntries {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) && bound.N > 0 {
			return nil
		}
		if err == nil && bound.N <= 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("read archive of at most %d bytes: %w", limit, err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		switch {
		case h.Typeflag == tar.TypeDir && (name == "" || fs.ValidPath(name)), h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case !fs.ValidPath(name):
			return fmt.Errorf("read archive: %w: entry %q is outside its folder", ErrDamaged, h.Name)
		case h.Typeflag != tar.TypeReg:
			return fmt.Errorf("read archive: %w: entry %q is not a file or folder (type %q)", ErrDamaged, h.Name, h.Typeflag)
		}
		h.Name = name
		if err := visit(h, archive); err != nil {
			return err
		}
	}
	return fmt.Errorf("read archive: %w: more than %d entries", ErrDamaged, maxTarEntries)
}
