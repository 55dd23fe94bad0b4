// Package gc deletes what is no longer reachable: records below the manifest's wal_start, layers that the manifest does not
// name, page segments that none of its layers needs, parts that no record names.
//
//	stats, err := gc.Collect(ctx, gc.Options{Store: st, Epoch: 7, Writer: "host-3"})
//
// Only the current writer collects: the manifest must have the collector's own epoch. Usually the opening has put it
// there; otherwise Collect swaps the manifest first. From then on no older writer can publish a layer whose objects are
// about to be deleted. Fences are never deleted: a writer that was stalled, for however long, finds one at exactly the
// name that it writes next.
//
// The manifest and the records decide what is alive, not the metadata of objects, so a prefix that was copied without
// metadata loses nothing. Only names of exactly the form that this program makes are deleted: everything else below the
// prefix, even another database, stays.
//
// The manifest keeps earlier states (manifest.Options.Retain): it continues to name their layers, and records from
// wal_start on stay.
//
// Layers share segments, even layers of different writers. A segment is deleted if its epoch is not above the caller's
// and no layer in the manifest just read needs it. That is safe: a later writer swaps the manifest before it uses a
// layer, and shares only with layers that it found there. Its swap came after our reading, and until then only the
// caller, which does one thing at a time, could publish. Indexes are deleted before segments, so a layer that has an
// index is complete.
//
// Survives: a crash at any point; the next collection deletes the rest. Nothing that the manifest names is ever deleted,
// so the database can always be restored.
package gc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Options of Collect.
type Options struct {
	Store  store.Store
	Epoch  uint64 // the caller's own, from its fence
	Writer string // as in the manifest
	// From is a record number below which earlier collections have left nothing but fences; 0: unknown.
	From uint64
	// Recent limits the search for records to the newest part of what is collected; one epoch in fullEvery searches
	// everywhere. Fences stay forever, one per cold start, and listing all of them at each collection would cost more
	// every month. Older records remain only if a writer died between its layer and the end of its collection.
	Recent bool
	// IsData reports whether a record is known not to be a fence, because the caller wrote it itself. Nil: none is known.
	IsData func(seq uint64) bool
	// Learnt is what earlier collections of this writer have read of the log and need not reread. Nil: nothing.
	Learnt *Learnt
	// Needs returns the segments that a layer needs. Nil: its index is read.
	Needs func(ctx context.Context, layer string) ([]string, error)
	// Parallel is how many objects are read or deleted concurrently, up to MaxParallel; 0 or 1: one after another. Above
	// 1, the hook is called from several goroutines.
	Parallel int
	Clock    clock.Clock
	Hook     point.Hook
}

// MaxParallel bounds Options.Parallel: a bucket takes about a thousand writes a second, and commits need some of these.
const MaxParallel = 8

// recentNames is how many names of the log Options.Recent covers: at most four pages of a list. One epoch in fullEvery
// covers all.
const (
	recentNames = 4 * store.PageSize
	fullEvery   = 64
)

// Stats of a collection.
type Stats struct {
	Records, Layers, Segments, Parts int    // deleted
	Fences                           int    // seen below wal_start and kept
	WalStart                         uint64 // everything below it is collected: the next collection's Options.From
}

// Collect deletes what is no longer reachable. Errors: manifest.ErrFenced (another writer has the database; nothing was
// deleted), base.ErrCorrupt (a layer is damaged: if it is the newest, nothing was deleted; if an earlier one, no page
// segment was), the store's and the hook's. After an error the next collection continues.
func Collect(ctx context.Context, o Options) (Stats, error) {
	if err := o.Hook.Fire(ctx, point.GCBeforeCollect); err != nil {
		return Stats{}, err
	}
	m, gen, err := manifest.Load(ctx, o.Store)
	if err == nil && m.Epoch != o.Epoch {
		m, _, err = manifest.Update(ctx, o.Store, manifest.Options{
			Epoch: o.Epoch, Writer: o.Writer, Seen: &manifest.Seen{Manifest: m, Gen: gen}, Clock: o.Clock, Hook: o.Hook,
		}, func(*manifest.Manifest) error { return nil })
	}
	if err != nil {
		return Stats{}, fmt.Errorf("collect: %w", err)
	}
	if o.Learnt == nil {
		o.Learnt = &Learnt{}
	}
	c := &collector{o: o, m: m, needed: map[string]bool{}, stats: Stats{WalStart: m.WalStart}}
	for _, step := range []func(context.Context) error{c.check, c.records, c.layers, c.segments, c.parts} {
		if err := step(ctx); err != nil {
			return c.stats, fmt.Errorf("collect: %w", err)
		}
	}
	if c.unread != nil {
		return c.stats, fmt.Errorf("collect: no page segment was deleted: %w", c.unread)
	}
	return c.stats, nil
}

type collector struct {
	o      Options
	m      manifest.Manifest
	needed map[string]bool // segments needed by the layers that stay
	unread error           // of earlier layers whose index cannot be read
	mu     sync.Mutex      // guards stats

	stats Stats
}

// count updates the statistics.
func (c *collector) count(change func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.stats)
}

