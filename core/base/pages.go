package base

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	// KeepBytes is how much of what was fetched is kept uncompressed for whoever wants it next, what is fetched ahead included; 0: DefaultKeepBytes.
	KeepBytes int64
	// Patience is how long an object is asked for again after errors that pass; 0: DefaultPatience.
	Patience time.Duration
	// Fetched hears of chunks that were given to somebody: they are in memory from now on. It must not block. Nil: nobody.
	Fetched func(bytes int64)
	Clock   clock.Clock // nil: the system's
}

const (
	// DefaultPagesParallel of PagesOptions.
	DefaultPagesParallel = 32
	// DefaultKeepBytes of PagesOptions: two windows of reading ahead that keep as many requests under way as an eager restore does.
	DefaultKeepBytes = 128 << 20
	// DefaultPatience of PagesOptions.
	DefaultPatience = 20 * time.Second

	// requestBytes is how much of a segment one request asks for at most, where several frames in a row are wanted.
	requestBytes = 2 << 20
	// addressBits of an address are the chunk's number in its segment, those above the segment's.
	addressBits = 32
)

// Pages gives the chunks of layers one by one: it is the memfs.Source of a tree that Open has filled, and stays so for the layers that are
// written of it later. Where a chunk is, an address says, which is the same for all layers that share the segment.
//
// What is given is what was written: a frame whose checksum is wrong is asked for once more, and is an error then, never in anybody's file.
// It may be used from any goroutine. Close ends what is under way.
type Pages struct {
	st      store.Store
	o       PagesOptions
	z       *zstd.Decoder
	ctx     context.Context
	stop    context.CancelFunc
	ahead   sync.WaitGroup
	flight  *semaphore.Weighted
	scratch sync.Pool // of *[]byte, for what is decompressed

	mu       sync.Mutex
	ids      map[string]int64 // of segments, by their keys
	segments []*pageSegment   // by id
	frames   map[frameID]*keptFrame
	order    []frameID // of frames that are there, the one wanted longest ago first
	kept     int64
	counts   PageCounts
	lost     map[string]bool  // segments that are damaged or gone, as was found out when they were to be cleaned
	noted    map[frameID]bool // what was wanted since it was made; nil: that is not noted any more
}

// PageCounts are what Pages has done since it was made.
type PageCounts struct {
	Requests, Bytes int64 // of the store
	Frames          int64 // fetched
	Waited          int64 // of these, somebody waited for
	Ahead           int64 // of these, fetched ahead
	AheadUsed       int64 // of these, wanted later
	Errors          int64 // that did not pass
}

type pageSegment struct {
	key     string
	chunks  int64
	per     int64 // chunks in a frame
	frames  []frame
	offsets []int64
	shared  []bool // of each frame, whether more than one file has chunks in it
}

type frameID struct {
	segment int64
	frame   int
}

// keptFrame is a frame that was fetched, or is on its way.
type keptFrame struct {
	done   chan struct{} // closed when it is there, or failed
	chunks []*[memfs.ChunkSize]byte
	err    error
	ahead  bool // nobody has wanted it yet
	wanted int  // how many are about to be given it
}

// NewPages is for a database's store.
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
	p := &Pages{st: st, o: o, z: z, ids: map[string]int64{}, frames: map[frameID]*keptFrame{}, lost: map[string]bool{}, noted: map[frameID]bool{}, flight: semaphore.NewWeighted(int64(o.Parallel))}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p, nil
}

// Close ends what is under way, and waits for it.
func (p *Pages) Close() {
	p.stop()
	p.ahead.Wait()
	p.z.Close()
}

// Counts since it was made.
func (p *Pages) Counts() PageCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// add makes a layer's segments known, and gives each its id.
func (p *Pages) add(x *index) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]int64, len(x.segments))
	for i := range x.segments {
		s := &x.segments[i]
		id, known := p.ids[s.key()]
		if !known {
			id = int64(len(p.segments))
			p.ids[s.key()] = id
			p.segments = append(p.segments, newPageSegment(x, s))
		}
		ids[i] = id
	}
	for i, files := range x.filesOfFrames() {
		if s := p.segments[ids[i]]; s.shared == nil {
			s.shared = files
		}
	}
	return ids
}

