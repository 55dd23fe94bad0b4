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

// Read restores the layer key into dst, which must be empty: files with their full size and their holes, directories (including empty
// ones), links, permissions, mtimes. In addition to dst it needs memory for o.Parallel segments and a few frames. After an error dst is
// useless; the bucket is never changed.
//
// Errors: store.ErrNotFound (the index or a segment is missing: read the manifest again, the layer may have been collected),
// ErrCorrupt, ErrNewer, store.ErrInvalid (options; dst is not empty), memfs's ENOSPC, the store's and the context's.
func Read(ctx context.Context, st store.Store, key string, dst *memfs.FS, o ReadOptions) (*Layer, Stats, error) {
	l, stats, err := read(ctx, st, key, dst, o)
	if err != nil {
		return nil, Stats{}, fmt.Errorf("read layer %q: %w", key, err)
	}
	return l, stats, nil
}

func read(ctx context.Context, st store.Store, key string, dst *memfs.FS, o ReadOptions) (*Layer, Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, Stats{}, err
	}
	if names, err := dst.ReadDir("/"); err != nil || len(names) > 0 {
		return nil, Stats{}, errors.Join(fmt.Errorf("%w: the tree to restore into is not empty: it has %d names", store.ErrInvalid, len(names)), err)
	}
	began := o.Clock.Monotonic()
	l, err := readIndex(ctx, st, key, o.Expect)
	if err != nil {
		return nil, Stats{}, err
	}
	fetched := o.Clock.Monotonic() - began
	r := &reader{st: st, o: o, index: l.index}
	if err := r.makeTree(dst); err != nil {
		return nil, Stats{}, err
	}
	if err := errors.Join(r.each(ctx, r.install), r.closeFiles()); err != nil {
		return nil, Stats{}, err
	}
	if err := r.setTimes(dst); err != nil {
		return nil, Stats{}, err
	}
	stats := r.stats(l)
	stats.Download += fetched
	stats.Wall = o.Clock.Monotonic() - began
	return l, stats, nil
}

// ReadIndex reads a layer's index, and none of its segments. Errors: those of Read.
func ReadIndex(ctx context.Context, st store.Store, key string, e Expect) (*Layer, error) {
	l, err := readIndex(ctx, st, key, e)
	if err != nil {
		return nil, fmt.Errorf("read layer %q: %w", key, err)
	}
	return l, nil
}

func readIndex(ctx context.Context, st store.Store, key string, e Expect) (*Layer, error) {
	object, err := st.Get(ctx, IndexKey(key))
	if err != nil {
		return nil, fmt.Errorf("get its index: %w", err)
	}
	size := int64(len(object.Body))
	x, err := decodeIndex(key, object.Body)
	l := &Layer{key: key, index: x, size: size}
	if err == nil {
		err = e.check(l)
	}
	if err != nil {
		return nil, fmt.Errorf("index %q: %w", IndexKey(key), err)
	}
	return l, nil
}

// stats returns what was read of a layer.
func (r *reader) stats(l *Layer) Stats {
	s := Stats{
		Files: r.index.files(), RawBytes: l.RawBytes(),
		Download: time.Duration(r.downloaded.Load()), Decompress: time.Duration(r.decompressed.Load()),
	}
	s.objects(l)
	return s
}

type reader struct {
	st    store.Store
	o     ReadOptions
	index *index
	files []*memfs.File
	spans []span

	skip          []bool      // for each segment, whether it is not read; nil: all are
	skippedChunks int64       // used by the layer in these
	sound         func(n int) // called, by several goroutines, for each segment that was read; nil: not called

	nextSegment              atomic.Int64
	downloaded, decompressed atomic.Int64 // nanoseconds
}

// span says where chunks at consecutive addresses belong. Spans are in the order of their addresses.
type span struct {
	run
	file *memfs.File
}

// makeTree makes all names. The files get their sizes and permissions; chunks and times follow.
func (r *reader) makeTree(dst *memfs.FS) error {
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
			err = r.makeFile(dst, path, e)
		}
		if err != nil {
			return err
		}
	}
	r.sortSpans()
	return nil
}

func (r *reader) makeFile(dst *memfs.FS, path string, e *entry) error {
	f, err := dst.Open(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.perm)
	if err != nil {
		return err
	}
	r.files = append(r.files, f)
	for _, run := range e.runs {
		r.spans = append(r.spans, span{run, f})
	}
	return f.Truncate(e.size)
}

func (r *reader) sortSpans() {
	slices.SortFunc(r.spans, func(a, b span) int { return cmp.Compare(a.at, b.at) })
}

// setTimes comes last: making names and files changes mtimes.
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

// chunks are the chunks of a decompressed frame; a nil one is not used by the layer.
type chunks struct {
	at   int64 // address of the first
	live int64
	data []*[memfs.ChunkSize]byte
}

