package assets

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestEnsureFetchesOnce(t *testing.T) {
	fp, dir := newFakePackage(t), filepath.Join(t.TempDir(), "new", "cache")
	var steps []string
	o := Options{CacheDir: dir, Progress: func(step string, done, total int64) { steps = append(steps, step) }}
	for range 2 {
		s, err := ensure(t.Context(), o, fp.pin, createFile)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range fp.files {
			got, err := os.ReadFile(filepath.Join(s.Dir, name))
			if err != nil || string(got) != string(want) {
				t.Errorf("%s: %v, %d bytes", name, err, len(got))
			}
		}
	}
	if calls := fp.npmCalls(t); len(calls) != 1 || !strings.HasPrefix(calls[0], "pack @fake/pglite@1.2.3 --ignore-scripts") {
		t.Errorf("npm was called with %q, want one pack without scripts", calls)
	}
	if !slices.Contains(steps, "fetching @fake/pglite@1.2.3 with npm") || !slices.Contains(steps, "unpacking @fake/pglite@1.2.3") {
		t.Errorf("progress said %q", steps)
	}
	if got, want := names(t, dir), []string{fp.pin.folder(), fp.pin.folder() + ".lock"}; !slices.Equal(got, want) {
		t.Errorf("cache holds %q, want %q", got, want)
	}
}

func TestEnsureAllAtOnceFetchesOnce(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if calls := fp.npmCalls(t); len(calls) != 1 {
		t.Errorf("npm was called %d times, want once", len(calls))
	}
}

func TestEnsureFullCacheWritesNothing(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	if _, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, fp.pin.folder()+".lock")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if _, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, failing(0, syscall.EROFS)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{fp.pin.folder()}) {
		t.Errorf("cache holds %q, nothing should be added", got)
	}
}

func TestEnsureClearsWhatADeadMakerLeft(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	left := filepath.Join(dir, fp.pin.folder()+".tmp", "pack")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(left, "half.tgz"), []byte("half"))
	if _, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("leftovers are still there: %v", err)
	}
}

func TestEnsureVariables(t *testing.T) {
	fp, cacheDir := newFakePackage(t), t.TempDir()
	t.Setenv(cacheVariable, cacheDir)
	s, err := ensure(t.Context(), Options{}, fp.pin, createFile)
	if err != nil {
		t.Fatal(err)
	}
	if s.CacheDir() != cacheDir || filepath.Dir(s.Dir) != cacheDir {
		t.Errorf("cache %s, files in %s, want both in %s", s.CacheDir(), s.Dir, cacheDir)
	}
	from := fp.unpacked(t)
	t.Setenv(fromVariable, from)
	if s, err = ensure(t.Context(), Options{}, fp.pin, createFile); err != nil {
		t.Fatal(err)
	}
	if s.Dir != from || s.CacheDir() != cacheDir {
		t.Errorf("files in %s, cache %s", s.Dir, s.CacheDir())
	}
	t.Setenv(cacheVariable, "")
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	_, err = ensure(t.Context(), Options{}, fp.pin, createFile)
	if err == nil {
		t.Fatal("no cache folder can be found, but no error")
	}
	mustMention(t, err, cacheVariable)
}

func TestEnsureDamagedFile(t *testing.T) {
	for how, damage := range damages() {
		if how == "one bit" {
			continue // TestVerify
		}
		for _, name := range []string{mainWasm, "two.tar.gz"} {
			t.Run(how+" "+name, func(t *testing.T) {
				fp, dir := newFakePackage(t), t.TempDir()
				s, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile)
				if err != nil {
					t.Fatal(err)
				}
				damage(t, filepath.Join(s.Dir, name))
				_, err = ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile)
				want := ErrDamaged
				if how == "gone" {
					want = fs.ErrNotExist
				}
				if !errors.Is(err, want) {
					t.Fatalf("got %v, want %v", err, want)
				}
				mustMention(t, err, name, "delete the folder "+s.Dir, "run again")
				from := fp.unpacked(t)
				damage(t, filepath.Join(from, name))
				if _, err = ensure(t.Context(), Options{CacheDir: dir, From: from}, fp.pin, createFile); !errors.Is(err, want) {
					t.Fatalf("from a folder: got %v, want %v", err, want)
				}
				mustMention(t, err, name, "@fake/pglite@1.2.3", fromVariable)
			})
		}
	}
}

