package base

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
)

// PagesOptions of NewPages. The zero value is useful.
type PagesOptions struct {
	// Parallel is how many requests are in flight; 0: DefaultPagesParallel.
	Parallel int
	// KeepBytes is how many bytes of fetched chunks are kept uncompressed for later reads, including chunks fetched ahead; 0:
	// DefaultKeepBytes.
	KeepBytes int64
	// Patience is how long a request is retried after transient errors; 0: DefaultPatience.
	Patience time.Duration
	// Fetched is called with the number of bytes of chunks given to a file, in whose memory they are from now on. It must not block. Nil:
	// not called.
	Fetched func(bytes int64)
	Clock   clock.Clock // nil: the system's
}

const (
	// DefaultPagesParallel of PagesOptions.
	DefaultPagesParallel = 32
	// DefaultKeepBytes of PagesOptions: two windows of read-ahead, with as many requests in flight as an eager restore has.
	DefaultKeepBytes = 128 << 20
	// DefaultPatience of PagesOptions.
	DefaultPatience = 20 * time.Second

	// requestBytes is the most bytes of a segment that one request reads, if several consecutive frames are needed.
	requestBytes = 2 << 20
	// addressBits is the number of low bits of an address that hold the chunk's number in its segment; those above are the segment's ID.
	addressBits = 32
)

// Pages fetches single chunks of layers. It is the memfs.Source of a tree that Open has filled, and of the layers written from that tree
// later. An address says where a chunk is; it is the same for all layers that share the segment.
//
// Only intact chunks are returned: a frame with a wrong checksum is requested once more, and then is an error. Pages is safe for concurrent
// use. Close it after use.
type Pages struct {
	st      store.Store
	o       PagesOptions
	z       *zstd.Decoder
	ctx     context.Context
	stop    context.CancelFunc
	ahead   sync.WaitGroup
	flight  *semaphore.Weighted
	scratch sync.Pool // of *[]byte, for decompression

	mu       sync.Mutex
	ids      map[string]int64       // of segments, by key
	segments map[int64]*pageSegment // by id
	next     int64                  // next ID; none is used twice
	frames   map[frameID]*keptFrame
	order    []frameID // of kept frames, the least recently used first
	kept     int64
	counts   PageCounts
	lost     map[string]time.Duration // segments that could not be cleaned because they are damaged or gone, and when that was discovered
	noted    map[frameID]bool         // frames used so far, for Noted; nil: no longer noted
}

// PageCounts counts what Pages has done since it was made.
type PageCounts struct {
	Requests, Bytes int64 // to the store, and read from it
	Frames          int64 // fetched
	Waited          int64 // of these, those a read waited for
	Ahead           int64 // of Frames, those fetched ahead
	AheadUsed       int64 // of Ahead, those used later
	Errors          int64 // other than transient ones
}

type pageSegment struct {
	key     string
	chunks  int64
	per     int64 // chunks in a frame
	frames  []frame
	offsets []int64
	shared  []bool // for each frame, whether more than one file has chunks in it
}

type frameID struct {
	segment int64
	frame   int
}

// keptFrame is a frame that was fetched, or is being fetched.
type keptFrame struct {
	s      *pageSegment
	done   chan struct{} // closed when it was fetched, or failed
	chunks []*[memfs.ChunkSize]byte
	err    error
	ahead  bool // fetched ahead, not used yet
	wanted int  // how many readers are about to get it
}

