package base

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
)

// openBatch is how many chunks Open fetches at a time: 16 MiB.
const openBatch = 2048

// Wish says what Open does with a file.
type Wish uint8

const (
	Later  Wish = iota // nothing: its chunks are read on use
	Soon               // its chunks are requested together with the boot set, as far as there is room, and not waited for
	Now                // it reads all of it; chunks that are damaged or gone stay away, and reading them later is an error
	Needed             // it reads all of it, or fails
)

// Open makes the tree of a layer in dst, which must be empty, and reads only the files that wish asks for, by canonical path: the chunks of
// all others are away, and p is their memfs.Source. What changes in the tree after the returned mark differs from the layer. Stats cover
// what was read. After an error dst is useless.
//
// Errors: those of Read.
func Open(ctx context.Context, p *Pages, key string, dst *memfs.FS, wish func(path string) Wish, e Expect) (*Layer, memfs.Mark, Stats, error) {
	l, mark, stats, err := open(ctx, p, key, dst, wish, e)
	if err != nil {
		return nil, 0, Stats{}, fmt.Errorf("open layer %q: %w", key, err)
	}
	return l, mark, stats, nil
}

func open(ctx context.Context, p *Pages, key string, dst *memfs.FS, wish func(path string) Wish, e Expect) (*Layer, memfs.Mark, Stats, error) {
	if names, err := dst.ReadDir("/"); err != nil || len(names) > 0 {
		return nil, 0, Stats{}, errors.Join(fmt.Errorf("%w: the tree to open it in is not empty: it has %d names", store.ErrInvalid, len(names)), err)
	}
	began, before := p.o.Clock.Monotonic(), p.Counts()
	l, err := readIndex(ctx, p.st, key, e)
	if err != nil {
		return nil, 0, Stats{}, err
	}
	o := &opener{p: p, ids: p.add(l.index), wish: wish, reader: reader{index: l.index}}
	p.Ahead(o.bootAddresses())
	err = o.makeTree(dst)
	p.Ahead(o.soon)
	if err == nil {
		err = o.fetch(ctx)
	}
	if err = errors.Join(err, o.closeFiles()); err == nil {
		err = o.setTimes(dst)
	}
	mark := dst.Mark()
	if err == nil {
		err = dst.SettleAll(mark)
	}
	stats := Stats{Files: l.index.files(), RawBytes: l.RawBytes(), Download: p.o.Clock.Monotonic() - began, Wall: p.o.Clock.Monotonic() - began}
	stats.objects(l)
	stats.ReadBytes = p.Counts().Bytes - before.Bytes + l.size
	return l, mark, stats, err
}

// opener is a reader that leaves most chunks in the store.
type opener struct {
	reader
	p      *Pages
	ids    []int64
	wish   func(string) Wish
	wanted []wantedChunk
	soon   []int64 // addresses
}

// wantedChunk is a chunk of a file that the opening reads.
type wantedChunk struct {
	file    *memfs.File
	chunk   int64
	address int64
	needed  bool
}

// bootAddresses returns an address in each frame of the boot set.
func (o *opener) bootAddresses() (addresses []int64) {
	for _, b := range o.index.boot {
		addresses = append(addresses, o.ids[b.segment]<<addressBits|int64(b.frame)*o.index.frameChunks())
	}
	return addresses
}

func (o *opener) makeTree(dst *memfs.FS) error {
	if err := o.reader.makeTree(dst); err != nil {
		return err
	}
	next := 0
	for i := range o.index.entries {
		e := &o.index.entries[i]
		if e.kind != kindFile {
			continue
		}
		f := o.files[next]
		next++
		if err := o.install(f, "/"+e.path, originOf(o.index, o.ids, e)); err != nil {
			return err
		}
	}
	return nil
}

// install notes where a file's chunks are, and which of them to read.
func (o *opener) install(f *memfs.File, path string, origin *origin) error {
	wish := o.wish(path)
	for _, r := range origin.runs {
		if err := f.InstallAway(r.first, r.count); err != nil {
			return err
		}
		for i := range r.count {
			switch {
			case wish == Soon && int64(len(o.soon)) < o.p.Room()/memfs.ChunkSize:
				o.soon = append(o.soon, r.at+i)
			case wish >= Now:
				o.wanted = append(o.wanted, wantedChunk{f, r.first + i, r.at + i, wish == Needed})
			}
		}
	}
	return f.SetOrigin(origin)
}

