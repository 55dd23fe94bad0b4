package base

import (
	"context"
	"errors"
	"fmt"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
)

// Verify reads a whole layer and keeps nothing: index, every part's checksum, every frame's, and that each decompresses to
// what the index says. Errors: those of Read that are not about a tree; the first thing that is wrong is named.
func Verify(ctx context.Context, st store.Store, key string, o ReadOptions) (Stats, error) {
	stats, err := verify(ctx, st, key, o)
	if err != nil {
		return Stats{}, fmt.Errorf("verify layer %q: %w", key, err)
	}
	return stats, nil
}

func verify(ctx context.Context, st store.Store, key string, o ReadOptions) (Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Stats{}, err
	}
	began := o.Clock.Monotonic()
	object, err := st.Get(ctx, IndexKey(key))
	if err != nil {
		return Stats{}, fmt.Errorf("get its index: %w", err)
	}
	stats := Stats{StoredBytes: int64(len(object.Body))}
	x, err := decodeIndex(object.Body)
	if err != nil {
		return Stats{}, fmt.Errorf("index %q: %w", IndexKey(key), err)
	}
	r := &reader{st: st, key: key, o: o, index: x}
	if err := r.discard(ctx); err != nil {
		return Stats{}, err
	}
	stats.Files, stats.RawBytes, stats.Parts, stats.Frames = x.files(), x.chunks*memfs.ChunkSize, len(x.parts), len(x.frames)
	for _, p := range x.parts {
		stats.StoredBytes += p.size
	}
	stats.Wall = o.Clock.Monotonic() - began
	return stats, nil
}

// discard fetches and decompresses everything, and counts it.
func (r *reader) discard(ctx context.Context) error {
	seen, head := int64(0), r.headChunk()
	err := r.each(ctx, func(c chunks) error {
		seen += int64(len(c.data))
		if n := head - int64(c.frame)*r.index.frameChunks(); head >= 0 && n >= 0 && n < int64(len(c.data)) {
			r.o.Head(c.data[n][:])
		}
		return nil
	})
	if err == nil && seen != r.index.chunks {
		return errors.Join(ErrCorrupt, fmt.Errorf("its parts hold %d chunks, the index names %d", seen, r.index.chunks))
	}
	return err
}

// headChunk is where the first chunk of the file that is asked for is in the stream; below zero: it is not.
func (r *reader) headChunk() int64 {
	at := int64(0)
	for i := range r.index.entries {
		e := &r.index.entries[i]
		if r.o.Head != nil && "/"+e.path == r.o.HeadOf && len(e.runs) > 0 && e.runs[0].first == 0 {
			return at
		}
		for _, run := range e.runs {
			at += run.count
		}
	}
	return -1
}