// NewPages makes the Pages of a database's store. It sends no request. Close it after use.
func NewPages(st store.Store, o PagesOptions) (*Pages, error) {
	if o.Parallel == 0 {
		o.Parallel = DefaultPagesParallel
	}
	if o.KeepBytes == 0 {
		o.KeepBytes = DefaultKeepBytes
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(cpus()), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	p := &Pages{st: st, o: o, z: z, ids: map[string]int64{}, segments: map[int64]*pageSegment{}, frames: map[frameID]*keptFrame{}, lost: map[string]time.Duration{}, noted: map[frameID]bool{}, flight: semaphore.NewWeighted(int64(o.Parallel))}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// Close abandons running fetches, and waits until they have ended.
func (p *Pages) Close() {
	p.stop()
	p.ahead.Wait()
	p.z.Close()
}

// Counts returns what was done since p was made.
func (p *Pages) Counts() PageCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Fetch implements memfs.Source. It returns all chunks of the frames that hold the addresses. Errors: ErrCorrupt, store.ErrNotFound (the
// segment is gone, because no remaining layer needs it), the store's if they did not pass, the context's.
func (p *Pages) Fetch(ctx context.Context, addresses []int64) ([]memfs.Fetched, error) {
	wanted, flights, err := p.take(addresses, false)
	if err != nil {
		return nil, err
	}
	var out []memfs.Fetched
	for i, f := range flights {
		select {
		case <-f.done:
			err = f.err
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			p.leave(flights[i:])
			return nil, err
		}
		out = p.give(out, wanted[i], f)
	}
	p.given(out)
	return out, nil
}

// Ready implements memfs.ReadySource.
func (p *Pages) Ready(addresses []int64) ([]memfs.Fetched, bool) {
	wanted, flights := p.there(addresses)
	if flights == nil {
		return nil, false
	}
	var out []memfs.Fetched
	for i, f := range flights {
		out = p.give(out, wanted[i], f)
	}
	p.given(out)
	return out, true
}

// leave notes that a reader no longer needs frames.
func (p *Pages) leave(flights []*keptFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range flights {
		f.wanted--
	}
}

func (p *Pages) given(out []memfs.Fetched) {
	if p.o.Fetched != nil {
		p.o.Fetched(int64(len(out)) * memfs.ChunkSize)
	}
}

// Ahead implements memfs.Source.
func (p *Pages) Ahead(addresses []int64) {
	_, _, _ = p.take(addresses, true)
}

// Room implements memfs.RoomySource.
func (p *Pages) Room() int64 { return p.o.KeepBytes / 2 }

// there returns the frames if all of them have been fetched; otherwise nil.
func (p *Pages) there(addresses []int64) ([]frameID, []*keptFrame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted, err := p.framesOf(addresses)
	if err != nil {
		return nil, nil
	}
	for _, id := range wanted {
		f := p.frames[id]
		if f == nil {
			return nil, nil
		}
		select {
		case <-f.done:
		default:
			return nil, nil
		}
	}
	return wanted, p.takeFrames(wanted, false)
}

// give appends a frame's chunks to out, for a reader that then no longer needs the frame. The last reader of a frame that belongs to one
// file gets the chunks themselves, which are in that file from now on. All others get copies.
func (p *Pages) give(out []memfs.Fetched, id frameID, f *keptFrame) []memfs.Fetched {
	p.mu.Lock()
	s := f.s
	first := id.segment<<addressBits | int64(id.frame)*s.per
	away := f.wanted == 1 && !s.shared[id.frame] && p.frames[id] == f
	if away {
		p.drop(id)
	}
	p.mu.Unlock()
	for i, data := range f.chunks {
		if !away {
			data = new([memfs.ChunkSize]byte)
			*data = *f.chunks[i]
		}
		out = append(out, memfs.Fetched{Address: first + int64(i), Data: data})
	}
	p.leave([]*keptFrame{f}) // only after copying: the file that gets the chunks themselves may write to them
	return out
}

// drop drops a fetched frame. p.mu is held.
func (p *Pages) drop(id frameID) {
	p.kept -= int64(len(p.frames[id].chunks)) * memfs.ChunkSize
	delete(p.frames, id)
	if i := slices.Index(p.order, id); i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
	}
}

// take returns the frames, which may still be in flight, and requests those that are neither fetched nor in flight.
func (p *Pages) take(addresses []int64, ahead bool) ([]frameID, []*keptFrame, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted, err := p.framesOf(addresses)
	if err != nil {
		return nil, nil, err
	}
	return wanted, p.takeFrames(wanted, ahead), nil
}

// takeFrames does the work of take. p.mu is held.
func (p *Pages) takeFrames(wanted []frameID, ahead bool) []*keptFrame {
	out := make([]*keptFrame, len(wanted))
	var ask []frameID
	for i, id := range wanted {
		f := p.frames[id]
		if !ahead && p.noted != nil {
			p.noted[id] = true
		}
		switch {
		case f == nil:
			f = &keptFrame{s: p.segments[id.segment], done: make(chan struct{}), ahead: ahead}
			p.frames[id] = f
			ask = append(ask, id)
			if p.counts.Frames++; ahead {
				p.counts.Ahead++
			} else {
				p.counts.Waited++
			}
		case !ahead:
			if f.ahead {
				f.ahead = false
				p.counts.AheadUsed++
			}
			p.touch(id)
		}
		if out[i] = f; !ahead {
			f.wanted++
		}
	}
	for len(ask) > 0 {
		n := p.inOneRequest(ask)
		p.begin(ask[:n])
		ask = ask[n:]
	}
	return out
}

// touch makes a frame the most recently used one. p.mu is held.
func (p *Pages) touch(id frameID) {
	if i := slices.Index(p.order, id); i >= 0 {
		p.order = append(slices.Delete(p.order, i, i+1), id)
	}
}

// inOneRequest returns how many of the frames, which are in order, one request reads. p.mu is held.
func (p *Pages) inOneRequest(ask []frameID) int {
	s := p.frames[ask[0]].s
	bytes := int64(s.frames[ask[0].frame].size)
	n := 1
	for ; n < len(ask) && ask[n].segment == ask[0].segment && ask[n].frame == ask[n-1].frame+1; n++ {
		if bytes += int64(s.frames[ask[n].frame].size); bytes > requestBytes {
			break
		}
	}
	return n
}

// begin fetches consecutive frames. p.mu is held.
func (p *Pages) begin(ask []frameID) {
	s, frames := p.frames[ask[0]].s, make([]*keptFrame, len(ask))
	for i, id := range ask {
		frames[i] = p.frames[id]
	}
	ids := slices.Clone(ask)
	p.ahead.Go(func() {
		got, err := p.get(s, ids[0].frame, len(ids))
		p.mu.Lock()
		defer p.mu.Unlock()
		for i, f := range frames {
			if f.err = err; err == nil {
				f.chunks = got[i]
				p.keep(ids[i], f)
			} else {
				delete(p.frames, ids[i]) // the next reader requests it again
			}
			close(f.done)
		}
		if err != nil {
			p.counts.Errors++
		}
	})
}

// keep keeps a frame, and drops others. p.mu is held.
func (p *Pages) keep(id frameID, f *keptFrame) {
	p.order = append(p.order, id)
	p.kept += int64(len(f.chunks)) * memfs.ChunkSize
	for p.kept > p.o.KeepBytes && len(p.order) > 1 {
		// Used frames go first: their chunks are in a file by now, those of frames fetched ahead are not.
		i := max(0, slices.IndexFunc(p.order, func(id frameID) bool { return !p.frames[id].ahead }))
		p.drop(p.order[i])
	}
}

// get fetches consecutive frames of a segment, and retries after transient errors.
func (p *Pages) get(s *pageSegment, first, n int) ([][]*[memfs.ChunkSize]byte, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	if err := p.flight.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer p.flight.Release(1)
	ends := p.o.Clock.Monotonic() + p.o.Patience
	pause, damaged := firstPause, false
	for {
		got, err := p.try(ctx, s, first, n)
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, store.ErrCorrupt) && !damaged:
			damaged = true // perhaps only in transit
			continue
		case !passes(err) || p.o.Clock.Monotonic()+pause > ends:
			return nil, err
		}
		if sleepErr := p.o.Clock.Sleep(ctx, pause); sleepErr != nil {
			return nil, errors.Join(err, sleepErr)
		}
		pause = min(2*pause, maxPause)
	}
}