// TestVerify: any damage to a file, or to what was made from it, is found and named, all of it in one call.
func TestVerify(t *testing.T) {
	for how, damage := range damages() {
		t.Run(how, func(t *testing.T) {
			fp := newFakePackage(t)
			s, err := ensure(t.Context(), Options{CacheDir: t.TempDir()}, fp.pin, createFile)
			if err != nil {
				t.Fatal(err)
			}
			var calls atomic.Int32
			made := []string{mustDerive(t, s, "made", "of it", &calls), mustDerive(t, s, "also", "of it", &calls)}
			v, err := s.Verify()
			if err != nil || v.Files != len(s.pin.Files)+2 || v.Bytes == 0 {
				t.Fatal(v, err)
			}
			file := s.InitdbWasm()
			damage(t, file)
			damage(t, made[0])
			bad, err := s.Verify()
			if err == nil || bad.Files != v.Files-2 {
				t.Fatal(bad, err)
			}
			mustMention(t, err, file, made[0], "delete the folder "+s.Dir, "delete it, and it is made again")
			if strings.Contains(err.Error(), made[1]) {
				t.Errorf("a whole file is named: %v", err)
			}
			if f, _ := s.pin.file(initdbWasm); how == "one bit" {
				mustMention(t, err, f.SHA256[:12])
				if again, err := ensure(t.Context(), Options{CacheDir: s.CacheDir()}, s.pin, createFile); err != nil {
					t.Errorf("a start looks at sizes: %v", err)
				} else if _, err := again.Original(file); !errors.Is(err, ErrDamaged) {
					t.Errorf("it is made something of: %v", err)
				}
			}
		})
	}
}

// TestNoFetch: with NoFetch nothing is fetched.
func TestNoFetch(t *testing.T) {
	fp := newFakePackage(t)
	if _, err := ensure(t.Context(), Options{CacheDir: t.TempDir(), NoFetch: true}, fp.pin, createFile); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if calls := fp.npmCalls(t); len(calls) != 0 {
		t.Errorf("npm was called: %q", calls)
	}
}

func TestNpmMissing(t *testing.T) {
	fp := newFakePackage(t)
	t.Setenv("PATH", t.TempDir())
	_, err := ensure(t.Context(), Options{CacheDir: t.TempDir()}, fp.pin, createFile)
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, ErrUnavailable)
	}
	mustMention(t, err, "npm was not found", "install Node.js", fromVariable)
}

func TestNpmFails(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	fp.npm(t, `echo "npm error code ENOTFOUND"; echo "npm error host secret.example" >&2; exit 1`)
	_, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile)
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, ErrUnavailable)
	}
	log := filepath.Join(dir, fp.pin.folder()+".log")
	mustMention(t, err, "ENOTFOUND", "exit status 1", log, fromVariable)
	if strings.Contains(err.Error(), "secret.example") {
		t.Errorf("message names the host: %v", err)
	}
	if said, err := os.ReadFile(log); err != nil || !strings.Contains(string(said), "secret.example") {
		t.Errorf("log: %v, %q", err, said)
	}
	if got := names(t, dir); slices.Contains(got, fp.pin.folder()+".tmp") {
		t.Errorf("cache still holds the work in progress: %q", got)
	}
}

func TestNpmLeavesNoTarball(t *testing.T) {
	fp := newFakePackage(t)
	fp.npm(t, "")
	if _, err := ensure(t.Context(), Options{CacheDir: t.TempDir()}, fp.pin, createFile); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, ErrUnavailable)
	}
}

func TestNpmDiskFull(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	fp.npm(t, `echo "npm ERR! code ENOSPC" >&2; exit 228`)
	_, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want ENOSPC", err)
	}
	mustMention(t, err, dir, cacheVariable)
}

