package base

import "blobpglite/core/memfs"

// Layer is what a layer's index says. It does not change, and may be shared between goroutines.
type Layer struct {
	key   string
	index *index
	size  int64    // of the index object
	inos  []uint64 // of the files of a layer that was just written, for each entry; 0: it is none
}

// Key is the layer's.
func (l *Layer) Key() string { return l.key }

// Segments are the keys of the page segments that the layer needs; none of one of format 1, whose parts are its own.
func (l *Layer) Segments() []string {
	var keys []string
	for i := range l.index.segments {
		if s := &l.index.segments[i]; !s.part {
			keys = append(keys, s.key())
		}
	}
	return keys
}

// Objects are the keys of all that it needs beside its index: page segments, or its own parts.
func (l *Layer) Objects() []string {
	keys := make([]string, len(l.index.segments))
	for i := range keys {
		keys[i] = l.index.segments[i].key()
	}
	return keys
}

// Use says how much of what is stored for a layer it uses.
type Use struct {
	Segments    int   // page segments, or parts
	StoredBytes int64 // of these and of the index
	Chunks      int64 // in them
	LiveChunks  int64 // of these, the layer's
}

// Use of the layer's objects.
func (l *Layer) Use() Use {
	u := Use{Segments: len(l.index.segments), StoredBytes: l.size, Chunks: l.index.end()}
	for i := range l.index.segments {
		s := &l.index.segments[i]
		u.StoredBytes += s.size
		u.LiveChunks += s.live
	}
	return u
}

// RawBytes are those of its chunks, uncompressed.
func (l *Layer) RawBytes() int64 { return l.index.liveChunks() * memfs.ChunkSize }

// shares says whether its segments may be named by another layer.
func (l *Layer) shares() bool {
	return l != nil && (len(l.index.segments) == 0 || !l.index.segments[0].part)
}

// Place is the piece of an object that a page is in.
type Place struct {
	Object         string
	Offset, Length int64
}

// Place says where a chunk of a file is, by its path in the tree; false: the layer has none there.
func (l *Layer) Place(path string, chunk int64) (Place, bool) {
	for i := range l.index.entries {
		e := &l.index.entries[i]
		if e.kind != kindFile || "/"+e.path != path {
			continue
		}
		at := (&lookup{runs: e.runs}).find(chunk)
		if at < 0 {
			return Place{}, false
		}
		ref := l.index.frameAt(at)
		s := &l.index.segments[ref.segment]
		p := Place{Object: s.key()}
		for _, f := range s.frames[:ref.frame] {
			p.Offset += int64(f.size)
		}
		p.Length = int64(s.frames[ref.frame].size)
		return p, true
	}
	return Place{}, false
}
