package base

import (
	"bytes"
	"cmp"
	"errors"
	iofs "io/fs"
	"os"
	"slices"
	"strings"

	"blobpglite/core/memfs"
)

// plan is a layer before it is compressed: the index, still without new segments, and a view of each chunk that goes into these.
type plan struct {
	index   index
	views   []view
	early   []int64            // addresses of new chunks that replace ones in the boot set
	inos    []uint64           // each entry's file number; 0: not a file
	cleaned int64              // of the new chunks, how many the previous layer has too
	brought map[string][]int64 // by the segment that they are cleaned out of, addresses of Pages of those that are away
}

// view is a chunk.
type view struct {
	data []byte // nil: it is away
	at   int64  // if away: its address of Pages
	was  int64  // address in the previous layer of what the file had there; negative: nothing, or unknown
}

func (p *plan) frame(n int) []view {
	per := int(p.index.frameChunks())
	return p.views[n*per : min((n+1)*per, len(p.views))]
}

// piece is a sequence of chunks of a file that are all new, or all at consecutive addresses in the previous layer.
type piece struct {
	entry        int
	first, count int64
	at           int64 // address in the previous layer; negative: new
}

// planner looks at the files.
type planner struct {
	src    *memfs.FS
	o      WriteOptions
	old    map[string]*entry // of the layer to share with
	before *index
	places map[int64]int64 // in before, of segments of Pages by ID
	inos   []uint64
	links  map[uint64]string
	list   []entry
	pieces []piece
	fresh  []view // of the new pieces, in order
}

func planTree(src *memfs.FS, o WriteOptions) (*plan, error) {
	pl := &planner{src: src, o: o, links: map[uint64]string{}, old: map[string]*entry{}}
	before := &index{frameBytes: o.FrameBytes}
	if o.Share.shares() && o.Share.index.frameBytes == o.FrameBytes {
		before = o.Share.index
		runs := 0
		for i := range before.entries {
			if e := &before.entries[i]; e.kind == kindFile && len(e.runs) > 0 {
				pl.old[e.path] = e
				runs += len(e.runs)
			}
		}
		pl.pieces = make([]piece, 0, runs+runs/8)
	}
	pl.before, pl.places = before, o.Pages.placesIn(before)
	err := src.Walk("/", func(path string, info memfs.Info) error {
		if path != "/" && o.Include != nil && !o.Include(path, info) {
			if info.IsDir() {
				return iofs.SkipDir
			}
			return nil
		}
		return pl.add(path, info)
	})
	if err != nil {
		return nil, err
	}
	p := &plan{index: index{frameBytes: o.FrameBytes, entries: pl.list}, inos: pl.inos, brought: map[string][]int64{}}
	return p, p.assign(pl)
}

func (pl *planner) add(path string, info memfs.Info) (err error) {
	e := entry{kind: kindDir, path: strings.TrimPrefix(path, "/"), perm: info.Mode &^ memfs.ModeType, mtime: info.Mtime.UnixNano()}
	file := false
	switch {
	case info.IsSymlink():
		e.kind = kindSymlink
		e.target, err = pl.src.Readlink(path)
	case info.IsRegular() && pl.links[info.Ino] != "":
		e.kind, e.target = kindLink, pl.links[info.Ino]
	case info.IsRegular():
		e.kind, e.size, file = kindFile, info.Size, true
		if info.Nlink > 1 {
			pl.links[info.Ino] = e.path
		}
	}
	pl.list, pl.inos = append(pl.list, e), append(pl.inos, 0)
	if file {
		pl.inos[len(pl.inos)-1] = info.Ino
		return pl.addFile(path, pl.old[e.path])
	}
	return err
}

// addFile adds a file's chunks that are not all zeros.
func (pl *planner) addFile(path string, old *entry) error {
	f, err := pl.src.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	first, end := int64(0), int64(0)
	if pl.o.LeaveOut != nil {
		first, end = pl.o.LeaveOut(path)
	}
	before, was := lookup{}, lookup{}
	if old != nil {
		was.runs = old.runs
	}
	if old != nil && path != pl.o.Rewrite {
		before.runs = old.runs
		for chunk := range pl.src.ChangedSince(path, pl.o.Since) {
			before.changed = append(before.changed, chunk)
		}
	}
	for chunk, last := int64(0), (f.Stat().Size+memfs.ChunkSize-1)/memfs.ChunkSize; chunk < last; {
		if at, n := before.same(chunk, last); n > 0 && (chunk >= end || chunk+n <= first) {
			pl.addChunks(chunk, n, at)
			chunk += n
			continue
		}
		if c, ok := f.Piece(chunk); ok && (chunk < first || chunk >= end) {
			pl.addPiece(chunk, c, &before, &was, path == pl.o.Rewrite)
		}
		chunk++
	}
	return f.Close()
}