// passes reports whether an error of the store may be transient, so that a retry makes sense.
func passes(err error) bool {
	return !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDenied) && !errors.Is(err, store.ErrInvalid) &&
		!errors.Is(err, store.ErrCorrupt) && !errors.Is(err, context.Canceled)
}

// try makes one request.
func (p *Pages) try(ctx context.Context, s *pageSegment, first, n int) ([][]*[memfs.ChunkSize]byte, error) {
	last := first + n - 1
	from, to := s.offsets[first], s.offsets[last]+int64(s.frames[last].size)
	body, err := p.piece(ctx, s.key, from, to-from)
	if err != nil {
		return nil, fmt.Errorf("get frames %d to %d: %w", first, last, err)
	}
	got := make([][]*[memfs.ChunkSize]byte, n)
	for i := range got {
		size := s.frames[first+i].size
		if len(body) < size {
			return nil, fmt.Errorf("segment %q: %w: it ends in frame %d", s.key, ErrCorrupt, first+i)
		}
		if got[i], err = p.decode(s, first+i, body[:size]); err != nil {
			return nil, fmt.Errorf("segment %q: %w", s.key, err)
		}
		body = body[size:]
	}
	return got, nil
}

// decode checks and decompresses a frame, into separately allocated chunks.
func (p *Pages) decode(s *pageSegment, n int, stored []byte) ([]*[memfs.ChunkSize]byte, error) {
	if got := checksum(stored); got != s.frames[n].crc {
		return nil, fmt.Errorf("%w: frame %d has checksum %08x, want %08x", ErrCorrupt, n, got, s.frames[n].crc)
	}
	want := int(min(s.per, s.chunks-int64(n)*s.per)) * memfs.ChunkSize
	scratch, _ := p.scratch.Get().(*[]byte)
	if scratch == nil || cap(*scratch) < want {
		b := make([]byte, 0, want)
		scratch = &b
	}
	raw, err := p.z.DecodeAll(stored, (*scratch)[:0:want])
	defer func() { p.scratch.Put(scratch) }()
	if err != nil || len(raw) != want {
		return nil, fmt.Errorf("%w: frame %d does not decompress to %d bytes (%d, %v)", ErrCorrupt, n, want, len(raw), err)
	}
	chunks := make([]*[memfs.ChunkSize]byte, want/memfs.ChunkSize)
	for i := range chunks {
		chunks[i] = new([memfs.ChunkSize]byte)
		copy(chunks[i][:], raw[i*memfs.ChunkSize:])
	}
	return chunks, nil
}

// piece reads a piece of an object.
func (p *Pages) piece(ctx context.Context, key string, off, n int64) ([]byte, error) {
	var o store.Object
	var err error
	if ranges, ok := p.st.(store.RangeGetter); ok {
		o, err = ranges.GetRange(ctx, key, off, n)
	} else if o, err = p.st.Get(ctx, key); err == nil {
		o.Body = o.Body[min(off, int64(len(o.Body))):min(off+n, int64(len(o.Body)))]
	}
	if err == nil {
		p.mu.Lock()
		p.counts.Requests++
		p.counts.Bytes += int64(len(o.Body))
		p.mu.Unlock()
	}
	return o.Body, err
}
