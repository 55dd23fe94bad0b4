package file

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"syscall"

	"blobpglite/core/store"
)

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Object{}, s.failed("get", key, err)
	}
	o, err := s.read(ctx, key, func(h header) (int64, int64) { return 0, h.attrs.Size })
	if err != nil {
		return store.Object{}, s.failed("get", key, err)
	}
	return o, nil
}

// GetRange implements store.RangeGetter. A range is not covered by the object's checksum.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (store.Object, error) {
	if err := store.CheckRange(key, offset, length); err != nil {
		return store.Object{}, s.failed("get", key, err)
	}
	o, err := s.read(ctx, key, func(h header) (int64, int64) {
		start := min(offset, h.attrs.Size)
		return start, min(length, h.attrs.Size-start)
	})
	if err != nil {
		return store.Object{}, s.failed("get", key, err)
	}
	return o, nil
}

// read opens the object under the lock, and reads the bytes that which selects after releasing it: an object's file
// never changes.
func (s *Store) read(ctx context.Context, key string, which func(header) (offset, length int64)) (o store.Object, err error) {
	var f File
	if err := s.shared(ctx, func() (err error) {
		f, err = s.disk.Open(path(key))
		return err
	}); err != nil {
		return store.Object{}, err
	}
	defer func() { _ = f.Close() }() // it is only read
	h, err := readHeader(f)
	if err == nil {
		err = owns(h, key)
	}
	if err != nil {
		return store.Object{}, err
	}
	offset, length := which(h)
	body := make([]byte, length)
	if n, err := f.ReadAt(body, h.bytes()+offset); n < len(body) {
		return store.Object{}, err
	}
	if length == h.attrs.Size && crc32.Checksum(body, castagnoli) != h.crc {
		return store.Object{}, fmt.Errorf("%w: the body does not match its CRC32C", store.ErrCorrupt)
	}
	return store.Object{Attrs: h.attrs, Body: body}, nil
}

// owns checks that a file found by its name is the requested object.
func owns(h header, key string) error {
	if h.attrs.Key != key {
		return fmt.Errorf("%w: the file with this object's name says that it holds %q", store.ErrCorrupt, h.attrs.Key)
	}
	return nil
}

// stat reads an object's attributes; the caller holds the lock. Absent: fs.ErrNotExist, with generation 0.
func (s *Store) stat(key string) (store.Attrs, error) {
	h, err := s.head(path(key))
	if err == nil {
		err = owns(h, key)
	}
	if err != nil {
		return store.Attrs{}, err
	}
	return h.attrs, nil
}

func (s *Store) head(file string) (header, error) {
	f, err := s.disk.Open(file)
	if err != nil {
		return header{}, err
	}
	defer func() { _ = f.Close() }() // it is only read
	return readHeader(f)
}

// List implements store.Store: the names are a consistent snapshot, the attributes are those of each object's newest
// version.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[store.Attrs, error] {
	return func(yield func(store.Attrs, error) bool) {
		if err := store.CheckList(prefix, after); err != nil {
			yield(store.Attrs{}, s.failed("list", prefix, err))
			return
		}
		keys, err := s.keys(ctx, prefix, after)
		if err != nil {
			yield(store.Attrs{}, s.failed("list", prefix, err))
			return
		}
		for page := range slices.Chunk(keys, store.PageSize) {
			var all []store.Attrs
			err := s.shared(ctx, func() error {
				all, err = s.statAll(page)
				return err
			})
			for _, a := range all {
				if !yield(a, nil) {
					return
				}
			}
			if err != nil {
				yield(store.Attrs{}, s.failed("list", prefix, err))
				return
			}
		}
	}
}

// statAll reads the attributes of those keys that still exist.
func (s *Store) statAll(keys []string) (all []store.Attrs, err error) {
	for _, key := range keys {
		a, err := s.stat(key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return all, fmt.Errorf("object %q: %w", key, err)
		default:
			all = append(all, a)
		}
	}
	return all, nil
}

// keys returns the keys that begin with prefix and come after after, in order.
func (s *Store) keys(ctx context.Context, prefix, after string) (keys []string, err error) {
	err = s.shared(ctx, func() error {
		names, err := s.disk.ReadDir(objectsDir)
		if err != nil {
			return err
		}
		for _, name := range names {
			key, long, ok := keyOf(name)
			if ok && long {
				h, err := s.head(objectsDir + "/" + name)
				if err != nil {
					return fmt.Errorf("file %q: %w", name, err)
				}
				key = h.attrs.Key
			}
			if ok && strings.HasPrefix(key, prefix) && (after == "" || key > after) {
				keys = append(keys, key)
			}
		}
		return nil
	})
	slices.Sort(keys)
	return keys, err
}

// errBusy: another process has the lock.
var errBusy = errors.New("another process has held the store's lock for too long: check whether a process that uses this folder is suspended")

// classed wraps an error of the file system in the sentinel that says what to do about it.
func classed(err error) error {
	for _, known := range []error{
		store.ErrNotFound, store.ErrConflict, store.ErrUnknown, store.ErrThrottled, store.ErrUnavailable, store.ErrCorrupt,
		store.ErrDenied, store.ErrInvalid, ErrUnfit, context.Canceled, context.DeadlineExceeded,
	} {
		if err == nil || errors.Is(err, known) {
			return err
		}
	}
	switch {
	case errors.Is(err, errBusy):
		return fmt.Errorf("%w: %w", store.ErrThrottled, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: the disk is full: make room: %w", store.ErrThrottled, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w: it is mounted read-only, but even readers must take a lock in it: %w", store.ErrDenied, ErrUnfit, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: this user may not read and write in it: %w", store.ErrDenied, err)
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

func (s *Store) url(key string) string { return s.String() + "/" + key }

// failed returns the error of an operation.
func (s *Store) failed(op, key string, err error) error {
	if op == "get" && errors.Is(err, fs.ErrNotExist) {
		err = store.ErrNotFound
	}
	if errors.Is(err, errBusy) && (op == "get" || op == "list") {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return &store.OpError{Op: op, Key: s.url(key), Err: classed(err)}
}
