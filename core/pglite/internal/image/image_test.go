package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"blobpglite/core/memfs"
)

func sample(t testing.TB) *memfs.FS {
	t.Helper()
	tree := memfs.New(memfs.Options{})
	err := tree.MkdirAll("/share/empty", 0o750)
	for name, text := range map[string]string{"/share/a": "the first", "/share/b": "", "/c": strings.Repeat("the last", 2000)} {
		err = errors.Join(err, tree.WriteFile(name, []byte(text), 0o640), tree.Chtimes(name, time.Time{}, time.Unix(1_700_000_000, 5)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func encoded(t testing.TB, tree *memfs.FS) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tree); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(t testing.TB, b []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// same fails unless two trees have the same content.
func same(t *testing.T, got, want *memfs.FS) {
	t.Helper()
	count := 0
	err := want.Walk("/", func(path string, info memfs.Info) error {
		count++
		have, err := got.Stat(path)
		if err != nil || have.Mode != info.Mode || have.Size != info.Size || info.IsRegular() && !have.Mtime.Equal(info.Mtime) {
			t.Errorf("%s: %+v, %v; want %+v", path, have, err, info)
		}
		if !info.IsRegular() {
			return err
		}
		a, err := got.ReadFile(path)
		b, _ := want.ReadFile(path)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: %q, %v", path, a, err)
		}
		return err
	})
	_ = got.Walk("/", func(string, memfs.Info) error { count--; return nil })
	if err != nil || count != 0 {
		t.Errorf("%v; %d more files than wanted", err, -count)
	}
}

// TestImage: a tree comes back, even from a file that has since been deleted.
func TestImage(t *testing.T) {
	path := put(t, encoded(t, sample(t)))
	if err := Verify(path); err != nil {
		t.Error(err)
	}
	img, err := Open(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	tree, err := img.Tree(memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, tree.Clone(), sample(t))
	same(t, tree, sample(t))
	if _, err := img.Tree(memfs.Options{MaxBytes: 1}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a tree without room: %v", err)
	}
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no image: %v", err)
	}
}

// TestDamagedImage: truncated anywhere, it does not open; with any bit flipped, either it does not open, or the file with that bit does
// not, with an error that names both, and all others do.
func TestDamagedImage(t *testing.T) {
	whole := encoded(t, sample(t))
	for keep := range whole[:len(whole)-16_000+64] {
		if _, err := Open(put(t, whole[:keep])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("the first %d bytes: %v", keep, err)
		}
	}
	if _, err := Open(put(t, append(bytes.Clone(whole), 0))); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
	contents := len(whole) - 16_000 - len("the first")
	for at := range contents + 64 {
		b := bytes.Clone(whole)
		b[at] ^= 1 << (at % 8)
		path := put(t, b)
		if err := Verify(path); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", at, err)
		}
		img, err := Open(path)
		if at < contents {
			if err == nil {
				t.Fatalf("byte %d: it opens", at)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		tree, err := img.Tree(memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		bad := 0
		for _, name := range []string{"/share/a", "/share/b", "/c"} {
			if _, err := tree.ReadFile(name); err != nil {
				bad++
				if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), name) {
					t.Errorf("byte %d: %v", at, err)
				}
			}
		}
		if bad != 1 {
			t.Errorf("byte %d: %d files do not open", at, bad)
		}
	}
}

func TestImageOfWhat(t *testing.T) {
	tree := memfs.New(memfs.Options{})
	if err := tree.Symlink("/a", "/b"); err != nil {
		t.Fatal(err)
	}
	if err := Write(&bytes.Buffer{}, tree); err == nil {
		t.Error("a link was taken")
	}
}

func FuzzParse(f *testing.F) {
	whole := encoded(f, sample(f))
	f.Add(whole[headerBytes : len(whole)-16_009])
	f.Fuzz(func(t *testing.T, index []byte) {
		entries, err := parse(index)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		var again []byte
		for _, e := range entries {
			again = e.append(again)
		}
		if back, err := parse(again); err != nil || len(back) != len(entries) {
			t.Errorf("%d entries, again %d: %v", len(entries), len(back), err)
		}
	})
}
