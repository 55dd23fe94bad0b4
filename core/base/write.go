package base

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
)

// Write stores src as the layer key. src must not change during the call: pass a clone. When Write returns nil the layer is complete; after
// an error it does not exist, but segments of it may: Write never deletes. Use a key for one tree only: the same tree may be retried,
// another tree needs another key (store.ErrConflict).
//
// Errors: ErrTooLarge, store.ErrInvalid (options, or key is not a layer's), store.ErrConflict, store.ErrUnknown, those of the store and of
// the hook, the context's.
func Write(ctx context.Context, st store.Store, key string, src *memfs.FS, o WriteOptions) (*Layer, Stats, error) {
	l, stats, err := write(ctx, st, key, src, o)
	if err != nil {
		return nil, Stats{}, fmt.Errorf("write layer %q: %w", key, err)
	}
	return l, stats, nil
}

func write(ctx context.Context, st store.Store, key string, src *memfs.FS, o WriteOptions) (*Layer, Stats, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, Stats{}, err
	}
	if err := store.CheckKey(key); err != nil {
		return nil, Stats{}, err
	}
	if _, ok := ParseObject(IndexKey(key)); !ok || len(key) > len(keyPrefix)+maxOrigin {
		return nil, Stats{}, fmt.Errorf("%w: it is not the name of a layer", store.ErrInvalid)
	}
	if err := o.mayShare(key); err != nil {
		return nil, Stats{}, err
	}
	began := o.Clock.Monotonic()
	w := &writer{st: st, key: key, o: o}
	if err := w.planned(ctx, src); err != nil {
		return nil, Stats{}, err
	}
	if err := w.copied(ctx); err != nil {
		return nil, Stats{}, err
	}
	p, stats := w.plan, w.stats
	if err := o.Hook.Fire(ctx, point.BaseAfterLastSegment); err != nil {
		return nil, Stats{}, err
	}
	p.index.settle()
	p.index.tally()
	p.bootNew()
	p.index.named = named{key, o.Database}
	object, err := encodeIndex(&p.index)
	if err != nil {
		return nil, Stats{}, err
	}
	if err := w.put(ctx, IndexKey(key), object); err != nil {
		return nil, Stats{}, err
	}
	if err := o.Hook.Fire(ctx, point.BaseAfterIndex); err != nil {
		return nil, Stats{}, err
	}
	x := p.index // taken out of the plan, which would keep all of its pages in memory
	l := &Layer{key: key, index: &x, size: int64(len(object)), inos: p.inos}
	stats.objects(l)
	stats.NewSegments, stats.NewBytes = stats.Segments-w.kept, l.size
	for _, s := range p.index.segments[w.kept:] {
		stats.NewBytes += s.size
	}
	stats.Compress, stats.Upload = time.Duration(w.compressed.Load()), time.Duration(w.uploaded.Load())
	stats.Wall = o.Clock.Monotonic() - began
	return l, stats, nil
}

// mayShare refuses to share with a layer that does not precede this one: no reader would accept the result.
func (o WriteOptions) mayShare(key string) error {
	if !o.Share.shares() || o.Copy != nil {
		return nil
	}
	for _, segment := range o.Share.Segments() {
		if s, _ := ParseSegment(segment); isLater(s, key) {
			return fmt.Errorf("%w: it cannot share segment %s, which belongs to a later layer", store.ErrInvalid, segment)
		}
	}
	return nil
}

// objects counts what a layer needs.
func (s *Stats) objects(l *Layer) {
	s.StoredBytes, s.Segments = l.size, len(l.index.segments)
	for i := range l.index.segments {
		s.StoredBytes += l.index.segments[i].size
		s.Frames += len(l.index.segments[i].frames)
	}
}

type writer struct {
	st    store.Store
	key   string
	o     WriteOptions
	plan  *plan
	kept  int // segments of the plan that belong to the previous layer
	next  int // number of the next new segment
	stats Stats

	compressed, uploaded atomic.Int64 // nanoseconds
}

// planned plans the layer and stores its new segments. Segments that were to be cleaned but cannot be read stay where they are: only a read
// of one of their pages fails. If that is discovered during the write, the rest is planned again.
func (w *writer) planned(ctx context.Context, src *memfs.FS) error {
	for {
		p, err := planTree(src, w.o)
		if err != nil {
			return err
		}
		w.plan, w.kept = p, len(p.index.segments)
		w.stats.Files, w.stats.RawBytes = p.index.files(), p.index.liveChunks()*memfs.ChunkSize
		w.stats.NewRawBytes, w.stats.CleanedBytes = int64(len(p.views))*memfs.ChunkSize, p.cleaned*memfs.ChunkSize
		if w.o.MaxBytes > 0 && w.stats.RawBytes > w.o.MaxBytes {
			return fmt.Errorf("%w: its files hold %d bytes, the limit is %d", ErrTooLarge, w.stats.RawBytes, w.o.MaxBytes)
		}
		err = w.segments(ctx)
		if !damage(err) {
			return err
		}
		unread, lookErr := w.o.Pages.unreadable(ctx, p.brought)
		for _, key := range slices.Sorted(maps.Keys(unread)) {
			if w.o.Unreadable != nil {
				w.o.Unreadable(key, unread[key])
			}
		}
		if len(unread) == 0 || lookErr != nil { // the damaged page is one that must be written
			return errors.Join(err, lookErr)
		}
	}
}

