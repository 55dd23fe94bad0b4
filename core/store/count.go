package store

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
)

// Ops counts operations as the store bills them, and the bytes of bodies.
// Source: cloud.google.com/storage/pricing, read November 2026: class A is put, copy and list, class B is get, delete is free.
type Ops struct {
	ClassA    int64 // puts, copies, and pages of lists
	ClassB    int64 // gets, whole or ranged
	Delete    int64
	BytesUp   int64 // bytes of bodies given to Put, whether or not it succeeded
	BytesDown int64 // bytes of bodies returned
}

// Counted is a Store that counts the operations on it. Operations are counted when they begin, failed ones too; an
// implementation's own retries are not seen here. It is safe for concurrent use.
type Counted struct {
	s                                           Store
	classA, classB, deletes, bytesUp, bytesDown atomic.Int64
}

// Count returns a counting view of s.
func Count(s Store) *Counted { return &Counted{s: s} }

// Ops returns the counts so far.
func (c *Counted) Ops() Ops {
	return Ops{
		ClassA:    c.classA.Load(),
		ClassB:    c.classB.Load(),
		Delete:    c.deletes.Load(),
		BytesUp:   c.bytesUp.Load(),
		BytesDown: c.bytesDown.Load(),
	}
}

// Get implements Store.
func (c *Counted) Get(ctx context.Context, key string) (Object, error) {
	c.classB.Add(1)
	o, err := c.s.Get(ctx, key)
	c.bytesDown.Add(int64(len(o.Body)))
	return o, err
}

// GetRange implements RangeGetter. Over a store that is not a RangeGetter it reads, and counts, the whole object.
func (c *Counted) GetRange(ctx context.Context, key string, offset, length int64) (Object, error) {
	if r, ok := c.s.(RangeGetter); ok {
		c.classB.Add(1)
		o, err := r.GetRange(ctx, key, offset, length)
		c.bytesDown.Add(int64(len(o.Body)))
		return o, err
	}
	if err := CheckRange(key, offset, length); err != nil {
		return Object{}, &OpError{Op: "get", Key: key, Err: err}
	}
	o, err := c.Get(ctx, key)
	size := int64(len(o.Body))
	start := min(offset, size)
	o.Body = o.Body[start : start+min(length, size-start)]
	return o, err
}

// Put implements Store.
func (c *Counted) Put(ctx context.Context, key string, body []byte, writeID string, cond Cond) (Gen, error) {
	c.classA.Add(1)
	c.bytesUp.Add(int64(len(body)))
	return c.s.Put(ctx, key, body, writeID, cond)
}

// View implements Viewed.
func (c *Counted) View(key string) (Store, string) { return c.s, key }

// CopyFrom implements Copier. A copy counts as one operation of class A and no bytes.
func (c *Counted) CopyFrom(ctx context.Context, key string, from Store, source, writeID string) (Attrs, error) {
	copier, ok := c.s.(Copier)
	if !ok {
		return Attrs{}, elsewhere(key)
	}
	a, err := copier.CopyFrom(ctx, key, from, source, writeID)
	if !errors.Is(err, ErrElsewhere) {
		c.classA.Add(1)
	}
	return a, err
}

// Delete implements Store.
func (c *Counted) Delete(ctx context.Context, key string) error {
	c.deletes.Add(1)
	return c.s.Delete(ctx, key)
}

// List implements Store. One request is counted for each PageSize objects begun, and one for an empty list.
func (c *Counted) List(ctx context.Context, prefix, after string) iter.Seq2[Attrs, error] {
	return func(yield func(Attrs, error) bool) {
		c.classA.Add(1)
		n := 0
		for a, err := range c.s.List(ctx, prefix, after) {
			if n > 0 && n%PageSize == 0 {
				c.classA.Add(1)
			}
			n++
			if !yield(a, err) {
				return
			}
		}
	}
}
