package base

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// Write stores src as the layer key. src must not change meanwhile: give a clone. When Write returns nil the layer is
// complete; on an error it does not exist, though parts of it may: they are never deleted here. A key is used for one
// tree: to try again with the same tree is fine, another tree needs another key (store.ErrConflict).
//
// Errors: ErrTooLarge, store.ErrInvalid (options), store.ErrConflict, store.ErrUnknown, those of the store and of the
// hook, the context's.
func Write(ctx context.Context, st store.Store, key string, src *memfs.FS, o WriteOptions) (Stats, error) {
	stats, err := write(ctx, st, key, src, o)
	if err != nil {
		return Stats{}, fmt.Errorf("write layer %q: %w", key, err)
	}
	return stats, nil
}

func write(ctx context.Context, st store.Store, key string, src *memfs.FS, o WriteOptions) (Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Stats{}, err
	}
	if err := store.CheckKey(key); err != nil {
		return Stats{}, err
	}
	began := o.Clock.Monotonic()
	p, err := planTree(src, o)
	if err != nil {
		return Stats{}, err
	}
	w := &writer{st: st, key: key, o: o, plan: p}
	if err := w.parts(ctx); err != nil {
		return Stats{}, err
	}
	if err := o.Hook.Fire(ctx, point.BaseAfterLastPart); err != nil {
		return Stats{}, err
	}
	object, err := encodeIndex(&p.index)
	if err != nil {
		return Stats{}, err
	}
	if err := w.put(ctx, IndexKey(key), object); err != nil {
		return Stats{}, err
	}
	if err := o.Hook.Fire(ctx, point.BaseAfterIndex); err != nil {
		return Stats{}, err
	}
	stats := Stats{
		Files: p.index.files(), RawBytes: p.rawBytes(), StoredBytes: int64(len(object)),
		Parts: len(p.index.parts), Frames: len(p.index.frames),
		Compress: time.Duration(w.compressed.Load()), Upload: time.Duration(w.uploaded.Load()),
		Wall: o.Clock.Monotonic() - began,
	}
	for _, part := range p.index.parts {
		stats.StoredBytes += part.size
	}
	return stats, nil
}

// plan is a layer before it is compressed: the index without parts and frames, and a view of each chunk of the stream.
type plan struct {
	index index
	views [][]byte
}

func (p *plan) rawBytes() int64 { return p.index.chunks * memfs.ChunkSize }

func (p *plan) frame(n int) [][]byte {
	per := int(p.index.frameChunks())
	return p.views[n*per : min((n+1)*per, len(p.views))]
}

func planTree(src *memfs.FS, o WriteOptions) (*plan, error) {
	p := &plan{index: index{frameBytes: o.FrameBytes}}
	links := map[uint64]string{}
	err := src.Walk("/", func(path string, info memfs.Info) error {
		if path != "/" && o.Include != nil && !o.Include(path, info) {
			if info.IsDir() {
				return iofs.SkipDir
			}
			return nil
		}
		return p.add(src, path, info, links)
	})
	if err != nil {
		return nil, err
	}
	p.index.chunks = int64(len(p.views))
	if o.MaxBytes > 0 && p.rawBytes() > o.MaxBytes {
		return nil, fmt.Errorf("%w: its files hold %d bytes, the limit is %d", ErrTooLarge, p.rawBytes(), o.MaxBytes)
	}
	return p, nil
}

func (p *plan) add(src *memfs.FS, path string, info memfs.Info, links map[uint64]string) (err error) {
	e := entry{kind: kindDir, path: strings.TrimPrefix(path, "/"), perm: info.Mode &^ memfs.ModeType, mtime: info.Mtime.UnixNano()}
	switch {
	case info.IsSymlink():
		e.kind = kindSymlink
		e.target, err = src.Readlink(path)
	case info.IsRegular() && links[info.Ino] != "":
		e.kind, e.target = kindLink, links[info.Ino]
	case info.IsRegular():
		e.kind, e.size = kindFile, info.Size
		if info.Nlink > 1 {
			links[info.Ino] = e.path
		}
		e.runs, err = p.addFile(src, path)
	}
	p.index.entries = append(p.index.entries, e)
	return err
}

// addFile adds a file's chunks to the stream, all but those of zeros.
func (p *plan) addFile(src *memfs.FS, path string) ([]run, error) {
	f, err := src.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	var runs []run
	var zeros [memfs.ChunkSize]byte
	for off, data := range f.Extents() {
		if bytes.Equal(data, zeros[:len(data)]) {
			continue
		}
		p.views = append(p.views, data)
		chunk := off / memfs.ChunkSize
		if n := len(runs); n > 0 && runs[n-1].first+runs[n-1].count == chunk {
			runs[n-1].count++
			continue
		}
		runs = append(runs, run{first: chunk, count: 1})
	}
	return runs, f.Close()
}

type writer struct {
	st                   store.Store
	key                  string
	o                    WriteOptions
	plan                 *plan
	compressed, uploaded atomic.Int64 // nanoseconds
}

// job is one frame on its way through a compressor. Jobs are used again and again.
type job struct {
	frame int
	out   []byte
	ready chan struct{}
}

// upload is one part on its way to the store.
type upload struct {
	n    int
	body []byte
}