func TestNpmIsStopped(t *testing.T) {
	fp := newFakePackage(t)
	ready := filepath.Join(t.TempDir(), "ready")
	if err := syscall.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	fp.npm(t, `echo > "`+ready+`"; exec sleep 600`)
	ctx, cancel := context.WithCancel(t.Context())
	var other sync.WaitGroup
	other.Go(func() {
		if _, err := os.ReadFile(ready); err != nil { // until npm runs
			t.Error(err)
		}
		cancel()
	})
	defer other.Wait()
	if _, err := ensure(ctx, Options{CacheDir: t.TempDir()}, fp.pin, createFile); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want canceled", err)
	}
}

func TestTarballTampered(t *testing.T) {
	for how, damage := range damages() {
		if how == "gone" {
			continue // TestNpmLeavesNoTarball
		}
		t.Run(how, func(t *testing.T) {
			fp, dir := newFakePackage(t), t.TempDir()
			damage(t, fp.tarball)
			_, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile)
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("got %v, want %v", err, ErrDamaged)
			}
			mustMention(t, err, "fake-pglite-1.2.3.tgz", fp.pin.Integrity[:12], "run again")
			if got := names(t, dir); slices.Contains(got, fp.pin.folder()) {
				t.Errorf("a tampered package came into place: %q", got)
			}
		})
	}
}

// A tarball may match its pin and hold files other than those pinned.
func TestTarballHoldsOtherFiles(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	fp.pin.Files[0].SHA256 = strings.Repeat("0", 64)
	if _, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile); !errors.Is(err, ErrDamaged) {
		t.Fatalf("got %v, want %v", err, ErrDamaged)
	}
	if got := names(t, dir); slices.Contains(got, fp.pin.folder()) {
		t.Errorf("it came into place: %q", got)
	}
}

func TestEnsureDiskFails(t *testing.T) {
	for _, failure := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EACCES} {
		for _, room := range []int{0, 5, 4005} {
			fp, dir := newFakePackage(t), t.TempDir()
			_, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, failing(room, failure))
			if !errors.Is(err, failure) {
				t.Fatalf("after %d bytes: got %v, want %v", room, err, failure)
			}
			mustMention(t, err, dir, cacheVariable)
			if _, err := ensure(t.Context(), Options{CacheDir: dir}, fp.pin, createFile); err != nil {
				t.Errorf("after %v: %v", failure, err)
			}
		}
	}
}

func TestLockWaitEndsWithContext(t *testing.T) {
	fp, dir := newFakePackage(t), t.TempDir()
	holder, err := os.Create(filepath.Join(dir, fp.pin.folder()+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if held, err := tryLock(holder); err != nil || !held {
		t.Fatal(held, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	said := 0
	progress := func(step string, done, total int64) {
		if strings.HasPrefix(step, "waiting for another process") {
			said++
			cancel()
		}
	}
	if _, err := ensure(ctx, Options{CacheDir: dir, Progress: progress}, fp.pin, createFile); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want canceled", err)
	}
	if said != 1 {
		t.Errorf("said %d times that it waits, want once", said)
	}
	if calls := fp.npmCalls(t); len(calls) != 0 {
		t.Errorf("npm was called without the lock: %q", calls)
	}
}

func TestPgDumpWithoutNpm(t *testing.T) {
	fp := newFakePackage(t)
	s := fp.set(t, createFile)
	t.Setenv("PATH", t.TempDir())
	_, _, err := s.PgDumpWasm(t.Context())
	if !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	for _, part := range []string{"pg_dump", "@electric-sql/pglite-tools@", fromVariable} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
}

func TestDamagedPgDump(t *testing.T) {
	fp := newFakePackage(t)
	s := fp.set(t, createFile)
	dir := filepath.Join(s.CacheDir(), toolsPin().folder())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeTestFile(t, filepath.Join(dir, "pg_dump.wasm"), []byte("not it"))
	if _, _, err := s.PgDumpWasm(t.Context()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
}
