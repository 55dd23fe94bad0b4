package base

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"blobpglite/core/store"
)

// Verified remembers what calls of Verify found intact, so that a segment shared by several layers is read only for the first. The zero
// value is ready to use.
type Verified struct {
	mu       sync.Mutex
	segments map[string]verifiedSegment // by key
}

// verifiedSegment is a segment as an index describes it, and as it was found.
type verifiedSegment struct {
	frameBytes int
	chunks     int64
	frames     []frame
	used       []bool // for each frame, whether it was decompressed
}

// has reports whether a segment that an index describes, and of which it uses these frames, was found intact.
func (v *Verified) has(x *index, s *segment, used []bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	known, ok := v.segments[s.key()]
	if !ok || known.frameBytes != x.frameBytes || known.chunks != s.chunks || !slices.Equal(known.frames, s.frames) {
		return false
	}
	for i := range used {
		if used[i] && !known.used[i] {
			return false
		}
	}
	return true
}

// found notes that these frames of a segment are intact.
func (v *Verified) found(x *index, s *segment, used []bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.segments == nil {
		v.segments = map[string]verifiedSegment{}
	}
	v.segments[s.key()] = verifiedSegment{x.frameBytes, s.chunks, s.frames, used}
}

// skipped returns which segments need not be read, because they were found intact before, and the chunks in them that the layer uses.
func (v *Verified) skipped(x *index, used [][]bool, head int64) (skip []bool, live int64) {
	skip = make([]bool, len(x.segments))
	for i := range skip {
		s := &x.segments[i]
		if skip[i] = v.has(x, s, used[i]) && (head < s.first || head >= s.first+s.chunks); skip[i] {
			live += s.live
		}
	}
	return skip, live
}

// usedFrames returns, for each segment's frames, whether a file has chunks in them.
func (x *index) usedFrames() [][]bool {
	used := make([][]bool, len(x.segments))
	for i := range used {
		used[i] = make([]bool, len(x.segments[i].frames))
	}
	for n := range x.entries {
		for _, r := range x.entries[n].runs {
			x.split(r.at, r.count, func(segment int, at, count int64) {
				first := x.segments[segment].first
				for f := (at - first) / x.frameChunks(); f <= (at+count-1-first)/x.frameChunks(); f++ {
					used[segment][f] = true
				}
			})
		}
	}
	return used
}

// Verify reads a whole layer and keeps nothing: it checks the index, every frame's checksum, and that each used frame decompresses to what
// the index says. Segments in ReadOptions.Verified are not read again. Errors: those of Read that do not concern a tree; an error names the
// first fault.
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
	if v := o.Verified; v != nil {
		used := l.index.usedFrames()
		r.skip, r.skippedChunks = v.skipped(l.index, used, head)
		r.sound = func(n int) { v.found(l.index, &l.index.segments[n], used[n]) }
	}
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

// headChunk returns the address of the first chunk of the file HeadOf; negative: there is none.
func (r *reader) headChunk() int64 {
	for i := range r.index.entries {
		e := &r.index.entries[i]
		if r.o.Head != nil && "/"+e.path == r.o.HeadOf && len(e.runs) > 0 && e.runs[0].first == 0 {
			return e.runs[0].at
		}
	}
	return -1
}