// each fetches and decompresses the segments, several at a time, and calls use with their frames, in any order and in the caller's
// goroutine. A chunk is allocated once, by the goroutine that decompresses it.
func (r *reader) each(ctx context.Context, use func(chunks) error) error {
	workers := min(r.o.Parallel, len(r.index.segments))
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

// useAll uses frames until done is closed; after an error it stops the senders and discards the rest.
func (r *reader) useAll(done <-chan chunks, use func(chunks) error, stop func()) error {
	var failed error
	used, total := r.skippedChunks*memfs.ChunkSize, r.index.liveChunks()*memfs.ChunkSize
	for c := range done {
		if failed != nil {
			continue
		}
		if failed = use(c); failed != nil {
			stop()
			continue
		}
		used += c.live * memfs.ChunkSize
		if r.o.Progress != nil {
			r.o.Progress(used, total)
		}
	}
	return failed
}

// install puts a frame's chunks where they belong.
func (r *reader) install(c chunks) error {
	return r.eachSpan(c.at, int64(len(c.data)), func(s *span, at, n int64) error {
		for ; n > 0; at, n = at+1, n-1 {
			if err := s.file.InstallChunk(s.first+at-s.at, c.data[at-c.at]); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachSpan calls f for the used parts of the n chunks at an address.
func (r *reader) eachSpan(at, n int64, f func(s *span, at, n int64) error) error {
	i, found := slices.BinarySearchFunc(r.spans, at, func(s span, at int64) int { return cmp.Compare(s.at, at) })
	if !found && i > 0 {
		i--
	}
	for ; i < len(r.spans) && r.spans[i].at < at+n; i++ {
		s := &r.spans[i]
		from, to := max(at, s.at), min(at+n, s.at+s.count)
		if from >= to {
			continue
		}
		if err := f(s, from, to-from); err != nil {
			return err
		}
	}
	return nil
}

// fetch downloads segments and decompresses their frames until none is left. A frame that the layer does not use only has its checksum
// checked.
func (r *reader) fetch(ctx context.Context, z *zstd.Decoder, done chan<- chunks) error {
	raw := make([]byte, 0, r.index.frameBytes)
	for {
		n := int(r.nextSegment.Add(1)) - 1
		if n >= len(r.index.segments) {
			return nil
		}
		if r.skip != nil && r.skip[n] {
			continue
		}
		s := &r.index.segments[n]
		body, err := r.segment(ctx, s)
		if err != nil {
			return err
		}
		for i, f := range s.frames {
			c, err := r.decompress(z, s, i, body[:f.size], raw)
			if err != nil {
				return fmt.Errorf("segment %q, frame %d: %w", s.key(), i, err)
			}
			body = body[f.size:]
			select {
			case done <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if r.sound != nil {
			r.sound(n)
		}
	}
}

// segment downloads a segment and checks it.
func (r *reader) segment(ctx context.Context, s *segment) ([]byte, error) {
	began := r.o.Clock.Monotonic()
	o, err := r.st.Get(ctx, s.key())
	r.downloaded.Add(int64(r.o.Clock.Monotonic() - began))
	switch {
	case err != nil:
		return nil, fmt.Errorf("get one of %d segments: %w", len(r.index.segments), err)
	case int64(len(o.Body)) != s.size:
		return nil, fmt.Errorf("segment %q: %w: it has %d bytes, want %d", s.key(), ErrCorrupt, len(o.Body), s.size)
	}
	body := o.Body
	for i, f := range s.frames {
		if got := checksum(body[:f.size]); got != f.crc {
			return nil, fmt.Errorf("segment %q: %w: frame %d has checksum %08x, want %08x", s.key(), ErrCorrupt, i, got, f.crc)
		}
		body = body[f.size:]
	}
	return o.Body, nil
}

// decompress returns a frame's chunks that the layer uses, each separately allocated. raw is the goroutine's buffer.
func (r *reader) decompress(z *zstd.Decoder, s *segment, f int, stored, raw []byte) (chunks, error) {
	began := r.o.Clock.Monotonic()
	defer func() { r.decompressed.Add(int64(r.o.Clock.Monotonic() - began)) }()
	n := r.index.rawChunks(s, f)
	c := chunks{at: s.first + int64(f)*r.index.frameChunks(), data: make([]*[memfs.ChunkSize]byte, n)}
	_ = r.eachSpan(c.at, n, func(_ *span, _, n int64) error { c.live += n; return nil })
	if c.live == 0 {
		return c, nil
	}
	want := int(n) * memfs.ChunkSize
	raw, err := z.DecodeAll(stored, raw[:0:want])
	if err != nil || len(raw) != want {
		return c, fmt.Errorf("%w: it does not decompress to %d bytes (%d, %v)", ErrCorrupt, want, len(raw), err)
	}
	return c, r.eachSpan(c.at, n, func(_ *span, at, n int64) error {
		for i := at - c.at; i < at-c.at+n; i++ {
			c.data[i] = new([memfs.ChunkSize]byte)
			copy(c.data[i][:], raw[i*memfs.ChunkSize:])
		}
		return nil
	})
}

// firstCause picks the error to report when the caller's goroutine and a group worked together: not a context's error that only says that
// the other side has failed.
func firstCause(own, group error) error {
	stopped := errors.Is(own, context.Canceled) || errors.Is(own, context.DeadlineExceeded)
	if own == nil || (stopped && group != nil) {
		return group
	}
	return own
}
