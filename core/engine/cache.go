package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
)

// cache keeps what is in memory of a database's files within Options.Cache. Pages that a published layer has are turned away when they have
// not been read for long, and fetched again when PostgreSQL reads them; those that no layer has stay, and when they fill a quarter of
// it a layer is due.
//
//	opening ──► files outside of tables and indexes, the boot set ──► first rows ──► the rest, behind them, if it fits
//	          PostgreSQL reads ──► not there: fetched (base.Pages) ──► wake ──► evict, under the cluster's lock
//	          PostgreSQL writes ──► wake ──► evict, or a layer ──► what it holds may go; who writes much waits
//
// Nil: everything is read when the database is opened, and stays.
type cache struct {
	e       *Engine
	due     func() // called when it is crowded
	budget  int64
	pages   *base.Pages
	wake    chan struct{}
	begun   atomic.Int64 // statements, as long as that is of interest
	written atomic.Int64 // since unsettled was looked at
	crowded atomic.Bool  // pages that no layer has fill a quarter

	resident, away, evicted, unsettled atomic.Int64 // as of the last look
	tempMemory, tempDisk               atomic.Int64 // likewise

	room chan struct{} // under the cluster's lock; see full

	mu   sync.Mutex
	boot []int64 // what this life wanted first
}

const (
	// eagerBytes: a database that is no larger is read as a whole when it is opened, in as many requests.
	eagerBytes = 96 << 20
	// LeastCache is the least that Options.Cache may be: PostgreSQL's own files, and room for statements at work.
	LeastCache = 48 << 20

	// Who writes waits from so much over the budget on, in sixteenths of it, if a layer would help, until that is taken or it is no more than
	// that.
	fullFrom, fullTo = 8, 4
	crowdedLook      = 200 * time.Millisecond // while a layer is awaited

	settleTurn   = time.Millisecond // with the lock in hand
	evictSteps   = 256 << 10        // chunks that are looked at with the lock in hand
	wakeBytes    = 1 << 20          // written, until it is looked at what is in memory
	hydrateBytes = 16 << 20         // fetched at once behind the first rows
	bootBytes    = 32 << 20         // of a boot set, uncompressed
	// What PostgreSQL wants is what a cold start wants for so many statements, and so long after its start.
	firstStatements = 8
	firstRows       = 2 * time.Second
)

// newCache is what Options.Cache asks for; nil: nothing. due is called when pages that no layer has fill too much of it.
func newCache(e *Engine, due func()) (*cache, error) {
	if e.o.Cache == 0 {
		return nil, nil
	}
	c := &cache{e: e, due: due, budget: e.o.Cache, wake: make(chan struct{}, 1)}
	var err error
	c.pages, err = base.NewPages(e.o.Store, base.PagesOptions{KeepBytes: min(base.DefaultKeepBytes, e.o.Cache/4), Clock: e.o.Clock, Fetched: func(int64) { c.poke() }})
	return c, err
}

// CacheStats say what of a database's files is in memory, in bytes, when it was looked at last. Without Options.Cache all are zero.
type CacheStats struct {
	Budget    int64 // Options.Cache
	Resident  int64 // in memory
	Away      int64 // in the bucket only
	Evicted   int64 // turned away since the opening
	Unsettled int64 // in memory, and in no layer, when that was last counted: what the next layer uploads
	// Temporary files of queries: of Resident, and on Options.TempDir.
	TempMemory, TempDisk int64
	Pages                base.PageCounts
}

func (c *cache) stats() CacheStats {
	if c == nil {
		return CacheStats{}
	}
	return CacheStats{
		Budget: c.budget, Resident: c.resident.Load(), Away: c.away.Load(), Evicted: c.evicted.Load(), Unsettled: c.unsettled.Load(),
		TempMemory: c.tempMemory.Load(), TempDisk: c.tempDisk.Load(), Pages: c.pages.Counts(),
	}
}

