package memfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Source has the chunks that are away. It may be used by many goroutines at a time, for any number of trees.
type Source interface {
	// Fetch gives the chunks at addresses, at least, in any order; others that came with them may be among what it returns. The caller
	// owns the bytes: a Source that keeps some gives copies. It may take as long as it likes, asks again itself after errors that
	// pass, and returns when ctx ends. An error is final: what needed the chunks fails.
	Fetch(ctx context.Context, addresses []int64) ([]Fetched, error)
	// Ahead says that these chunks are likely to be wanted soon. It returns at once, and may do nothing.
	Ahead(addresses []int64)
}

// ReadySource is a Source that keeps some chunks in memory, those that it fetched ahead, say. Whoever needs them then need not wait.
type ReadySource interface {
	Source
	// Ready gives the chunks at addresses if it can give all of them at once, without waiting for anything; false: it cannot. The caller
	// owns the bytes, as those of Fetch.
	Ready(addresses []int64) ([]Fetched, bool)
}

// RoomySource is a Source that keeps what it fetches ahead until it is wanted.
type RoomySource interface {
	Source
	// Room is how many bytes one reader may have fetched ahead at a time.
	Room() int64
}

// Fetched is a chunk that a Source gave.
type Fetched struct {
	Address int64
	Data    *[ChunkSize]byte
}

// errNowhere means that a tree has a chunk away of which nobody knows where it is.
var errNowhere = fmt.Errorf("%w: nobody knows where a chunk is that is away", syscall.EIO)

// Get fetches missing chunks. It is called without the tree's lock: File.Fill is what puts them in place. An error matches EIO, and what
// ctx or the source said.
func Get(ctx context.Context, s Source, missing []Away) ([]Fetched, error) {
	addresses, ok := addressesOf(missing)
	if !ok || s == nil {
		return nil, errNowhere
	}
	got, err := s.Fetch(ctx, addresses)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", syscall.EIO, err)
	}
	return got, whole(addresses, got)
}

// Have is Get for what a ReadySource has in memory; false: somebody has to wait. It may be called with the tree's lock.
func Have(s Source, missing []Away) ([]Fetched, bool) {
	ready, ok := s.(ReadySource)
	if !ok {
		return nil, false
	}
	addresses, ok := addressesOf(missing)
	if !ok {
		return nil, false
	}
	got, ok := ready.Ready(addresses)
	return got, ok && whole(addresses, got) == nil
}

// addressesOf are where missing chunks are; false: one is nowhere.
func addressesOf(missing []Away) ([]int64, bool) {
	addresses := make([]int64, len(missing))
	for i, m := range missing {
		if m.Address < 0 {
			return nil, false
		}
		addresses[i] = m.Address
	}
	return addresses, true
}

// whole checks that a source has given what it was asked for.
func whole(addresses []int64, got []Fetched) error {
	have := make(map[int64]bool, len(got))
	for _, g := range got {
		have[g.Address] = g.Data != nil
	}
	for _, a := range addresses {
		if !have[a] {
			return fmt.Errorf("%w: the source did not give the chunk at %d", syscall.EIO, a)
		}
	}
	return nil
}

// Bring has all bytes of a file in memory that are away, and waits for them: the tree's owner does nothing else meanwhile. A file that is
// not there is no error. Errors are those of Open and Get.
func (f *FS) Bring(ctx context.Context, s Source, path string) error {
	file, err := f.Open(path, os.O_RDONLY, 0)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	missing := file.Missing(0, file.in.size)
	if len(missing) == 0 {
		return nil
	}
	got, err := Get(ctx, s, missing)
	if err != nil {
		return pathError("bring", path, err)
	}
	file.Fill(missing, got)
	return nil
}
