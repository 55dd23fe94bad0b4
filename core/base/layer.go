package base

import "blobpglite/core/memfs"

// Layer is the content of a layer's index. It does not change, and is safe for concurrent use.
type Layer struct {
	key   string
	index *index
	size  int64    // of the index object
	inos  []uint64 // of a layer that was just written: each entry's file number in the tree; 0: the entry is not a file
}

// Key returns the key of the layer, without /index.
func (l *Layer) Key() string { return l.key }

// Segments returns the keys of the page segments that the layer needs; none for format 1, whose parts are the layer's own.
func (l *Layer) Segments() []string {
	var keys []string
	for i := range l.index.segments {
		if s := &l.index.segments[i]; !s.part {
			keys = append(keys, s.key())
		}
	}
	return keys
}

// Objects returns the keys of all objects that the layer needs except its index: page segments, or its own parts.
func (l *Layer) Objects() []string {
	keys := make([]string, len(l.index.segments))
	for i := range keys {
		keys[i] = l.index.segments[i].key()
	}
	return keys
}

// ObjectBytes returns the sizes of Objects, by key.
func (l *Layer) ObjectBytes() map[string]int64 {
	sizes := make(map[string]int64, len(l.index.segments))
	for i := range l.index.segments {
		s := &l.index.segments[i]
		sizes[s.key()] = s.size
	}
	return sizes
}

// Use says how much of its objects a layer uses.
type Use struct {
	Segments    int   // page segments, or parts
	StoredBytes int64 // of these and of the index
	Chunks      int64 // in the segments
	LiveChunks  int64 // of these, those that the layer uses
	LiveBytes   int64 // of StoredBytes: the index, and of each object the share of its chunks that is used
}

// Use returns how much of its objects the layer uses.
func (l *Layer) Use() Use {
	u := Use{Segments: len(l.index.segments), StoredBytes: l.size, LiveBytes: l.size, Chunks: l.index.end()}
	for i := range l.index.segments {
		s := &l.index.segments[i]
		u.StoredBytes += s.size
		u.LiveChunks += s.live
		if s.chunks > 0 {
			u.LiveBytes += s.size * s.live / s.chunks
		}
	}
	return u
}

// IndexBytes returns the stored size of its index.
func (l *Layer) IndexBytes() int64 { return l.size }

// RawBytes returns the size of its chunks, uncompressed.
func (l *Layer) RawBytes() int64 { return l.index.liveChunks() * memfs.ChunkSize }

// HasBootSet reports whether the layer's index names frames that an opening fetches immediately, in addition to what it needs.
func (l *Layer) HasBootSet() bool { return len(l.index.boot) > 0 }

// shares reports whether other layers may use its segments.
func (l *Layer) shares() bool {
	return l != nil && (len(l.index.segments) == 0 || !l.index.segments[0].part)
}

// Place is the piece of an object that holds a page.
type Place struct {
	Object         string
	Offset, Length int64
}

// Place returns where a chunk of a file is, by the file's path in the tree; false: the layer has no such chunk.
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