// copied copies the shared segments of another database's layer, and replaces them with the copies. The layer's own new segments have the
// lower numbers.
func (w *writer) copied(ctx context.Context) error {
	if w.o.Copy == nil {
		return nil
	}
	if w.next+w.kept > maxSegments {
		return fmt.Errorf("%w: more than %d segments", ErrTooLarge, maxSegments)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(w.o.Parallel)
	for i := range w.kept {
		s := &w.plan.index.segments[i]
		from := s.key()
		s.layer, s.n, s.part = w.key, w.next+i, false
		to := s.key()
		g.Go(func() error { return w.copySegment(ctx, from, to, s.bytes()) })
	}
	return g.Wait()
}

func (w *writer) copySegment(ctx context.Context, from, to string, want int64) error {
	if err := w.o.Hook.Fire(ctx, point.BaseBeforeSegment); err != nil {
		return err
	}
	size, err := w.o.Copy(ctx, from, to)
	if err == nil && size != want {
		err = fmt.Errorf("%w: it has %d bytes, but the index of its layer says %d", ErrCorrupt, size, want)
	}
	if err != nil {
		return fmt.Errorf("copy segment %s: %w", from, err)
	}
	return w.o.Hook.Fire(ctx, point.BaseAfterSegment)
}

// damage reports whether an error means that an object is damaged or gone, so that a retry does not help.
func damage(err error) bool {
	return errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotFound)
}

// job is one frame on its way through a compressor. Jobs are reused.
type job struct {
	frame int
	out   []byte
	err   error
	ready chan struct{}
}

// upload is one segment on its way to the store.
type upload struct {
	n    int
	body []byte
}

// segments compresses and stores all new frames. The flow, with every queue bounded:
//
//	dispatch ──► compress (one per CPU) ──► assemble, in order ──► store (o.Parallel)
func (w *writer) segments(ctx context.Context) error {
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
		g.Go(func() error { w.compress(ctx, z, work); return nil })
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

// windowFor returns the smallest window that covers a frame.
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

func (w *writer) compress(ctx context.Context, z *zstd.Encoder, work <-chan *job) {
	raw := make([]byte, 0, w.o.FrameBytes)
	for j := range work {
		views := w.plan.frame(j.frame)
		away, err := bring(ctx, w.o.Pages, views)
		if j.err = err; err != nil {
			j.ready <- struct{}{}
			continue
		}
		began := w.o.Clock.Monotonic()
		raw = raw[:0]
		for _, view := range views {
			data := view.data
			if data == nil {
				data = away[view.at][:]
			}
			raw = append(raw, data...)
			if pad := memfs.ChunkSize - len(data); pad > 0 {
				raw = raw[:len(raw)+pad]
				clear(raw[len(raw)-pad:])
			}
		}
		j.out = z.EncodeAll(raw, j.out[:0])
		w.compressed.Add(int64(w.o.Clock.Monotonic() - began))
		j.ready <- struct{}{}
	}
}

// assemble puts the frames into segments in order and passes the segments on. It runs in the caller's goroutine, and nothing else changes
// the index.
func (w *writer) assemble(ctx context.Context, ordered <-chan *job, idle chan<- *job, uploads chan<- upload, buffers <-chan []byte) error {
	var body []byte
	var open *segment
	done := int64(0)
	total, fresh := int64(len(w.plan.views))*memfs.ChunkSize, cap(buffers)
	flush := func() error {
		if open == nil {
			return nil
		}
		w.plan.index.segments = append(w.plan.index.segments, *open)
		open = nil
		select {
		case uploads <- upload{w.next - 1, body}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for j := range ordered {
		<-j.ready
		if j.err != nil {
			return fmt.Errorf("fetch what is away: %w", j.err)
		}
		if open != nil && int64(len(body)+len(j.out)) > w.o.SegmentBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		if open == nil {
			if w.next == maxSegments || len(w.plan.index.segments) == maxSegments {
				return fmt.Errorf("%w: more than %d segments", ErrTooLarge, maxSegments)
			}
			select { // reuse the buffer of an uploaded segment before making a new one
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
			body, open = slices.Grow(body[:0], int(min(w.o.SegmentBytes, total-done))), &segment{layer: w.key, n: w.next}
			w.next++
		}
		body = append(body, j.out...)
		open.frames = append(open.frames, frame{size: len(j.out), crc: checksum(j.out)})
		chunks := int64(len(w.plan.frame(j.frame)))
		open.chunks += chunks
		idle <- j
		if done += chunks * memfs.ChunkSize; w.o.Progress != nil {
			w.o.Progress(done, total)
		}
	}
	return flush()
}

func (w *writer) upload(ctx context.Context, uploads <-chan upload, buffers chan<- []byte) error {
	for u := range uploads {
		if err := w.o.Hook.Fire(ctx, point.BaseBeforeSegment); err != nil {
			return err
		}
		began := w.o.Clock.Monotonic()
		if err := w.put(ctx, SegmentKey(w.key, u.n), u.body); err != nil {
			return err
		}
		w.uploaded.Add(int64(w.o.Clock.Monotonic() - began))
		if err := w.o.Hook.Fire(ctx, point.BaseAfterSegment); err != nil {
			return err
		}
		buffers <- u.body // there is room for all buffers
	}
	return nil
}

// put stores one object, once: a layer's names are its own, so an object that exists with the same bytes is from an earlier try.
func (w *writer) put(ctx context.Context, key string, body []byte) error {
	err := store.CreateOnce(ctx, w.st, key, body, store.NewWriteID(), store.Bounds{
		Clock: w.o.Clock, Tries: putTries, Pause: firstPause, MaxPause: maxPause,
	})
	if other := new(store.ExistsError); errors.As(err, &other) {
		return fmt.Errorf("the name is taken by an object with other contents, write under another key: %w", err)
	}
	return err
}