// filesOfFrames says of each segment's frames whether more than one file has chunks in them.
func (x *index) filesOfFrames() [][]bool {
	const nobody = -1
	owner, shared := make([][]int, len(x.segments)), make([][]bool, len(x.segments))
	for i := range owner {
		owner[i], shared[i] = slices.Repeat([]int{nobody}, len(x.segments[i].frames)), make([]bool, len(x.segments[i].frames))
	}
	for n := range x.entries {
		for _, r := range x.entries[n].runs {
			x.split(r.at, r.count, func(segment int, at, count int64) {
				from := (at - x.segments[segment].first) / x.frameChunks()
				to := (at + count - 1 - x.segments[segment].first) / x.frameChunks()
				for f := from; f <= to; f++ {
					shared[segment][f] = shared[segment][f] || owner[segment][f] != nobody && owner[segment][f] != n
					owner[segment][f] = n
				}
			})
		}
	}
	return shared
}

func newPageSegment(x *index, s *segment) *pageSegment {
	ps := &pageSegment{key: s.key(), chunks: s.chunks, per: x.frameChunks(), frames: s.frames, offsets: make([]int64, len(s.frames))}
	at := int64(0)
	for i, f := range s.frames {
		ps.offsets[i] = at
		at += int64(f.size)
	}
	return ps
}

// locate is where an address is: the segment's key, and the chunk in it; empty: nowhere.
func (p *Pages) locate(address int64) (key string, chunk int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, chunk := address>>addressBits, address&(1<<addressBits-1)
	if id < 0 || id >= int64(len(p.segments)) || chunk >= p.segments[id].chunks {
		return "", 0
	}
	return p.segments[id].key, chunk
}

// frameOf is the frame that an address is in.
func (p *Pages) frameOf(address int64) (frameID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, chunk := address>>addressBits, address&(1<<addressBits-1)
	if id < 0 || id >= int64(len(p.segments)) || chunk >= p.segments[id].chunks {
		return frameID{}, fmt.Errorf("%w: there is no chunk %#x", store.ErrInvalid, address)
	}
	return frameID{id, int(chunk / p.segments[id].per)}, nil
}

// Fetch implements memfs.Source. Whole frames are given. Errors: ErrCorrupt, store.ErrNotFound (the segment is gone: no layer needs it that
// is still kept), the store's where they did not pass, the context's.
func (p *Pages) Fetch(ctx context.Context, addresses []int64) ([]memfs.Fetched, error) {
	wanted, err := p.framesOf(addresses)
	if err != nil {
		return nil, err
	}
	flights := p.take(wanted, false)
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
	wanted, err := p.framesOf(addresses)
	if err != nil {
		return nil, false
	}
	flights := p.there(wanted)
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

// leave is for frames that are not wanted any more.
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
	if wanted, err := p.framesOf(addresses); err == nil {
		p.take(wanted, true)
	}
}

// Room implements memfs.RoomySource.
func (p *Pages) Room() int64 { return p.o.KeepBytes / 2 }

// there are the frames if all of them are there; nil: they are not.
func (p *Pages) there(wanted []frameID) []*keptFrame {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range wanted {
		f := p.frames[id]
		if f == nil {
			return nil
		}
		select {
		case <-f.done:
		default:
			return nil
		}
	}
	return p.takeLocked(wanted, false)
}

// framesOf are the frames of addresses, each once, in order.
func (p *Pages) framesOf(addresses []int64) ([]frameID, error) {
	var out []frameID
	for _, a := range addresses {
		id, err := p.frameOf(a)
		if err != nil {
			return nil, err
		}
		if len(out) == 0 || out[len(out)-1] != id {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b frameID) int {
		if a.segment != b.segment {
			return int(a.segment - b.segment)
		}
		return a.frame - b.frame
	})
	return slices.Compact(out), nil
}

// give gives a frame's chunks, which is not wanted by this caller any more then. Those of a frame that holds one file only are given away
// to the last who wants them: they are in that file from now on. Of others copies are given.
func (p *Pages) give(out []memfs.Fetched, id frameID, f *keptFrame) []memfs.Fetched {
	p.mu.Lock()
	s := p.segments[id.segment]
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
	p.leave([]*keptFrame{f}) // until here it is wanted: who is given the chunks themselves writes to them
	return out
}

// drop lets a frame go that is there. p.mu is held.
func (p *Pages) drop(id frameID) {
	p.kept -= int64(len(p.frames[id].chunks)) * memfs.ChunkSize
	delete(p.frames, id)
	if i := slices.Index(p.order, id); i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
	}
}

// Noted are addresses in the frames that were wanted since the Pages were made, the first time that it is asked: what a wake needs. From
// then on nothing is noted.
func (p *Pages) Noted() (addresses []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.noted {
		addresses = append(addresses, id.segment<<addressBits|int64(id.frame)*p.segments[id.segment].per)
	}
	p.noted = nil
	slices.Sort(addresses)
	return addresses
}

