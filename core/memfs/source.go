package memfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Source fetches chunks that are away. It is safe for concurrent use, and for any number of trees.
type Source interface {
	// Fetch returns the chunks at addresses, in any order, and perhaps others that came with them. The caller owns the bytes: a Source that
	// keeps some returns copies. It may take long, retries transient errors itself, and returns when ctx ends. An error is final: the
	// operation that needed the chunks fails.
	Fetch(ctx context.Context, addresses []int64) ([]Fetched, error)
	// Ahead announces that these chunks will probably be needed soon. It returns immediately, and may do nothing.
	Ahead(addresses []int64)
}

// ReadySource is a Source that keeps some chunks in memory, such as those fetched ahead, and can return them without waiting.
type ReadySource interface {
	Source
	// Ready returns the chunks at addresses if all of them are in memory; false: they are not. It does not wait. The caller owns the bytes,
	// as with Fetch.
	Ready(addresses []int64) ([]Fetched, bool)
}

// RoomySource is a Source that keeps what it fetches ahead until it is needed.
type RoomySource interface {
	Source
	// Room returns how many bytes may be fetched ahead for one reader at a time.
	Room() int64
}

// Fetched is a chunk that a Source returned.
type Fetched struct {
	Address int64
	Data    *[ChunkSize]byte
}

// errNowhere: a chunk is away, and its file's origin does not have it.
var errNowhere = fmt.Errorf("%w: a chunk is away, and its place is unknown", syscall.EIO)

// Get fetches missing chunks, for File.Fill. Call it without the tree's lock. Errors wrap EIO and the source's or the context's error.
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

// Have is Get for chunks that a ReadySource has in memory; false: they are not, call Get. It does not wait, so it may be called with the
// tree's lock.
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

// addressesOf returns the addresses of missing chunks; false: one has none.
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

// whole checks that a source returned all requested chunks.
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

// Bring fetches all away chunks of a file, and waits for them; the tree must not be used during the call. A missing file is not an error.
// Errors: those of Open and Get.
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
