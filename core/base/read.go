package base

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
)

// Read restores the layer key into dst, which must be empty: files with their full size and their holes, directories
// (empty ones too), links, permissions, mtimes. Memory taken beyond dst: o.Parallel parts and a few frames. On an error
// dst is useless; the bucket is never changed.
//
// Errors: store.ErrNotFound (index or a part is missing: read the manifest again, the layer may have been collected),
// ErrCorrupt, ErrNewer, store.ErrInvalid (options; dst is not empty), memfs's ENOSPC, the store's and the context's.
func Read(ctx context.Context, st store.Store, key string, dst *memfs.FS, o ReadOptions) (Stats, error) {
	stats, err := read(ctx, st, key, dst, o)
	if err != nil {
		return Stats{}, fmt.Errorf("read layer %q: %w", key, err)
	}
	return stats, nil
}

func read(ctx context.Context, st store.Store, key string, dst *memfs.FS, o ReadOptions) (Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Stats{}, err
	}
	if names, err := dst.ReadDir("/"); err != nil || len(names) > 0 {
		return Stats{}, errors.Join(fmt.Errorf("%w: the tree to restore into holds %d names", store.ErrInvalid, len(names)), err)
	}
	began := o.Clock.Monotonic()
	object, err := st.Get(ctx, IndexKey(key))
	if err != nil {
		return Stats{}, fmt.Errorf("get its index: %w", err)
	}
	fetched := o.Clock.Monotonic() - began
	x, err := decodeIndex(object.Body)
	if err != nil {
		return Stats{}, fmt.Errorf("index %q: %w", IndexKey(key), err)
	}
	r := &reader{st: st, key: key, o: o, index: x}
	if err := r.makeTree(dst); err != nil {
		return Stats{}, err
	}
	if err := errors.Join(r.fill(ctx), r.closeFiles()); err != nil {
		return Stats{}, err
	}
	if err := r.setTimes(dst); err != nil {
		return Stats{}, err
	}
	stats := Stats{
		Files: x.files(), RawBytes: x.chunks * memfs.ChunkSize, StoredBytes: int64(len(object.Body)),
		Parts: len(x.parts), Frames: len(x.frames),
		Download: fetched + time.Duration(r.downloaded.Load()), Decompress: time.Duration(r.decompressed.Load()),
		Wall: o.Clock.Monotonic() - began,
	}
	for _, p := range x.parts {
		stats.StoredBytes += p.size
	}
	return stats, nil
}

type reader struct {
	st    store.Store
	key   string
	o     ReadOptions
	index *index
	files []*memfs.File
	spans []span

	nextPart                 atomic.Int64
	firstFrames              []int        // of each part
	downloaded, decompressed atomic.Int64 // nanoseconds
}

// span says where a piece of the stream belongs. Spans are in stream order and leave nothing out.
type span struct {
	at    int64 // first chunk in the stream
	first int64 // first chunk in the file
	file  *memfs.File
}