// refs are the frames of an index that addresses are in.
func (p *Pages) refs(x *index, addresses []int64) (refs []frameRef) {
	number := map[string]int{}
	for i := range x.segments {
		number[x.segments[i].key()] = i
	}
	for _, a := range addresses {
		key, chunk := p.locate(a)
		if i, ok := number[key]; ok {
			refs = append(refs, frameRef{i, int(chunk / x.frameChunks())})
		}
	}
	slices.SortFunc(refs, func(a, b frameRef) int { return cmp.Or(a.segment-b.segment, a.frame-b.frame) })
	return slices.Compact(refs)
}

// unreadable looks which segments cannot be read, given addresses that are wanted of each, and remembers them. An error is one that may pass.
func (p *Pages) unreadable(ctx context.Context, wanted map[string][]int64) (found map[string]error, err error) {
	found = map[string]error{}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		for batch := range slices.Chunk(wanted[key], openBatch) {
			if _, err = p.Fetch(ctx, batch); err != nil {
				break
			}
		}
		switch {
		case damage(err):
			found[key] = err
			p.mu.Lock()
			p.lost[key] = true
			p.mu.Unlock()
		case err != nil:
			return found, err
		}
	}
	return found, nil
}

// unread are the segments of an index that are known to be unreadable. On nil there are none.
func (p *Pages) unread(x *index) map[int]bool {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lost) == 0 {
		return nil
	}
	lost := map[int]bool{}
	for i := range x.segments {
		if p.lost[x.segments[i].key()] {
			lost[i] = true
		}
	}
	return lost
}

// take gives the frames, those too that are still on their way, and asks for what is neither there nor on its way.
func (p *Pages) take(wanted []frameID, ahead bool) []*keptFrame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeLocked(wanted, ahead)
}

func (p *Pages) takeLocked(wanted []frameID, ahead bool) []*keptFrame {
	out := make([]*keptFrame, len(wanted))
	var ask []frameID
	for i, id := range wanted {
		f := p.frames[id]
		if !ahead && p.noted != nil {
			p.noted[id] = true
		}
		switch {
		case f == nil:
			f = &keptFrame{done: make(chan struct{}), ahead: ahead}
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

// touch makes a frame the one that was wanted last. p.mu is held.
func (p *Pages) touch(id frameID) {
	if i := slices.Index(p.order, id); i >= 0 {
		p.order = append(slices.Delete(p.order, i, i+1), id)
	}
}

// inOneRequest is how many of the frames, which are in order, one request asks for. p.mu is held.
func (p *Pages) inOneRequest(ask []frameID) int {
	s := p.segments[ask[0].segment]
	bytes := int64(s.frames[ask[0].frame].size)
	n := 1
	for ; n < len(ask) && ask[n].segment == ask[0].segment && ask[n].frame == ask[n-1].frame+1; n++ {
		if bytes += int64(s.frames[ask[n].frame].size); bytes > requestBytes {
			break
		}
	}
	return n
}

// begin fetches frames in a row. p.mu is held.
func (p *Pages) begin(ask []frameID) {
	s, frames := p.segments[ask[0].segment], make([]*keptFrame, len(ask))
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
				delete(p.frames, ids[i]) // who asks next asks again
			}
			close(f.done)
		}
		if err != nil {
			p.counts.Errors++
		}
	})
}

// keep keeps a frame, and lets others go. p.mu is held.
func (p *Pages) keep(id frameID, f *keptFrame) {
	p.order = append(p.order, id)
	p.kept += int64(len(f.chunks)) * memfs.ChunkSize
	for p.kept > p.o.KeepBytes && len(p.order) > 1 {
		// What was wanted is in somebody's file by now; what was fetched ahead is not.
		i := max(0, slices.IndexFunc(p.order, func(id frameID) bool { return !p.frames[id].ahead }))
		p.drop(p.order[i])
	}
}

// get fetches frames in a row of a segment, and asks again while errors pass.
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
			damaged = true // on its way, perhaps
			continue
		case !passes(err) || p.o.Clock.Monotonic()+pause > ends:
			return nil, err
		}
		if sleepErr := p.o.Clock.Sleep(ctx, pause); sleepErr != nil {
			return nil, errors.Join(err, sleepErr)
		}
		pause = min(2*pause, 16*firstPause)
	}
}

// passes says whether an error of the store may be another one the next time.
func passes(err error) bool {
	return !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDenied) && !errors.Is(err, store.ErrInvalid) &&
		!errors.Is(err, store.ErrCorrupt) && !errors.Is(err, context.Canceled)
}

// try asks once.
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

// decode checks and decompresses a frame, into chunks of their own.
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