// addPiece adds a chunk, if it is not all zeros.
func (pl *planner) addPiece(chunk int64, c memfs.Piece, before, was *lookup, rewrite bool) {
	at := int64(-1)
	switch {
	case rewrite:
	case c.Address >= 0 && pl.o.Pages != nil:
		at = pl.shared(c.Address)
	default:
		at = before.find(chunk)
	}
	if at >= 0 {
		pl.addChunks(chunk, 1, at)
		return
	}
	if c.Data != nil && bytes.Equal(c.Data, zeros[:len(c.Data)]) {
		return
	}
	pl.addChunks(chunk, 1, -1)
	pl.fresh = append(pl.fresh, view{data: c.Data, at: c.Address, was: was.find(chunk)})
}

// zeros is a chunk that is not stored.
var zeros [memfs.ChunkSize]byte

// shared returns the address in the previous layer of a chunk of Pages; negative: that layer does not have it.
func (pl *planner) shared(address int64) int64 {
	first, ok := pl.places[address>>addressBits]
	if !ok {
		return -1
	}
	return first + address&(1<<addressBits-1)
}

func (pl *planner) addChunks(chunk, count, at int64) {
	entry := len(pl.list) - 1
	if n := len(pl.pieces); n > 0 {
		last := &pl.pieces[n-1]
		if last.entry == entry && last.first+last.count == chunk && (last.at < 0 && at < 0 || last.at >= 0 && last.at+last.count == at) {
			last.count += count
			return
		}
	}
	pl.pieces = append(pl.pieces, piece{entry: entry, first: chunk, count: count, at: at})
}

