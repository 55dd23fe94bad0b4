package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/point"
)

// cache keeps the in-memory part of a database's files within Options.Cache. Pages that a published layer holds are evicted when they have
// not been read for long, and fetched again when PostgreSQL reads them. Pages that no layer holds stay; when they fill a quarter of the
// cache, a layer is due.
//
//	opening ──► files other than tables and indexes, the boot set ──► first rows ──► then the rest, if it fits, while nothing waits for pages
//	          PostgreSQL reads ──► not in memory: fetched (base.Pages) ──► poke ──► evict, under the cluster's lock
//	          PostgreSQL writes ──► poke ──► evict, or a layer ──► what it holds may be evicted; a process that writes much waits
//
// What follows the first rows is in hydrate.go.
//
// A nil cache means that everything is read when the database is opened, and stays in memory.
type cache struct {
	e       *Engine
	due     func() // called when it is crowded
	budget  int64
	pages   *base.Pages
	wake    chan struct{}
	begun   atomic.Int64 // statements begun, until firstStatements
	first   atomic.Int64 // bytes of pages fetched until the first rows were there; 0: they are not yet
	written atomic.Int64 // bytes written since unsettled was counted
	recount atomic.Bool  // a layer was taken since unsettled was counted
	counted atomic.Int64 // when unsettled was counted, by the monotonic clock, in nanoseconds
	crowded atomic.Bool  // pages that no layer holds fill a quarter of the cache

	resident, away, evicted, unsettled atomic.Int64 // bytes, as of the last step
	tempMemory, tempDisk               atomic.Int64 // bytes, as of the last step

	room    chan struct{} // under the cluster's lock; see full
	gaveWay int64         // how many waits had begun when hydration last looked; owned by hydrate

	mu     sync.Mutex
	boot   []int64 // the boot set of this life: addresses of what was read first
	before int64   // frames that were waited for before PostgreSQL started
	missed int64   // frames of the boot set that PostgreSQL waited for; 0 once a layer was published
}

const (
	// eagerBytes is the size up to which a database is read whole when it is opened, as that takes no more requests.
	eagerBytes = 96 << 20
	// LeastCache is the least that Options.Cache may be, in bytes: PostgreSQL's own files, and room for running statements.
	LeastCache = 48 << 20

	// Processes that write are stopped when memory is fullFrom sixteenths over the budget and a layer would help, until it is at most
	// fullTo sixteenths over.
	fullFrom, fullTo = 8, 4
	crowdedLook      = 200 * time.Millisecond // between two looks while a layer is awaited
	countEvery       = time.Second            // between two counts of unsettled while PostgreSQL writes and there is room

	settleTurn = time.Millisecond // how long the cluster's lock is held at a time
	evictSteps = 256 << 10        // chunks to look at per hold of the lock
	wakeBytes  = 1 << 20          // bytes written before memory is looked at again
	bootBytes  = 32 << 20         // uncompressed size of a boot set
	// The boot set is what PostgreSQL reads in its first firstStatements statements, within firstRows after its start.
	firstStatements = 8
	firstRows       = 2 * time.Second
	// bootMissed: a life whose first rows waited for this many frames makes a boot set if there is none, even though no layer is due.
	bootMissed = 2
)

// newCache makes the cache for Options.Cache; zero: nil. It calls due when pages that no layer holds fill too much of it.
func newCache(e *Engine, due func()) (*cache, error) {
	if e.o.Cache == 0 {
		return nil, nil
	}
	c := &cache{e: e, due: due, budget: e.o.Cache, wake: make(chan struct{}, 1)}
	var err error
	c.pages, err = base.NewPages(e.o.Store, base.PagesOptions{KeepBytes: e.o.keepBytes(), Clock: e.o.Clock, Fetched: func(int64) { c.poke() }})
	return c, err
}

// keepBytes is how many bytes of fetched pages are kept for their next use.
func (o *Options) keepBytes() int64 { return min(base.DefaultKeepBytes, o.Cache/4) }

// prefetch is pglite.ClusterOptions.Prefetch: as many pages as there is room for when each lies in another frame.
func (o *Options) prefetch() int {
	const least, most = 16, 256
	if o.Cache == 0 {
		return 0
	}
	return int(min(max(o.keepBytes()/2/base.DefaultFrameBytes, least), most))
}