// makeTree makes all names. The files have their sizes, permissions and times; chunks follow.
func (r *reader) makeTree(dst *memfs.FS) error {
	at := int64(0)
	for i := range r.index.entries {
		e := &r.index.entries[i]
		path := "/" + e.path
		var err error
		switch {
		case e.path == "":
			err = dst.Chmod(path, e.perm)
		case e.kind == kindDir:
			err = dst.Mkdir(path, e.perm)
		case e.kind == kindSymlink:
			err = dst.Symlink(e.target, path)
		case e.kind == kindLink:
			err = dst.Link("/"+e.target, path)
		default:
			at, err = r.makeFile(dst, path, e, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) makeFile(dst *memfs.FS, path string, e *entry, at int64) (int64, error) {
	f, err := dst.Open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.perm)
	if err != nil {
		return 0, err
	}
	r.files = append(r.files, f)
	for _, run := range e.runs {
		r.spans = append(r.spans, span{at: at, first: run.first, file: f})
		at += run.count
	}
	return at, f.Truncate(e.size)
}

// setTimes comes last: making names and files moves mtimes.
func (r *reader) setTimes(dst *memfs.FS) error {
	for i := range r.index.entries {
		e := &r.index.entries[i]
		if e.kind != kindDir && e.kind != kindFile {
			continue
		}
		if err := dst.Chtimes("/"+e.path, time.Time{}, time.Unix(0, e.mtime)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) closeFiles() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// chunks is a decompressed frame.
type chunks struct {
	frame int
	data  []*[memfs.ChunkSize]byte
}

// fill puts the layer's chunks in place in the caller's goroutine, which owns the tree.
func (r *reader) fill(ctx context.Context) error { return r.each(ctx, r.install) }

// each fetches and decompresses the parts, several at a time, and hands their frames to use, in any order and in the
// caller's goroutine. A chunk is allocated once, by the goroutine that decompressed it.
func (r *reader) each(ctx context.Context, use func(chunks) error) error {
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
	err = r.useAll(done, use, cancel)
	return firstCause(err, fetchErr)
}

// useAll uses frames until done is closed; after an error it stops the senders and throws away the rest.
func (r *reader) useAll(done <-chan chunks, use func(chunks) error, stop func()) error {
	var failed error
	used := int64(0)
	for c := range done {
		if failed != nil {
			continue
		}
		if failed = use(c); failed != nil {
			stop()
			continue
		}
		used += int64(len(c.data)) * memfs.ChunkSize
		if r.o.Progress != nil {
			r.o.Progress(used, r.index.chunks*memfs.ChunkSize)
		}
	}
	return failed
}

// install puts a frame's chunks where they belong.
func (r *reader) install(c chunks) error {
	at := int64(c.frame) * r.index.frameChunks()
	i, exact := slices.BinarySearchFunc(r.spans, at, func(s span, at int64) int { return cmp.Compare(s.at, at) })
	if !exact {
		i--
	}
	for _, data := range c.data {
		for i+1 < len(r.spans) && at >= r.spans[i+1].at {
			i++
		}
		s := r.spans[i]
		if err := s.file.InstallChunk(s.first+at-s.at, data); err != nil {
			return err
		}
		at++
	}
	return nil
}

// fetch downloads parts and decompresses their frames until none is left.
func (r *reader) fetch(ctx context.Context, z *zstd.Decoder, done chan<- chunks) error {
	raw := make([]byte, 0, r.index.frameBytes)
	for {
		n := int(r.nextPart.Add(1)) - 1
		if n >= len(r.index.parts) {
			return nil
		}
		body, err := r.part(ctx, n)
		if err != nil {
			return err
		}
		for i := range r.index.parts[n].frames {
			f := r.firstFrames[n] + i
			size := r.index.frames[f].size
			data, err := r.decompress(z, f, body[:size], raw)
			if err != nil {
				return fmt.Errorf("part %q, frame %d: %w", PartKey(r.key, n), f, err)
			}
			body = body[size:]
			select {
			case done <- chunks{frame: f, data: data}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// part downloads a part and checks it.
func (r *reader) part(ctx context.Context, n int) ([]byte, error) {
	began := r.o.Clock.Monotonic()
	key, want := PartKey(r.key, n), r.index.parts[n]
	o, err := r.st.Get(ctx, key)
	r.downloaded.Add(int64(r.o.Clock.Monotonic() - began))
	switch {
	case err != nil:
		return nil, fmt.Errorf("get part %d of %d: %w", n, len(r.index.parts), err)
	case int64(len(o.Body)) != want.size:
		return nil, fmt.Errorf("part %q: %w: it has %d bytes, want %d", key, ErrCorrupt, len(o.Body), want.size)
	case checksum(o.Body) != want.crc:
		return nil, fmt.Errorf("part %q: %w", key, r.damage(n, o.Body))
	}
	return o.Body, nil
}

// damage tells which frame of a part is not what it was.
func (r *reader) damage(n int, body []byte) error {
	for i := range r.index.parts[n].frames {
		f := r.index.frames[r.firstFrames[n]+i]
		if got := checksum(body[:f.size]); got != f.crc {
			return fmt.Errorf("%w: frame %d has checksum %08x, want %08x", ErrCorrupt, r.firstFrames[n]+i, got, f.crc)
		}
		body = body[f.size:]
	}
	return fmt.Errorf("%w: its checksum is wrong, though each frame's is right", ErrCorrupt)
}

// decompress gives a frame's chunks, each in memory of its own. raw is the goroutine's buffer.
func (r *reader) decompress(z *zstd.Decoder, f int, stored, raw []byte) ([]*[memfs.ChunkSize]byte, error) {
	began := r.o.Clock.Monotonic()
	defer func() { r.decompressed.Add(int64(r.o.Clock.Monotonic() - began)) }()
	want := r.index.rawSize(f)
	raw, err := z.DecodeAll(stored, raw[:0:want])
	if err != nil || len(raw) != want {
		return nil, fmt.Errorf("%w: it does not decompress to %d bytes (%d, %v)", ErrCorrupt, want, len(raw), err)
	}
	data := make([]*[memfs.ChunkSize]byte, want/memfs.ChunkSize)
	for i := range data {
		data[i] = new([memfs.ChunkSize]byte)
		copy(data[i][:], raw[i*memfs.ChunkSize:])
	}
	return data, nil
}

// firstCause picks the error to report when the caller's goroutine and a group worked together: not the context's, if
// that only says that the other side had failed.
func firstCause(own, group error) error {
	stopped := errors.Is(own, context.Canceled) || errors.Is(own, context.DeadlineExceeded)
	if own == nil || (stopped && group != nil) {
		return group
	}
	return own
}