// fetch reads the wanted chunks: all of a batch are requested together, and used in the order in which they are stored.
func (o *opener) fetch(ctx context.Context) error {
	slices.SortFunc(o.wanted, func(a, b wantedChunk) int { return cmp.Compare(a.address, b.address) })
	for batch := range slices.Chunk(o.wanted, openBatch) {
		err := o.fetchBatch(ctx, batch)
		if !damage(err) {
			if err != nil {
				return err
			}
			continue
		}
		for i := range batch { // which of them are readable, and which are needed
			if err := o.fetchBatch(ctx, batch[i:i+1]); err != nil && (batch[i].needed || !damage(err)) {
				return err
			}
		}
	}
	return nil
}

func (o *opener) fetchBatch(ctx context.Context, batch []wantedChunk) error {
	addresses := make([]int64, len(batch))
	for i, w := range batch {
		addresses[i] = w.address
	}
	got, err := o.p.Fetch(ctx, addresses)
	if err != nil {
		return err
	}
	data := byAddress(got)
	for _, w := range batch {
		if !w.file.Arrived(w.chunk, w.address, data[w.address]) {
			return fmt.Errorf("%w: chunk %d of %s did not arrive", ErrCorrupt, w.chunk, w.file.Path())
		}
	}
	return nil
}

// origin says where a file's chunks are, by addresses of Pages.
type origin struct{ runs []run }

// Address implements memfs.Origin.
func (o *origin) Address(chunk int64) int64 {
	address, _ := o.Run(chunk)
	return address
}

// Run implements memfs.RunOrigin.
func (o *origin) Run(chunk int64) (address, count int64) {
	i, found := slices.BinarySearchFunc(o.runs, chunk, func(r run, chunk int64) int { return cmp.Compare(r.first, chunk) })
	if !found {
		i--
	}
	if i >= 0 && chunk < o.runs[i].first+o.runs[i].count {
		r := o.runs[i]
		return r.at + chunk - r.first, r.first + r.count - chunk
	}
	if i+1 < len(o.runs) {
		return memfs.Nowhere, o.runs[i+1].first - chunk
	}
	return memfs.Nowhere, math.MaxInt64 - chunk
}

// originOf returns where an index has a file's chunks.
func originOf(x *index, ids []int64, e *entry) *origin {
	o := &origin{}
	for _, r := range e.runs {
		first := r.first
		x.split(r.at, r.count, func(segment int, at, n int64) {
			o.runs = append(o.runs, run{first: first, count: n, at: ids[segment]<<addressBits | (at - x.segments[segment].first)})
			first += n
		})
	}
	return o
}

// Origins returns, for a layer that was just written, where it has each file's chunks, by the file's number in the written tree.
func (l *Layer) Origins(p *Pages) iter.Seq2[uint64, memfs.Origin] {
	ids := p.add(l.index)
	return func(yield func(uint64, memfs.Origin) bool) {
		for i, ino := range l.inos {
			if ino != 0 && !yield(ino, originOf(l.index, ids, &l.index.entries[i])) {
				return
			}
		}
	}
}

// missing returns the addresses of the chunks that are away.
func missing(views []view) (addresses []int64) {
	for _, v := range views {
		if v.data == nil {
			addresses = append(addresses, v.at)
		}
	}
	return addresses
}

// bring fetches chunks that are away.
func bring(ctx context.Context, p *Pages, views []view) (map[int64]*[memfs.ChunkSize]byte, error) {
	addresses := missing(views)
	if len(addresses) == 0 {
		return nil, nil
	}
	if p == nil {
		return nil, fmt.Errorf("%w: chunks are away, and there is no layer to fetch them from", store.ErrInvalid)
	}
	got, err := p.Fetch(ctx, addresses)
	if err != nil {
		return nil, err
	}
	return byAddress(got), nil
}

// byAddress returns fetched chunks by their addresses.
func byAddress(got []memfs.Fetched) map[int64]*[memfs.ChunkSize]byte {
	data := make(map[int64]*[memfs.ChunkSize]byte, len(got))
	for _, g := range got {
		data[g.Address] = g.Data
	}
	return data
}
