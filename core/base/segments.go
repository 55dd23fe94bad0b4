package base

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
)

// add registers a layer's segments, and returns their ids.
func (p *Pages) add(x *index) []int64 {
	shared := x.filesOfFrames()
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]int64, len(x.segments))
	for i := range x.segments {
		s := &x.segments[i]
		id, known := p.ids[s.key()]
		if !known {
			id = p.next
			p.next++
			p.ids[s.key()], p.segments[id] = id, newPageSegment(x, s)
		}
		ids[i] = id
	}
	for i, files := range shared {
		if s := p.segments[ids[i]]; s.shared == nil {
			s.shared = files
		}
	}
	return ids
}

// Forget drops what is known about segments that a layer does not need; no file may refer to them any more. A read that has just looked for
// a page there must look again where the page is now.
func (p *Pages) Forget(keep *Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	needed := make(map[string]bool, len(keep.index.segments))
	for i := range keep.index.segments {
		needed[keep.index.segments[i].key()] = true
	}
	for key, id := range p.ids {
		if !needed[key] {
			delete(p.ids, key)
			delete(p.segments, id)
			delete(p.lost, key)
		}
	}
	p.order = slices.DeleteFunc(p.order, func(id frameID) bool {
		f := p.frames[id]
		if p.segments[id.segment] != nil {
			return false
		}
		p.kept -= int64(len(f.chunks)) * memfs.ChunkSize
		delete(p.frames, id)
		return true
	})
	for id := range p.noted {
		if p.segments[id.segment] == nil {
			delete(p.noted, id)
		}
	}
}

// filesOfFrames returns, for each frame of each segment, whether more than one file has chunks in it.
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

// placesIn returns where an index has each segment, by its ID in p. A nil p has none.
func (p *Pages) placesIn(x *index) map[int64]int64 {
	places := map[int64]int64{}
	if p == nil {
		return places
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range x.segments {
		if id, known := p.ids[x.segments[i].key()]; known {
			places[id] = x.segments[i].first
		}
	}
	return places
}

// locate returns the key of an address's segment, and the chunk in it; empty: there is no such segment.
func (p *Pages) locate(address int64) (key string, chunk int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, chunk := address>>addressBits, address&(1<<addressBits-1)
	s := p.segments[id]
	if s == nil || chunk >= s.chunks {
		return "", 0
	}
	return s.key, chunk
}

// frameOf returns the frame that holds an address. p.mu is held.
func (p *Pages) frameOf(address int64) (frameID, error) {
	id, chunk := address>>addressBits, address&(1<<addressBits-1)
	s := p.segments[id]
	if s == nil || chunk >= s.chunks {
		return frameID{}, fmt.Errorf("%w: there is no chunk %#x", store.ErrInvalid, address)
	}
	return frameID{id, int(chunk / s.per)}, nil
}

// framesOf returns the frames of addresses, each once, in order. p.mu is held.
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

// Noted returns, at its first call, addresses in all frames that were used since p was made: what a cold start needs. After that nothing is
// noted, and it returns nothing.
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

// refs returns the frames of an index that hold addresses.
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

// unreadable finds out which segments cannot be read, given the addresses needed in each, and remembers them. An error is one that may be
// transient.
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
			p.lost[key] = p.o.Clock.Monotonic()
			p.mu.Unlock()
		case err != nil:
			return found, err
		}
	}
	return found, nil
}

// lostFor is how long a segment that could not be read is left alone; then it is tried again, because it may have been restored.
const lostFor = time.Hour

// unread returns the segments of an index that are known to be unreadable. A nil p knows none.
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
		if at, known := p.lost[x.segments[i].key()]; known && p.o.Clock.Monotonic()-at < lostFor {
			lost[i] = true
		}
	}
	return lost
}