// batch runs functions, several concurrently if Options.Parallel says so.
type batch struct {
	g   *errgroup.Group // nil: one after the other
	ctx context.Context
	err error
}

func (c *collector) batch(ctx context.Context) *batch {
	if c.o.Parallel <= 1 {
		return &batch{ctx: ctx}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(c.o.Parallel, MaxParallel))
	return &batch{g: g, ctx: ctx}
}

// do runs f, now or later. It returns false after a failure.
func (b *batch) do(f func(ctx context.Context) error) bool {
	if b.g == nil {
		if b.err == nil {
			b.err = f(b.ctx)
		}
		return b.err == nil
	}
	b.g.Go(func() error { return f(b.ctx) })
	return b.ctx.Err() == nil
}

// end waits for everything. It returns the error of a deletion, which may have caused err, the caller's own; if there is
// none, it returns err.
func (b *batch) end(err error) error {
	if b.g != nil {
		b.err = b.g.Wait()
	}
	if b.err != nil {
		return b.err
	}
	return err
}

func (c *collector) delete(ctx context.Context, key string) error {
	if err := c.o.Hook.Fire(ctx, point.GCBeforeDelete); err != nil {
		return err
	}
	if err := c.o.Store.Delete(ctx, key); err != nil {
		return err
	}
	return c.o.Hook.Fire(ctx, point.GCAfterDelete)
}

// overtaken tells damage from a newer writer that has compacted and collected since we swapped the manifest.
func (c *collector) overtaken(ctx context.Context, damage error) error {
	now, _, err := manifest.Load(ctx, c.o.Store)
	switch {
	case err != nil:
		return err
	case now.Epoch > c.o.Epoch:
		return fmt.Errorf("a newer writer may have deleted what was to stay: %w: the manifest has epoch %d (writer %q), ours is %d",
			manifest.ErrFenced, now.Epoch, now.Writer, c.o.Epoch)
	}
	return damage
}

// records deletes data records below wal_start.
func (c *collector) records(ctx context.Context) error {
	b := c.batch(ctx)
	return b.end(c.eachRecord(b))
}

func (c *collector) eachRecord(b *batch) error {
	after, from := "", c.o.From
	if from == 0 && c.o.Recent && c.o.Epoch%fullEvery != 0 && c.m.WalStart > recentNames {
		from = c.m.WalStart - recentNames
	}
	if from > 0 {
		after = wal.Key(from - 1)
	}
	for a, err := range c.o.Store.List(b.ctx, wal.Prefix(), after) {
		if err != nil {
			return err
		}
		seq, err := wal.ParseKey(a.Key)
		if err != nil {
			continue // not a record's name
		}
		if seq >= c.m.WalStart || !b.do(func(ctx context.Context) error { return c.record(ctx, a.Key, seq, a.WriteID) }) {
			return nil
		}
	}
	return nil
}

// record deletes a record, unless it is a fence.
func (c *collector) record(ctx context.Context, key string, seq uint64, writeID string) error {
	fence, err := c.isFence(ctx, seq, writeID)
	if err != nil {
		return err
	}
	if fence {
		c.count(func(s *Stats) { s.Fences++ })
		return nil
	}
	if err := c.delete(ctx, key); err != nil {
		return err
	}
	c.count(func(s *Stats) { s.Records++ })
	return nil
}

// deleteAll deletes objects.
func (c *collector) deleteAll(ctx context.Context, keys []string, counted func(*Stats)) error {
	b := c.batch(ctx)
	for _, key := range keys {
		if !b.do(func(ctx context.Context) error {
			err := c.delete(ctx, key)
			if err == nil && counted != nil {
				c.count(counted)
			}
			return err
		}) {
			break
		}
	}
	return b.end(nil)
}

// isFence reports whether a record must stay. Metadata suffices to show that it is a fence, because keeping a record does
// no harm. That it is not one, only the record itself proves, or the caller that wrote it.
func (c *collector) isFence(ctx context.Context, seq uint64, writeID string) (bool, error) {
	if strings.HasPrefix(writeID, wal.FenceID) {
		return true, nil // even a stale one, at the name of a record of ours that was collected before
	}
	if c.o.IsData != nil && c.o.IsData(seq) {
		return false, nil
	}
	o, err := c.o.Store.Get(ctx, wal.Key(seq))
	if errors.Is(err, store.ErrNotFound) {
		return true, nil // gone already
	}
	if err != nil {
		return false, err
	}
	r, err := wal.Header(o.Body)
	if err == nil {
		err = c.ours(seq, r)
	}
	return r.Kind == wal.Fence, err
}

// ours checks that a record belongs to this database, and that its number matches its name.
func (c *collector) ours(seq uint64, r wal.Record) error {
	switch {
	case r.DatabaseID != c.m.DatabaseID:
		return fmt.Errorf("record %d: %w: %s, this is %s; it was not deleted", seq, wal.ErrForeign, r.DatabaseID, c.m.DatabaseID)
	case r.Seq != seq:
		return fmt.Errorf("record %d: %w: the object holds record %d", seq, wal.ErrCorrupt, r.Seq)
	}
	return nil
}