// views returns views of chunks that the previous layer has from address at on.
func (pl *planner) views(entry int, first, count, at int64) ([]view, error) {
	f, err := pl.src.Open("/"+pl.list[entry].path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	views := make([]view, count)
	for i := range views {
		p, _ := f.Piece(first + int64(i))
		views[i] = view{data: p.Data, at: p.Address, was: at + int64(i)}
	}
	return views, f.Close()
}

// lookup finds chunks of one file in the previous layer. Call its methods with ascending chunks.
type lookup struct {
	runs    []run
	changed []int64 // chunks written since, ascending
}

// same returns the address of a chunk in the previous layer, and how many chunks from it on, up to last, are consecutive there and were not
// written since: these need not be read. Zero: the chunk must be read.
func (l *lookup) same(chunk, last int64) (at, n int64) {
	if at = l.find(chunk); at < 0 {
		return at, 0
	}
	n = min(last, l.runs[0].first+l.runs[0].count) - chunk
	if len(l.changed) > 0 {
		n = min(n, l.changed[0]-chunk)
	}
	return at, n
}

// find returns a chunk's address; negative: the previous layer does not have it.
func (l *lookup) find(chunk int64) int64 {
	for len(l.changed) > 0 && l.changed[0] < chunk {
		l.changed = l.changed[1:]
	}
	if len(l.changed) > 0 && l.changed[0] == chunk {
		return -1
	}
	for len(l.runs) > 0 && l.runs[0].first+l.runs[0].count <= chunk {
		l.runs = l.runs[1:]
	}
	if len(l.runs) == 0 || l.runs[0].first > chunk {
		return -1
	}
	return l.runs[0].at + chunk - l.runs[0].first
}

// assign decides which segments are kept, and gives every chunk its address: chunks in kept segments stay where they are, all others go
// into new segments, in file order.
func (p *plan) assign(pl *planner) (err error) {
	before, o := pl.before, pl.o
	live, fresh := make([]int64, len(before.segments)), pl.fresh
	unread := o.Pages.unread(before)
	for _, c := range pl.pieces {
		if c.at >= 0 {
			before.split(c.at, c.count, func(segment int, _, n int64) { live[segment] += n })
		}
	}
	clean := map[int]bool{}
	if o.Copy == nil { // cleaning would read pages, which a copy avoids; the new database's first layer cleans
		clean = toClean(before, live, int64(len(fresh)), o.SegmentBytes/smallShare, unread)
	}
	moved := make([]int64, len(before.segments)) // for each kept segment, what is added to its addresses
	for i := range before.segments {
		if live[i] == 0 || clean[i] {
			continue
		}
		s := before.segments[i]
		s.live = 0
		moved[i] = p.index.end() - s.first
		s.first = p.index.end()
		p.index.segments = append(p.index.segments, s)
	}
	boot := p.bootOf(before, o)
	next := p.index.end()
	write := func(views []view) {
		for i, v := range views {
			if len(boot) > 0 && v.was >= 0 && boot[before.frameAt(v.was)] {
				p.early = append(p.early, next+int64(len(p.views)+i))
			}
		}
		p.views = append(p.views, views...)
	}
	for _, c := range pl.pieces {
		e := &p.index.entries[c.entry]
		if c.at < 0 {
			e.add(c.first, c.count, next+int64(len(p.views)))
			write(fresh[:c.count])
			fresh = fresh[c.count:]
			continue
		}
		first := c.first
		before.split(c.at, c.count, func(segment int, at, n int64) {
			if clean[segment] {
				views, viewErr := pl.views(c.entry, first, n, at)
				err = errors.Join(err, viewErr)
				e.add(first, n, next+int64(len(p.views)))
				write(views)
				p.cleaned += n
				if away := missing(views); away != nil {
					key := before.segments[segment].key()
					p.brought[key] = append(p.brought[key], away...)
				}
			} else {
				e.add(first, n, at+moved[segment])
			}
			first += n
		})
	}
	return err
}

// bootOf makes the boot set from frames in kept segments, and returns which frames of the previous layer were in it.
func (p *plan) bootOf(before *index, o WriteOptions) map[frameRef]bool {
	refs, all := before.boot, map[frameRef]bool{}
	if o.Boot != nil && o.Pages != nil {
		refs = o.Pages.refs(before, o.Boot)
	}
	number := map[string]int{}
	for i := range p.index.segments {
		number[p.index.segments[i].key()] = i
	}
	for _, ref := range refs {
		all[ref] = true
		if i, kept := number[before.segments[ref.segment].key()]; kept {
			p.index.boot = append(p.index.boot, frameRef{i, ref.frame})
		}
	}
	return all
}

// bootNew adds to the boot set the frames of new segments with chunks that replace some in it.
func (p *plan) bootNew() {
	for _, at := range p.early {
		if ref := p.index.frameAt(at); len(p.index.boot) == 0 || p.index.boot[len(p.index.boot)-1] != ref {
			p.index.boot = append(p.index.boot, ref)
		}
	}
	slices.SortFunc(p.index.boot, func(a, b frameRef) int { return cmp.Or(a.segment-b.segment, a.frame-b.frame) })
	p.index.boot = slices.Compact(p.index.boot)
}

// frameAt returns the frame that holds an address.
func (x *index) frameAt(at int64) frameRef {
	i := x.segmentAt(at)
	return frameRef{i, int((at - x.segments[i].first) / x.frameChunks())}
}

// split calls f for the part of a range of addresses in each segment.
func (x *index) split(at, n int64, f func(segment int, at, n int64)) {
	for i := x.segmentAt(at); n > 0; i++ {
		m := min(n, x.segments[i].first+x.segments[i].chunks-at)
		f(i, at, m)
		at, n = at+m, n-m
	}
}

// add adds chunks after the entry's last ones.
func (e *entry) add(first, count, at int64) {
	if n := len(e.runs); n > 0 {
		if r := &e.runs[n-1]; r.first+r.count == first && r.at+r.count == at {
			r.count += count
			return
		}
	}
	e.runs = append(e.runs, run{first: first, count: count, at: at})
}

// Cleaning, as in a log-structured file system: if less than half of a segment is used, its used chunks are written again, so that what is
// stored stays below twice what is used. Small segments, of which each layer leaves one, are merged, so that a database with many small
// layers does not take as many requests to read.
const (
	cleanShare = 2                            // a segment is cleaned if less than 1/cleanShare of it is used
	cleanLeast = (16 << 20) / memfs.ChunkSize // a layer cleans up to this many chunks, or as many as it has new ones, if these are more
	smallShare = 4                            // a segment is small below 1/smallShare of a whole segment's bytes
	smallMost  = 8                            // how many small segments may remain; as much as these may hold is merged at a time
)

// toClean returns which segments are not kept although some of their chunks are used. Those with the smallest used share come first, so
// that the least is written again. Unreadable ones are kept.
func toClean(x *index, live []int64, fresh, smallBytes int64, unread map[int]bool) map[int]bool {
	clean := map[int]bool{}
	var hollow, small []int
	for i := range x.segments {
		s := &x.segments[i]
		switch {
		case live[i] == 0 || unread[i]:
		case live[i]*cleanShare < s.chunks:
			hollow = append(hollow, i)
		case s.size < smallBytes:
			small = append(small, i)
		}
	}
	slices.SortStableFunc(hollow, func(a, b int) int {
		return cmp.Compare(live[a]*x.segments[b].chunks, live[b]*x.segments[a].chunks)
	})
	left := max(cleanLeast, fresh)
	for _, i := range hollow {
		if left -= live[i]; left < 0 {
			break
		}
		clean[i] = true
	}
	if len(small) <= smallMost {
		return clean
	}
	slices.SortStableFunc(small, func(a, b int) int { return cmp.Compare(x.segments[a].size, x.segments[b].size) })
	room := smallMost * smallBytes
	for _, i := range small {
		if room -= x.segments[i].size; room < 0 {
			break
		}
		clean[i] = true
	}
	return clean
}