// poke has it looked at what is in memory.
func (c *cache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wrote is told what PostgreSQL writes.
func (c *cache) wrote(n int) {
	if c != nil && c.written.Add(int64(n))%wakeBytes < int64(n) {
		c.poke()
	}
}

// isCrowded says whether a layer is due so that pages can be turned away.
func (c *cache) isCrowded() bool { return c != nil && c.crowded.Load() }

// full is closed when there is room again for what writers write; nil: there is. It is called under the cluster's lock.
func (c *cache) full() <-chan struct{} {
	if c == nil || c.room == nil {
		return nil
	}
	return c.room
}

// holdWriters has writers stopped, or lets them go on. It is called under the cluster's lock.
func (c *cache) holdWriters(resident int64) {
	over := resident - c.budget
	switch {
	case c.room == nil && over > c.budget/16*fullFrom && c.crowded.Load():
		c.room = make(chan struct{})
	case c.room != nil && (over <= c.budget/16*fullTo || !c.crowded.Load()):
		close(c.room)
		c.room = nil
	}
}

// run keeps the budget until ctx ends.
func (c *cache) run(ctx context.Context) {
	for c.wait(ctx) {
		for c.step(ctx) && ctx.Err() == nil {
		}
		if c.isCrowded() {
			c.due()
		}
	}
}

// wait waits until there is something to look at; false: ctx has ended. While a layer is awaited it is looked at now and then: who
// would wake it may be waiting for that layer, which may have failed.
func (c *cache) wait(ctx context.Context) bool {
	var later <-chan time.Time
	if c.isCrowded() {
		t := c.e.o.Clock.NewTimer(crowdedLook)
		defer t.Stop()
		later = t.C()
	}
	select {
	case <-c.wake:
	case <-later:
	case <-ctx.Done():
		return false
	}
	return true
}

// step turns some pages away, if there are too many. It says whether there is more to do at once.
func (c *cache) step(ctx context.Context) (more bool) {
	over := false
	if c.e.server.locked(func(cluster *pglite.Cluster) { over = cluster.Data().ResidentBytes() > c.budget }) != nil {
		return false
	}
	if over && c.e.o.Hook.Fire(ctx, point.CacheBeforeEvict) != nil {
		return false
	}
	freed := int64(0)
	err := c.e.server.locked(func(cluster *pglite.Cluster) {
		data := cluster.Data()
		if data.ResidentBytes() > c.budget {
			freed = data.Evict(memfs.Eviction{Budget: c.budget - c.budget/16, Steps: evictSteps, Keep: pglite.KeepResident})
		}
		c.evicted.Add(freed)
		over = data.ResidentBytes() > c.budget
		if more = over && freed > 0; !more && (over || c.written.Load() > c.budget/16) {
			c.written.Store(0)
			c.unsettled.Store(data.UnsettledBytes(pglite.KeepResident)) // what else there is no layer frees
			c.crowded.Store(c.unsettled.Load() > c.budget/4)
		}
		c.holdWriters(data.ResidentBytes())
		c.resident.Store(data.ResidentBytes())
		c.away.Store(data.AwayBytes())
		memory, disk := data.TemporaryBytes()
		c.tempMemory.Store(memory)
		c.tempDisk.Store(disk)
	})
	if freed > 0 && c.e.o.Hook.Fire(ctx, point.CacheAfterEvict) != nil {
		return false
	}
	return err == nil && more
}

// settle says of all files that they are where a layer has them that was published: what was not written since its cut may be turned away. An
// error means that pages may still be where older layers have them, so that these must stay.
func (c *cache) settle(ctx context.Context, l *base.Layer, at memfs.Mark) error {
	if c == nil {
		return nil
	}
	if err := c.e.o.Hook.Fire(ctx, point.CacheBeforeSettle); err != nil {
		return err
	}
	type file struct {
		ino    uint64
		origin memfs.Origin
	}
	var files []file
	for ino, origin := range l.Origins(c.pages) {
		files = append(files, file{ino, origin})
	}
	var failed error
	for len(files) > 0 && failed == nil { // in pieces: statements do not wait for all of a large database
		err := c.e.server.locked(func(cluster *pglite.Cluster) {
			for began := c.e.o.Clock.Monotonic(); len(files) > 0 && c.e.o.Clock.Monotonic()-began < settleTurn; files = files[1:] {
				err := cluster.Data().Settle(files[0].ino, at, files[0].origin)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					failed = errors.Join(failed, err)
				}
			}
		})
		failed = errors.Join(failed, err) // PostgreSQL has crashed: the files are there as before, and are read again when it has started
	}
	if failed != nil {
		return fmt.Errorf("note where the pages of layer %s are: %w", l.Key(), failed)
	}
	c.pages.Forget(l)
	c.crowded.Store(false)
	c.poke()
	return c.e.o.Hook.Fire(ctx, point.CacheAfterSettle)
}

// published has the boot set in a layer that the manifest names: from now on each layer has it of the one before.
func (c *cache) published() {
	if c != nil {
		c.mu.Lock()
		c.boot = nil
		c.mu.Unlock()
	}
}

// statement is told of each statement.
func (c *cache) statement() {
	if c != nil && c.begun.Load() <= firstStatements && c.begun.Add(1) == firstStatements+1 {
		c.bootSet()
	}
}

// bootSet is what this life wanted until its first rows were there; nil: nothing that was not in memory.
func (c *cache) bootSet() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if noted := c.pages.Noted(); len(noted) > 0 {
		c.boot = noted[:min(len(noted), bootBytes/base.DefaultFrameBytes)]
	}
	return c.boot
}

// hydrate brings the rest of the files behind the first rows, one piece after the other, as long as there is room.
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
		for off := int64(0); off >= 0 && ctx.Err() == nil; {
			off = c.hydratePiece(ctx, path, off)
		}
	}
}

// hydratePiece brings a piece of a file, and says where the next one begins; below zero: there is none, or no room.
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
