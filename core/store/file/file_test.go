package file_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"blobpglite/core/store"
	"blobpglite/core/store/file"
	"blobpglite/core/store/storetest"
	"blobpglite/faults/diskfault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *file.Store {
	t.Helper()
	s, err := file.Open(t.Context(), file.Options{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()+"/db") })
}

// between is one folder as several processes use it: each operation is made by another one.
type between struct {
	stores []*file.Store
	n      atomic.Int64
}

func (b *between) next() *file.Store { return b.stores[int(b.n.Add(1))%len(b.stores)] }

func (b *between) Get(ctx context.Context, key string) (store.Object, error) {
	return b.next().Get(ctx, key)
}

func (b *between) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	return b.next().GetRange(ctx, key, offset, length)
}

func (b *between) Put(ctx context.Context, key string, body []byte, writeID string, cond store.Cond) (store.Gen, error) {
	return b.next().Put(ctx, key, body, writeID, cond)
}
func (b *between) Delete(ctx context.Context, key string) error { return b.next().Delete(ctx, key) }
func (b *between) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return b.next().List(ctx, prefix, after)
}

func TestConformanceBetweenProcesses(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store {
		dir := t.TempDir() + "/db"
		b := &between{}
		for range 3 {
			b.stores = append(b.stores, open(t, dir))
		}
		return b
	})
}

// Processes that make the store concurrently all find it made; and each may clean up what another has left.
func TestMadeAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := t.TempDir() + "/a/b/db"
		var all sync.WaitGroup
		for n := range 6 {
			all.Go(func() {
				s, err := file.Open(t.Context(), file.Options{Dir: dir, Create: true})
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				if _, err := s.Put(t.Context(), fmt.Sprint("key/", n), nil, store.NewWriteID(), store.IfAbsent()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// Only the next opening alone removes what a crash has left without a name, and it removes nothing else.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/db"
	s := open(t, dir)
	if _, err := s.Put(t.Context(), "kept", []byte("x"), store.NewWriteID(), store.IfAbsent()); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "tmp", "left")
	if err := os.WriteFile(left, []byte("half an object"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir) // while another user has it open
	if _, err := os.Stat(left); err != nil {
		t.Errorf("it may be somebody's: %v", err)
	}
	apart := t.TempDir() + "/db"
	if err := os.CopyFS(apart, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	alone := open(t, apart)
	if names, err := os.ReadDir(filepath.Join(apart, "tmp")); err != nil || len(names) > 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	if o, err := alone.Get(t.Context(), "kept"); err != nil || string(o.Body) != "x" {
		t.Errorf("%q, %v", o.Body, err)
	}
}

// unfit is a disk that lacks something.
type unfit struct {
	*diskfault.Process
	link, create, dir error
	twice, unlocked   bool
}

func (u unfit) Link(from, to string) error {
	err := errors.Join(u.link, u.Process.Link(from, to))
	if u.twice && errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (u unfit) Create(name string) (file.File, error) {
	if u.create != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: u.create}
	}
	return u.Process.Create(name)
}

func (u unfit) SyncDir(name string) error { return errors.Join(u.dir, u.Process.SyncDir(name)) }

func (u unfit) OpenWrite(name string) (file.File, error) {
	f, err := u.Process.OpenWrite(name)
	if u.unlocked && err == nil {
		return openToAll{f}, nil
	}
	return f, err
}

type openToAll struct{ file.File }

func (openToAll) Lock(bool) (bool, error) { return true, nil }

// TestUnfitDisks: opening reports what a file system cannot do.
func TestUnfitDisks(t *testing.T) {
	for says, c := range map[string]struct {
		disk unfit
		want error
	}{
		"(link)":        {unfit{link: syscall.EPERM}, file.ErrUnfit},
		"refuse a name": {unfit{twice: true}, file.ErrUnfit},
		"does not exclude other processes (flock)": {unfit{unlocked: true}, file.ErrUnfit},
		"read-only":              {unfit{create: syscall.EROFS}, file.ErrUnfit},
		"may not read and write": {unfit{create: syscall.EACCES}, store.ErrDenied},
		"the disk is full":       {unfit{create: syscall.ENOSPC}, store.ErrThrottled},
		"synced":                 {unfit{dir: syscall.EINVAL}, store.ErrUnavailable},
	} {
		c.disk.Process = diskfault.New(1).Process()
		_, err := file.Open(t.Context(), file.Options{Dir: "/db", Create: true, Disk: c.disk})
		if !errors.Is(err, c.want) || says != "synced" && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestFoldersThatAreRefused: one that holds something else, lies inside a store, or is not a folder.
func TestFoldersThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir+"/db")
	if err := os.WriteFile(dir+"/other", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		dir: "contains other files", dir + "/db/below": "inside another store", dir + "/other": "not a folder", "relative": "absolute", "/": "absolute", dir + "/x/": "absolute",
	} {
		if _, err := file.Open(t.Context(), file.Options{Dir: path, Create: true}); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", path, err, says)
		}
	}
	if _, err := file.Open(t.Context(), file.Options{Dir: dir + "/none"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("not there: %v", err)
	}
	if _, err := os.Stat(dir + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("looking made a folder")
	}
}
