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

// cache keeps the part of a database's files that is in memory within Options.Cache. Pages that a published layer has are evicted when they
// have not been read for long, and fetched again when PostgreSQL reads them. Pages that no layer has stay; when they fill a quarter of the
// cache, a layer is due.
//
//	opening ──► files outside of tables and indexes, the boot set ──► first rows ──► then the rest, if it fits, while nobody waits for pages
//	          PostgreSQL reads ──► not there: fetched (base.Pages) ──► poke ──► evict, under the cluster's lock
//	          PostgreSQL writes ──► poke ──► evict, or a layer ──► what it holds may be evicted; a process that writes much waits
//
// What comes behind the first rows is in hydrate.go.
//
// A nil cache: everything is read when the database is opened, and stays in memory.
type cache struct {
	e       *Engine
	due     func() // called when it is crowded
	budget  int64
	pages   *base.Pages
	wake    chan struct{}
	begun   atomic.Int64 // statements, until firstStatements
	first   atomic.Int64 // bytes of pages that were fetched until the first rows were there; 0: they are not
	written atomic.Int64 // bytes, since unsettled was counted
	recount atomic.Bool  // a layer was taken since
	counted atomic.Int64 // when, by the monotonic clock, in nanoseconds
	crowded atomic.Bool  // pages that no layer has fill a quarter

	resident, away, evicted, unsettled atomic.Int64 // bytes, as of the last step
	tempMemory, tempDisk               atomic.Int64 // bytes, as of the last step

	room    chan struct{} // under the cluster's lock; see full
	gaveWay int64         // how many waits had begun when hydration looked last; owned by hydrate

	mu     sync.Mutex
	boot   []int64 // the boot set of this life: addresses of what was read first
	before int64   // frames that were waited for before PostgreSQL was started
	missed int64   // of the boot set, frames that PostgreSQL waited for; since a layer was published: 0
}

const (
	// eagerBytes: a database of up to so many bytes is read as a whole when it is opened, as that takes no more requests.
	eagerBytes = 96 << 20
	// LeastCache is the least that Options.Cache may be, in bytes: PostgreSQL's own files, and room for running statements.
	LeastCache = 48 << 20

	// Processes that write are stopped when memory is fullFrom sixteenths over the budget and a layer would help, until it is no more than
	// fullTo sixteenths over it.
	fullFrom, fullTo = 8, 4
	crowdedLook      = 200 * time.Millisecond // between two looks while a layer is awaited
	countEvery       = time.Second            // between two counts of unsettled while something is written and there is room

	settleTurn = time.Millisecond // how long the cluster's lock is held at a time
	evictSteps = 256 << 10        // chunks looked at while the lock is held
	wakeBytes  = 1 << 20          // written before memory is looked at again
	bootBytes  = 32 << 20         // of a boot set, uncompressed
	// The boot set is what PostgreSQL reads in its first statements, within this time after its start.
	firstStatements = 8
	firstRows       = 2 * time.Second
	// bootMissed: a life whose first rows waited for so many frames makes a boot set where there is none, though no layer is due.
	bootMissed = 2
)

// newCache makes the cache that Options.Cache asks for; zero: nil. due is called when pages that no layer has fill too much of it.
func newCache(e *Engine, due func()) (*cache, error) {
	if e.o.Cache == 0 {
		return nil, nil
	}
	c := &cache{e: e, due: due, budget: e.o.Cache, wake: make(chan struct{}, 1)}
	var err error
	c.pages, err = base.NewPages(e.o.Store, base.PagesOptions{KeepBytes: e.o.keepBytes(), Clock: e.o.Clock, Fetched: func(int64) { c.poke() }})
	return c, err
}

// keepBytes is how many bytes of fetched pages are kept for the next use.
func (o *Options) keepBytes() int64 { return min(base.DefaultKeepBytes, o.Cache/4) }

// prefetch is pglite.ClusterOptions.Prefetch: as many pages as there is room for, if each is in another frame.
func (o *Options) prefetch() int {
	const least, most = 16, 256
	if o.Cache == 0 {
		return 0
	}
	return int(min(max(o.keepBytes()/2/base.DefaultFrameBytes, least), most))
}

// CacheStats say how much of a database's files is in memory, in bytes, as of the last look. Without Options.Cache all are zero.
type CacheStats struct {
	Budget    int64 // Options.Cache
	Resident  int64 // in memory
	Away      int64 // in the bucket only
	Evicted   int64 // dropped from memory since the opening
	Unsettled int64 // in memory and in no layer: what the next layer uploads. Counted once a second while something is written
	// Temporary files of queries: in memory, which is part of Resident, and on Options.TempDir.
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

// poke wakes run, to look at what is in memory.
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

// isCrowded says whether a layer is due so that pages can be evicted.
func (c *cache) isCrowded() bool { return c != nil && c.crowded.Load() }

// full returns a channel that is closed when there is room for writes again; nil: there is room. It is called under the cluster's lock.
func (c *cache) full() <-chan struct{} {
	if c == nil || c.room == nil {
		return nil
	}
	return c.room
}

// holdWriters decides whether writers have to stop. It is called under the cluster's lock.
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

// wait waits until there is something to look at; false: ctx has ended. While a layer is awaited, it returns every crowdedLook: those that
// would wake it may be waiting for that layer, which may have failed. After something was written, it returns so that that is counted.
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

// step evicts some pages, if there are too many. It says whether there is more to do at once.
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
			c.unsettled.Store(data.UnsettledBytes(pglite.KeepResident)) // a layer would free no other pages
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

// mustCount says whether unsettled has to be counted though there is room: it looks at every page in memory.
func (c *cache) mustCount() bool {
	n := c.written.Load()
	return n > c.budget/16 || c.recount.Load() || n > 0 && int64(c.e.o.Clock.Monotonic())-c.counted.Load() >= int64(countEvery)
}

// settle tells the files that their pages are in a layer that was published: what was not written since its cut may be evicted. After an
// error, files may still refer to pages in older layers, so that these must stay.
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
	c.recount.Store(true)
	c.poke()
	return c.e.o.Hook.Fire(ctx, point.CacheAfterSettle)
}

// starts notes that PostgreSQL is started: from now on its reads are what a cold start waits for.
func (c *cache) starts() {
	if c != nil {
		c.mu.Lock()
		c.before = c.pages.Counts().Waited
		c.mu.Unlock()
	}
}

// learnt says whether this life knows a boot set that would have spared it waits, and no layer has it yet.
func (c *cache) learnt() bool {
	if c == nil {
		return false
	}
	c.bootSet()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.missed >= bootMissed
}

// published notes that a layer that the manifest names holds the boot set: from now on each layer takes it from the one before.
func (c *cache) published() {
	if c != nil {
		c.mu.Lock()
		c.boot, c.missed = nil, 0
		c.mu.Unlock()
	}
}

// statement is told of each statement.
func (c *cache) statement() {
	if c != nil && c.begun.Load() <= firstStatements && c.begun.Add(1) == firstStatements+1 {
		c.bootSet()
	}
}

// firstBytes is how many bytes of pages were fetched until the first rows were there; until then, so far.
func (c *cache) firstBytes() int64 {
	if c == nil {
		return 0
	}
	if n := c.first.Load(); n != 0 {
		return n
	}
	return c.pages.Counts().Bytes
}

// bootSet returns the boot set, what was read until the first rows were there; nil: nothing that was not in memory.
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
