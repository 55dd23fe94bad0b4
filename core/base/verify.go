package base

import (
	"context"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

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
	frame := 0
	for _, p := range r.index.parts {
		r.firstFrames = append(r.firstFrames, frame)
		frame += p.frames
	}
	workers := min(r.o.Parallel, len(r.index.parts))
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(max(1, min(workers, cpus()))), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(uint64(windowFor(r.index.frameBytes))))
	if err != nil {
		return err
	}
	defer z.Close()
	g, ctx := errgroup.WithContext(ctx)
	done := make(chan chunks, workers)
	for range workers {
		g.Go(func() error { return r.fetch(ctx, z, done) })
	}
	var fetchErr error
	go func() {
		fetchErr = g.Wait()
		close(done)
	}()
	seen := int64(0)
	for c := range done {
		seen += int64(len(c.data))
		if r.o.Progress != nil {
			r.o.Progress(seen*memfs.ChunkSize, r.index.chunks*memfs.ChunkSize)
		}
	}
	if fetchErr == nil && seen != r.index.chunks {
		return errors.Join(ErrCorrupt, fmt.Errorf("its parts hold %d chunks, the index names %d", seen, r.index.chunks))
	}
	return fetchErr
}
