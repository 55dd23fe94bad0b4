package engine

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

const (
	hydrateBytes = 16 << 20              // fetched at a time after the first rows
	hydrateQuiet = 50 * time.Millisecond // how long no process may have begun to wait for pages: about a round trip, so that a scan is not interrupted
)

// readers counts PostgreSQL's processes that wait for pages. Hydration makes way for them.
type readers struct {
	mu    sync.Mutex
	begun int64         // waits so far
	n     int           // waits now
	none  chan struct{} // closed when there is none; nil: nothing waits for that
}

// readPages is the Source for PostgreSQL's processes.
type readPages struct {
	*base.Pages
	r *readers
}

// Fetch implements memfs.Source.
func (p readPages) Fetch(ctx context.Context, addresses []int64) ([]memfs.Fetched, error) {
	p.r.enter()
	defer p.r.leave()
	return p.Pages.Fetch(ctx, addresses)
}

func (r *readers) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	r.begun++
}

func (r *readers) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 && r.none != nil {
		close(r.none)
		r.none = nil
	}
}

// gone waits until no process waits, and returns how many waits have begun so far. Error: the context's.
func (r *readers) gone(ctx context.Context) (begun int64, err error) {
	r.mu.Lock()
	var none chan struct{}
	if r.n > 0 {
		if r.none == nil {
			r.none = make(chan struct{})
		}
		none = r.none
	}
	begun = r.begun
	r.mu.Unlock()
	if none == nil {
		return begun, nil
	}
	select {
	case <-none:
		return begun, nil
	case <-ctx.Done():
		return begun, ctx.Err()
	}
}

// hydrate fetches the rest of the files after the first rows, one piece after the other, as long as there is room and no PostgreSQL process
// waits for pages: all share one connection to the bucket.
func (c *cache) hydrate(ctx context.Context) {
	if c.e.o.Clock.Sleep(ctx, firstRows) != nil {
		return
	}
	c.bootSet()
	var paths []string
	_ = c.e.server.locked(func(cluster *pglite.Cluster) {
		_ = cluster.Data().Walk("/", func(path string, i memfs.Info) error {
			if i.IsRegular() && i.Away > 0 {
				paths = append(paths, path)
			}
			return nil
		})
	})
	for _, path := range paths {
		for off := int64(0); off >= 0 && c.makeWay(ctx) == nil; {
			off = c.hydratePiece(ctx, path, off)
		}
	}
}

// makeWay waits until no PostgreSQL process has begun to wait for pages for hydrateQuiet. Error: the context's.
func (c *cache) makeWay(ctx context.Context) error {
	for {
		begun, err := c.e.readers.gone(ctx)
		if err != nil || begun == c.gaveWay {
			return err
		}
		c.gaveWay = begun
		if err := c.e.o.Clock.Sleep(ctx, hydrateQuiet); err != nil {
			return err
		}
	}
}

// hydratePiece fetches a piece of a file, and returns where the next one begins; negative: there is none, or no room.
func (c *cache) hydratePiece(ctx context.Context, path string, off int64) (next int64) {
	var missing []memfs.Away
	next = -1
	with := func(use func(*memfs.FS, *memfs.File)) {
		_ = c.e.server.locked(func(cluster *pglite.Cluster) {
			data := cluster.Data()
			f, err := data.Open(path, os.O_RDONLY, 0)
			if err != nil {
				return
			}
			use(data, f)
			_ = f.Close()
		})
	}
	with(func(data *memfs.FS, f *memfs.File) {
		if data.ResidentBytes()+hydrateBytes > c.budget-c.budget/8 || off >= f.Stat().Size {
			return
		}
		missing, next = f.Missing(off, hydrateBytes), off+hydrateBytes
	})
	if len(missing) == 0 {
		return next
	}
	got, err := memfs.Get(ctx, c.pages, missing)
	if err != nil {
		moved := false // a newer layer has it elsewhere
		with(func(_ *memfs.FS, f *memfs.File) { moved = !slices.Equal(missing, f.Missing(off, hydrateBytes)) })
		if moved {
			return off
		}
		return -1
	}
	with(func(_ *memfs.FS, f *memfs.File) { f.Fill(missing, got) })
	return next
}