// CacheStats says how much of a database's files is in memory, in bytes, as of the last look. Without Options.Cache all values are zero.
type CacheStats struct {
	Budget    int64 // Options.Cache
	Resident  int64 // in memory
	Away      int64 // only in the bucket
	Evicted   int64 // dropped from memory since the opening
	Unsettled int64 // in memory and in no layer: what the next layer uploads. Counted once a second while something is written
	// Temporary files of queries: in memory, where they are part of Resident, and on Options.TempDir.
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

// poke wakes run to look at memory.
func (c *cache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// wrote reports how many bytes PostgreSQL writes.
func (c *cache) wrote(n int) {
	if c != nil && c.written.Add(int64(n))%wakeBytes < int64(n) {
		c.poke()
	}
}

// isCrowded says whether a layer is due because pages must be evicted.
func (c *cache) isCrowded() bool { return c != nil && c.crowded.Load() }

// full returns a channel that closes when there is room for writes again; nil: there is room. It is called under the cluster's lock.
func (c *cache) full() <-chan struct{} {
	if c == nil || c.room == nil {
		return nil
	}
	return c.room
}

// holdWriters decides whether writers must stop. It is called under the cluster's lock.
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

// wait waits until there is something to look at; false: ctx has ended. While a layer is awaited, it returns every crowdedLook: the
// processes that would wake it may be waiting for that layer, which may have failed. After a write it returns so that the write is counted.
func (c *cache) wait(ctx context.Context) bool {
	var later <-chan time.Time
	if crowded := c.isCrowded(); crowded || c.written.Load() > 0 {
		next := crowdedLook
		if !crowded {
			next = countEvery
		}
		t := c.e.o.Clock.NewTimer(next)
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

// step evicts some pages if there are too many. It says whether there is more to do right away.
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
		if more = over && freed > 0; !more && (over || c.mustCount()) {
			c.written.Store(0)
			c.recount.Store(false)
			c.counted.Store(int64(c.e.o.Clock.Monotonic()))
			c.unsettled.Store(data.UnsettledBytes(pglite.KeepResident)) // a layer would free exactly these pages
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

// mustCount says whether unsettled must be counted even though there is room. Counting looks at every page in memory.
func (c *cache) mustCount() bool {
	n := c.written.Load()
	return n > c.budget/16 || c.recount.Load() || n > 0 && int64(c.e.o.Clock.Monotonic())-c.counted.Load() >= int64(countEvery)
}

// settle tells the files that their pages are in a published layer: whatever was not written since its cut may be evicted. After an error,
// files may still refer to pages in older layers, so these must stay.
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
	for len(files) > 0 && failed == nil { // in pieces, so that statements do not wait for all of a large database
		err := c.e.server.locked(func(cluster *pglite.Cluster) {
			for began := c.e.o.Clock.Monotonic(); len(files) > 0 && c.e.o.Clock.Monotonic()-began < settleTurn; files = files[1:] {
				err := cluster.Data().Settle(files[0].ino, at, files[0].origin)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					failed = errors.Join(failed, err)
				}
			}
		})
		failed = errors.Join(failed, err) // PostgreSQL has crashed: the files are as before, and are read again once it has restarted
	}
	if failed != nil {
		return fmt.Errorf("record where the pages of layer %s are: %w", l.Key(), failed)
	}
	c.pages.Forget(l)
	c.crowded.Store(false)
	c.recount.Store(true)
	c.poke()
	return c.e.o.Hook.Fire(ctx, point.CacheAfterSettle)
}

// starts notes that PostgreSQL starts: from now on a cold start waits for its reads.
func (c *cache) starts() {
	if c != nil {
		c.mu.Lock()
		c.before = c.pages.Counts().Waited
		c.mu.Unlock()
	}
}

// learnt says whether this life knows a boot set that would have spared it waits, and that no layer holds yet.
func (c *cache) learnt() bool {
	if c == nil {
		return false
	}
	c.bootSet()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missed >= bootMissed
}

// published notes that a layer named by the manifest holds the boot set: from now on each layer takes it from the one before.
func (c *cache) published() {
	if c != nil {
		c.mu.Lock()
		c.boot, c.missed = nil, 0
		c.mu.Unlock()
	}
}

// statement notes that a statement begins.
func (c *cache) statement() {
	if c != nil && c.begun.Load() <= firstStatements && c.begun.Add(1) == firstStatements+1 {
		c.bootSet()
	}
}

// firstBytes is how many bytes of pages were fetched until the first rows were there; until then, how many so far.
func (c *cache) firstBytes() int64 {
	if c == nil {
		return 0
	}
	if n := c.first.Load(); n != 0 {
		return n
	}
	return c.pages.Counts().Bytes
}

// bootSet returns the boot set: what was read until the first rows were there; nil: everything was in memory.
func (c *cache) bootSet() []int64 {
	c.first.CompareAndSwap(0, c.pages.Counts().Bytes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if noted := c.pages.Noted(); len(noted) > 0 {
		c.boot = noted[:min(len(noted), bootBytes/base.DefaultFrameBytes)]
		c.missed = c.pages.Counts().Waited - c.before
	}
	return c.boot
}
