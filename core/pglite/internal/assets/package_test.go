package assets

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakePackage is a small package of the same shape as PGlite's, and an npm that delivers it.
type fakePackage struct {
	pin     pin
	files   map[string][]byte
	tarball string // path
	calls   string // file with one line per call of npm: its arguments
}

const fakeGlue = `{Module["FS_createPath"]("/","pglite",true,true);Module["FS_createPath"]("/pglite","bin",true,true);` +
	`loadPackage({files:[{filename:"/pglite/bin/postgres",start:0,end:4},{filename:"/pglite/a b",start:4,end:1e1}],remote_package_size:10})}`

func newFakePackage(t *testing.T) *fakePackage {
	t.Helper()
	dir := t.TempDir()
	fp := &fakePackage{
		files: map[string][]byte{
			mainWasm:     bytes.Repeat([]byte("wasm"), 1000),
			initdbWasm:   []byte("initdb"),
			dataFile:     []byte("0123456789"),
			glueFile:     []byte(fakeGlue),
			"one.tar.gz": tarOf(t, entry{name: "lib/postgresql/one.so", mode: 0o755, data: "side"}, entry{name: "share/one.sql", data: "SELECT 1"}),
			"two.tar.gz": tarOf(t, entry{name: "./share/two.sql", data: "SELECT 2"}),
		},
		tarball: filepath.Join(dir, "package.tgz"),
		calls:   filepath.Join(dir, "calls"),
	}
	fp.pin = pin{Package: "@fake/pglite", Version: "1.2.3", Folder: "fake", Inside: "package/dist/"}
	entries := []entry{{name: "package/LICENSE", data: "free"}, {name: "package/dist/other.js", data: "ignored"}}
	for name, data := range fp.files {
		sum := sha256.Sum256(data)
		fp.pin.Files = append(fp.pin.Files, pinnedFile{name, int64(len(data)), hex.EncodeToString(sum[:])})
		entries = append(entries, entry{name: "package/dist/" + name, data: string(data)})
	}
	tarball := tarOf(t, entries...)
	sum := sha512.Sum512(tarball)
	fp.pin.Integrity = base64.StdEncoding.EncodeToString(sum[:])
	writeTestFile(t, fp.tarball, tarball)
	fp.npm(t, `cp "`+fp.tarball+`" fake-pglite-1.2.3.tgz`)
	return fp
}

// npm substitutes a script for npm.
func (fp *fakePackage) npm(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" >> %q\n%s\n", fp.calls, script)
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
}

// npmCalls returns the arguments of each call.
func (fp *fakePackage) npmCalls(t *testing.T) []string {
	t.Helper()
	said, err := os.ReadFile(fp.calls)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(said)), "\n")
}

// unpacked returns a folder that holds the files.
func (fp *fakePackage) unpacked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range fp.files {
		writeTestFile(t, filepath.Join(dir, name), data)
	}
	return dir
}

// set returns the checked files, with an empty cache.
func (fp *fakePackage) set(t *testing.T, create createFunc) *Set {
	t.Helper()
	s, err := ensure(t.Context(), Options{CacheDir: t.TempDir(), From: fp.unpacked(t)}, fp.pin, create)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type entry struct {
	name, data, link string
	mode             int64
	kind             byte
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Typeflag: e.kind, Linkname: e.link}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := archive.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func writeTestFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// damages returns ways to damage a file, by name.
func damages() map[string]func(t *testing.T, path string) {
	return map[string]func(*testing.T, string){
		"one bit": func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			writeTestFile(t, path, data)
		},
		"cut short": func(t *testing.T, path string) {
			if err := os.Truncate(path, 3); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"longer": func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			writeTestFile(t, path, append(data, 0))
		},
		"gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// failing returns a createFunc whose files take room bytes in total, then fail.
func failing(room int, failure error) createFunc {
	return func(path string) (writeFile, error) {
		if room <= 0 {
			return nil, &os.PathError{Op: "open", Path: path, Err: failure}
		}
		f, err := os.Create(path)
		return &failingFile{file: f, room: &room, failure: failure}, err
	}
}

type failingFile struct {
	file    *os.File
	room    *int
	failure error
}

func (f *failingFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p[:min(len(p), *f.room)])
	if *f.room -= n; err == nil && n < len(p) {
		err = &os.PathError{Op: "write", Path: f.file.Name(), Err: f.failure}
	}
	return n, err
}

func (f *failingFile) Sync() error  { return f.file.Sync() }
func (f *failingFile) Close() error { return f.file.Close() }

// mustMention checks that a message contains what it must.
func mustMention(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("message lacks %q: %v", w, err)
		}
	}
}

// names lists a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