// parts compresses and stores all frames. The flow, every queue bounded:
//
//	dispatch ──► compress (one a CPU) ──► assemble, in order ──► store (o.Parallel)
func (w *writer) parts(ctx context.Context) error {
	total := (len(w.plan.views) + int(w.plan.index.frameChunks()) - 1) / int(w.plan.index.frameChunks())
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(w.o.Level), zstd.WithEncoderConcurrency(cpus()),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(windowFor(w.o.FrameBytes)), zstd.WithSingleSegment(true))
	if err != nil {
		return err
	}
	defer z.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	jobs := 2*cpus() + 2
	idle, work, ordered := make(chan *job, jobs), make(chan *job, jobs), make(chan *job, jobs)
	for range jobs {
		idle <- &job{ready: make(chan struct{}, 1)}
	}
	g.Go(func() error {
		defer close(work)
		defer close(ordered)
		for n := range total {
			j, ok := receive(ctx, idle)
			if !ok {
				return ctx.Err()
			}
			j.frame = n
			work <- j // there is room for all jobs
			ordered <- j
		}
		return nil
	})
	for range cpus() {
		g.Go(func() error { w.compress(z, work); return nil })
	}
	uploads, buffers := make(chan upload), make(chan []byte, w.o.Parallel+1)
	for range w.o.Parallel {
		g.Go(func() error { return w.upload(ctx, uploads, buffers) })
	}
	err = w.assemble(ctx, ordered, idle, uploads, buffers)
	if err != nil {
		cancel()
	}
	close(uploads)
	return firstCause(err, g.Wait())
}

// windowFor is the smallest window that covers a frame.
func windowFor(frameBytes int) int {
	w := zstd.MinWindowSize
	for w < frameBytes {
		w *= 2
	}
	return w
}

func receive[T any](ctx context.Context, c <-chan T) (T, bool) {
	select {
	case v, ok := <-c:
		return v, ok
	case <-ctx.Done():
		var zero T
		return zero, false
	}
}

func (w *writer) compress(z *zstd.Encoder, work <-chan *job) {
	raw := make([]byte, 0, w.o.FrameBytes)
	for j := range work {
		began := w.o.Clock.Monotonic()
		raw = raw[:0]
		for _, view := range w.plan.frame(j.frame) {
			raw = append(raw, view...)
			if pad := memfs.ChunkSize - len(view); pad > 0 {
				raw = raw[:len(raw)+pad]
				clear(raw[len(raw)-pad:])
			}
		}
		j.out = z.EncodeAll(raw, j.out[:0])
		w.compressed.Add(int64(w.o.Clock.Monotonic() - began))
		j.ready <- struct{}{}
	}
}

// assemble puts the frames into parts in their order and hands the parts on. It runs in the caller's goroutine and
// is the only one that changes the index.
func (w *writer) assemble(ctx context.Context, ordered <-chan *job, idle chan<- *job, uploads chan<- upload, buffers <-chan []byte) error {
	x := &w.plan.index
	var body []byte
	open := false
	fresh := cap(buffers)
	flush := func() error {
		if !open {
			return nil
		}
		last := &x.parts[len(x.parts)-1]
		last.size, last.crc = int64(len(body)), checksum(body)
		open = false
		select {
		case uploads <- upload{len(x.parts) - 1, body}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for j := range ordered {
		<-j.ready
		if open && int64(len(body)+len(j.out)) > w.o.PartBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if !open {
			if len(x.parts) == maxParts {
				return fmt.Errorf("%w: more than %d parts", ErrTooLarge, maxParts)
			}
			select { // one that was uploaded is used again, before there are more of them
			case body = <-buffers:
			default:
				if body = nil; fresh == 0 {
					var ok bool
					if body, ok = receive(ctx, buffers); !ok {
						return ctx.Err()
					}
				} else {
					fresh--
				}
			}
			left := w.plan.rawBytes() - int64(len(x.frames))*int64(w.o.FrameBytes)
			body, open = slices.Grow(body[:0], int(min(w.o.PartBytes, left))), true
			x.parts = append(x.parts, part{})
		}
		body = append(body, j.out...)
		x.frames = append(x.frames, frame{size: len(j.out), crc: checksum(j.out)})
		x.parts[len(x.parts)-1].frames++
		idle <- j
		if w.o.Progress != nil {
			done := min(int64(len(x.frames))*int64(w.o.FrameBytes), w.plan.rawBytes())
			w.o.Progress(done, w.plan.rawBytes())
		}
	}
	return flush()
}

func (w *writer) upload(ctx context.Context, uploads <-chan upload, buffers chan<- []byte) error {
	for u := range uploads {
		if err := w.o.Hook.Fire(ctx, point.BaseBeforePart); err != nil {
			return err
		}
		began := w.o.Clock.Monotonic()
		if err := w.put(ctx, PartKey(w.key, u.n), u.body); err != nil {
			return err
		}
		w.uploaded.Add(int64(w.o.Clock.Monotonic() - began))
		if err := w.o.Hook.Fire(ctx, point.BaseAfterPart); err != nil {
			return err
		}
		buffers <- u.body // there is room for all buffers
	}
	return nil
}

// put stores one object, once. What is there already with the same bytes, from a try before, is as good.
func (w *writer) put(ctx context.Context, key string, body []byte) error {
	id := store.NewWriteID()
	pause := firstPause
	for attempt := 1; ; attempt++ {
		_, err := w.st.Put(ctx, key, body, id, store.IfAbsent())
		switch {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrConflict):
			o, lookErr := w.st.Get(ctx, key)
			if lookErr == nil && bytes.Equal(o.Body, body) {
				return nil
			}
			return fmt.Errorf("the name is taken by other bytes, write under another key: %w", errors.Join(err, lookErr))
		case !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrThrottled), attempt == putAttempts:
			return err
		}
		if sleepErr := w.o.Clock.Sleep(ctx, pause); sleepErr != nil {
			return errors.Join(err, sleepErr)
		}
		pause *= 2
	}
}
