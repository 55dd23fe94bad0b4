package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// Learnt remembers what collections have read that can no longer change: about records of earlier epochs, and about
// layers. It belongs to one writer, and to one collection at a time. The zero value is ready to use.
type Learnt struct {
	upTo  uint64 // records of epochs up to this one have been read
	named map[group]uint64
	needs map[string][]string // segments, of each layer that the last manifest named
}

// Layer notes the segments of a layer that the writer has just taken or read, so that its index need not be read again.
func (l *Learnt) Layer(key string, segments []string) {
	if l.needs == nil {
		l.needs = map[string][]string{}
	}
	l.needs[key] = segments
}

// group holds the parts of one record.
type group struct {
	epoch   uint64
	writeID string
}

// parts deletes the parts of records that are gone or were never written. Parts of our own epoch are left to the next
// writer: some may belong to an append in flight.
func (c *collector) parts(ctx context.Context) error {
	old := map[string]group{}
	highest := uint64(0)
	for a, err := range c.o.Store.List(ctx, wal.PartsPrefix(), "") {
		if err != nil {
			return err
		}
		if epoch, id, ok := wal.ParsePartKey(a.Key); ok && epoch < c.o.Epoch {
			old[a.Key], highest = group{epoch, id}, max(highest, epoch)
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := c.learn(ctx, highest); err != nil {
		return fmt.Errorf("find out which parts are in use: %w", err)
	}
	var dead []string
	for key, g := range old {
		if seq, named := c.o.Learnt.named[g]; !named || seq < c.m.WalStart {
			dead = append(dead, key)
		}
	}
	slices.Sort(dead)
	return c.deleteAll(ctx, dead, func(s *Stats) { s.Parts++ })
}

// learn reads which parts are named by the kept records of epochs up to upTo, which is below ours: no such record can be
// added any more, because our fence follows them. A record too large to consist of parts is not read. It stops at the
// first record of a later epoch, so each writer reads this once, and about as much as its opening replayed.
func (c *collector) learn(ctx context.Context, upTo uint64) error {
	l := c.o.Learnt
	if l.upTo >= upTo {
		return nil
	}
	named, mu := map[group]uint64{}, sync.Mutex{}
	var later atomic.Bool
	b := c.batch(ctx)
	err := c.eachKept(b.ctx, func(seq uint64, size int64) bool {
		if size > wal.MaxInParts {
			return !later.Load()
		}
		return b.do(func(ctx context.Context) error {
			r, inParts, err := c.kept(ctx, seq)
			if r.Epoch > upTo {
				later.Store(true)
			}
			if err == nil && inParts {
				mu.Lock()
				defer mu.Unlock()
				named[group{r.Epoch, r.WriteID}] = seq
			}
			return err
		}) && !later.Load()
	})
	if err = b.end(err); err != nil {
		return err
	}
	l.upTo, l.named = upTo, named
	return nil
}

// eachKept lists the records from wal_start on, until each returns false. Their numbers must be consecutive: a missing
// record may have named any part, so it is an error.
func (c *collector) eachKept(ctx context.Context, each func(seq uint64, size int64) bool) error {
	next := max(c.m.WalStart, 1)
	for a, err := range c.o.Store.List(ctx, wal.Prefix(), wal.Key(next-1)) {
		if err != nil {
			return err
		}
		seq, err := wal.ParseKey(a.Key)
		if err != nil {
			continue
		}
		if seq != next {
			return c.overtaken(ctx, fmt.Errorf("record %d: %w: it is missing, although record %d exists; no parts were deleted", next, wal.ErrCorrupt, seq))
		}
		next++
		if !each(seq, a.Size) {
			return nil
		}
	}
	return nil
}

// kept reads a record that must be there.
func (c *collector) kept(ctx context.Context, seq uint64) (wal.Record, bool, error) {
	o, err := c.o.Store.Get(ctx, wal.Key(seq))
	if errors.Is(err, store.ErrNotFound) {
		err = c.overtaken(ctx, fmt.Errorf("record %d: %w: an object that was listed is gone; no parts were deleted", seq, wal.ErrCorrupt))
	}
	if err != nil {
		return wal.Record{}, false, err
	}
	r, inParts, err := wal.InParts(o.Body)
	if err == nil {
		err = c.ours(seq, r)
	}
	return r, inParts, err
}
