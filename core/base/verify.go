package base

import (
	"context"
	"fmt"

	"blobpglite/core/store"
)

// Verify reads a whole layer and keeps nothing: it checks the index, every frame's checksum, and that each used frame
// decompresses to what the index says. Errors: those of Read that are not about a tree; an error names the first thing that
// is wrong.
func Verify(ctx context.Context, st store.Store, key string, o ReadOptions) (*Layer, Stats, error) {
	l, stats, err := verify(ctx, st, key, o)
	if err != nil {
		return nil, Stats{}, fmt.Errorf("verify layer %q: %w", key, err)
	}
	return l, stats, nil
}

func verify(ctx context.Context, st store.Store, key string, o ReadOptions) (*Layer, Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, Stats{}, err
	}
	began := o.Clock.Monotonic()
	l, err := readIndex(ctx, st, key, o.Expect)
	if err != nil {
		return nil, Stats{}, err
	}
	r := &reader{st: st, o: o, index: l.index}
	for i := range r.index.entries {
		for _, run := range r.index.entries[i].runs {
			r.spans = append(r.spans, span{run: run})
		}
	}
	r.sortSpans()
	head := r.headChunk()
	err = r.each(ctx, func(c chunks) error {
		if n := head - c.at; head >= 0 && n >= 0 && n < int64(len(c.data)) {
			r.o.Head(c.data[n][:])
		}
		return nil
	})
	if err != nil {
		return nil, Stats{}, err
	}
	stats := r.stats(l)
	stats.Wall = o.Clock.Monotonic() - began
	return l, stats, nil
}

// headChunk is the address of the first chunk of the file HeadOf; negative: it has none.
func (r *reader) headChunk() int64 {
	for i := range r.index.entries {
		e := &r.index.entries[i]
		if r.o.Head != nil && "/"+e.path == r.o.HeadOf && len(e.runs) > 0 && e.runs[0].first == 0 {
			return e.runs[0].at
		}
	}
	return -1
}
