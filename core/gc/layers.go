package gc

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
)

// check makes sure that what the manifest names exists, before anything that it replaces is deleted, and finds out which
// segments are needed. If the index of an earlier layer is damaged or gone, that is unknown: no segment is deleted then,
// but everything else is.
func (c *collector) check(ctx context.Context) error {
	needs := make(map[string][]string, len(c.m.Layers))
	for i, l := range c.m.Layers {
		segments, err := c.needs(ctx, l)
		if errors.Is(err, store.ErrNotFound) {
			err = c.missing(ctx, l)
		}
		if errors.Is(err, base.ErrCorrupt) && i < len(c.m.Layers)-1 {
			c.unread = errors.Join(c.unread, err)
			continue
		}
		if err != nil {
			return err
		}
		needs[l.Key] = segments
		for _, key := range segments {
			c.needed[key] = true
		}
	}
	c.o.Learnt.needs = needs
	return nil
}

// needs returns the segments that an existing layer needs.
func (c *collector) needs(ctx context.Context, layer manifest.Layer) ([]string, error) {
	if segments, known := c.o.Learnt.needs[layer.Key]; known {
		return segments, c.there(ctx, base.IndexKey(layer.Key))
	}
	if c.o.Needs != nil {
		return c.o.Needs(ctx, layer.Key)
	}
	l, err := base.ReadIndex(ctx, c.o.Store, layer.Key, base.Expected(c.m, layer))
	if err != nil {
		return nil, err
	}
	return l.Segments(), nil
}

// there returns store.ErrNotFound if there is no such object.
func (c *collector) there(ctx context.Context, key string) error {
	if r, ok := c.o.Store.(store.RangeGetter); ok {
		_, err := r.GetRange(ctx, key, 0, 1)
		return err
	}
	_, err := c.o.Store.Get(ctx, key)
	return err
}

// missing returns the error for a missing layer.
func (c *collector) missing(ctx context.Context, l manifest.Layer) error {
	return c.overtaken(ctx, fmt.Errorf("layer %q: %w: the manifest names it, but its index does not exist", l.Key, base.ErrCorrupt))
}

// layers deletes layers that the manifest does not name and whose epoch is not above ours.
func (c *collector) layers(ctx context.Context) error {
	keep := map[string]bool{}
	for _, l := range c.m.Layers {
		keep[l.Key] = true
	}
	var indexes, parts []string // indexes first: a layer without one does not exist
	for a, err := range c.o.Store.List(ctx, base.Prefix(), "") {
		if err != nil {
			return err
		}
		o, ok := base.ParseObject(a.Key)
		if !ok || keep[o.Layer] || o.Epoch > c.o.Epoch {
			continue
		}
		if o.Index {
			indexes = append(indexes, a.Key)
		} else {
			parts = append(parts, a.Key)
		}
	}
	if err := c.deleteAll(ctx, indexes, func(s *Stats) { s.Layers++ }); err != nil {
		return err
	}
	return c.deleteAll(ctx, parts, nil)
}

// segments deletes the page segments that no layer of the manifest needs and whose epoch is not above ours.
func (c *collector) segments(ctx context.Context) error {
	if c.unread != nil {
		return nil
	}
	var dead []string
	for a, err := range c.o.Store.List(ctx, base.SegmentPrefix(), "") {
		if err != nil {
			return err
		}
		if o, ok := base.ParseSegment(a.Key); ok && !c.needed[a.Key] && o.Epoch <= c.o.Epoch {
			dead = append(dead, a.Key)
		}
	}
	return c.deleteAll(ctx, dead, func(s *Stats) { s.Segments++ })
}
