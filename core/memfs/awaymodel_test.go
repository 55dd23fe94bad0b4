package memfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
)

// places is the origin of a file: the address of each chunk.
type places []int64

func (p places) Address(chunk int64) int64 {
	if chunk >= int64(len(p)) {
		return Nowhere
	}
	return p[chunk]
}

// shelf is a source: chunks by address. It also returns neighboring chunks.
type shelf struct {
	chunks  [][ChunkSize]byte
	fetched int
	beside  int64
	err     error
}

func (s *shelf) put(data []byte) int64 {
	var c [ChunkSize]byte
	copy(c[:], data)
	s.chunks = append(s.chunks, c)
	return int64(len(s.chunks)) - 1
}

func (s *shelf) Fetch(_ context.Context, addresses []int64) (got []Fetched, err error) {
	if s.err != nil {
		return nil, s.err
	}
	give := map[int64]bool{}
	for _, a := range addresses {
		for b := max(0, a-s.beside); b <= min(a+s.beside, int64(len(s.chunks))-1); b++ {
			give[b] = true
		}
	}
	for a := range give {
		c := s.chunks[a]
		got = append(got, Fetched{a, &c})
	}
	s.fetched += len(addresses)
	return got, nil
}

func (s *shelf) Ahead([]int64) {}

// awayTree is a tree with chunks that are away, and what its files should hold.
type awayTree struct {
	fs     *FS
	bytes  map[string][]byte
	dirty  map[string]map[int64]bool // written since mark
	moved  map[string]bool           // got its name since mark
	mark   Mark
	late   []lateChunk
	layers []layer // not settled yet
}

type lateChunk struct {
	file          *File
	chunk, wanted int64
	got           []Fetched
}

type layer struct {
	mark  Mark
	files map[uint64]places
}

type awayModel struct {
	t     *testing.T
	rng   *rand.Rand
	shelf *shelf
	trees []*awayTree
	seen  map[string]int
}

func (m *awayModel) name() string { return string(rune('a' + m.rng.IntN(4))) }

// size returns a position in a file: often at the edge of a chunk.
func (m *awayModel) size() int64 {
	n := int64(m.rng.IntN(9)) * ChunkSize
	switch m.rng.IntN(4) {
	case 0:
		return n
	case 1:
		return max(0, n+int64(m.rng.IntN(3)-1))
	}
	return n + int64(m.rng.IntN(ChunkSize))
}

// until runs op until nothing that it needs is away. Sometimes the bytes come late, or an older answer comes first.
func (m *awayModel) until(tr *awayTree, file *File, op func() error) {
	m.t.Helper()
	for range 3 {
		err := op()
		var a *AwayError
		if !errors.As(err, &a) {
			check(m.t, err)
			return
		}
		if !errors.Is(err, ErrAway) {
			m.t.Fatal(err)
		}
		m.seen["waits"]++
		got, err := Get(m.t.Context(), m.shelf, a.Missing)
		check(m.t, err)
		if m.rng.IntN(4) == 0 { // another request for the same chunks, answered at any time
			copies, err := Get(m.t.Context(), m.shelf, a.Missing)
			check(m.t, err)
			for _, one := range a.Missing {
				twin, err := tr.fs.OpenInode(file.Inode(), os.O_RDONLY)
				check(m.t, err)
				tr.late = append(tr.late, lateChunk{twin, one.Chunk, one.Address, copies})
			}
		}
		before := tr.fs.ResidentBytes()
		if n := file.Fill(a.Missing, got); n < len(a.Missing) || tr.fs.ResidentBytes() != before+int64(n)*ChunkSize {
			m.t.Fatalf("%d of %d chunks taken", n, len(a.Missing))
		}
	}
	m.t.Fatal("it waits for ever")
}

func (tr *awayTree) touch(name string, chunk int64) {
	if tr.dirty[name] == nil {
		tr.dirty[name] = map[int64]bool{}
	}
	tr.dirty[name][chunk] = true
}

func (m *awayModel) step() {
	m.t.Helper()
	tr := m.trees[m.rng.IntN(len(m.trees))]
	name := m.name()
	file := mustOpen(m.t, tr.fs, name, os.O_RDWR|os.O_CREATE)
	defer file.Close()
	if tr.bytes[name] == nil {
		tr.bytes[name], tr.moved[name] = []byte{}, true
	}
	switch op := m.rng.IntN(18); op {
	case 0, 1, 2, 3:
		m.write(tr, name, file)
	case 4, 5, 6:
		m.read(tr, name, file)
	case 7:
		m.truncate(tr, name, file)
	case 8:
		m.rename(tr, name)
	case 9:
		if m.rng.IntN(10) == 0 {
			m.clone(tr)
		}
	case 10, 11:
		m.publish(tr)
	case 12, 13:
		m.settled(tr)
	case 14, 15:
		m.evict(tr)
	default:
		m.arrive(tr)
	}
}

func (m *awayModel) write(tr *awayTree, name string, file *File) {
	off, data := m.size(), make([]byte, 1+m.rng.IntN(2*ChunkSize))
	if m.rng.IntN(2) == 0 {
		off, data = off/ChunkSize*ChunkSize, make([]byte, ChunkSize)
	}
	for i := range data {
		data[i] = byte(m.rng.Uint32())
	}
	end := off + int64(len(data))
	whole := off%ChunkSize == 0 && end%ChunkSize == 0
	fetched := m.shelf.fetched
	m.until(tr, file, func() error { _, err := file.WriteAt(data, off); return err })
	if whole && m.shelf.fetched != fetched {
		m.t.Fatal("a whole chunk was fetched to be overwritten")
	}
	b := tr.bytes[name]
	if int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[off:], data)
	tr.bytes[name] = b
	for i := off / ChunkSize; i*ChunkSize < end; i++ {
		tr.touch(name, i)
	}
}

func (m *awayModel) read(tr *awayTree, name string, file *File) {
	m.t.Helper()
	off, p := m.size(), make([]byte, 1+m.rng.IntN(3*ChunkSize))
	var n int
	m.until(tr, file, func() (err error) {
		n, err = file.ReadAt(p, off)
		if errors.Is(err, ErrAway) && n != 0 {
			m.t.Fatal("a part was read")
		}
		if err != nil && errnoIsNone(err) {
			return nil
		}
		return err
	})
	want := tr.bytes[name]
	want = want[min(off, int64(len(want))):min(off+int64(len(p)), int64(len(want)))]
	if !bytes.Equal(p[:n], want) {
		m.t.Fatalf("%s at %d: wrong bytes", name, off)
	}
}

// errnoIsNone reports whether an error is io.EOF.
func errnoIsNone(err error) bool { return !errors.Is(err, ErrAway) && errnoOf(err) == 0 }

func (m *awayModel) truncate(tr *awayTree, name string, file *File) {
	size, b := m.size(), tr.bytes[name]
	m.until(tr, file, func() error { return file.Truncate(size) })
	for i := size / ChunkSize; i*ChunkSize < int64(len(b)); i++ {
		if size > i*ChunkSize && size < int64(len(b)) || size <= i*ChunkSize {
			tr.touch(name, i)
		}
	}
	if size <= int64(len(b)) {
		tr.bytes[name] = b[:size:size]
	} else {
		tr.bytes[name] = append(b, make([]byte, size-int64(len(b)))...)
	}
}

func (m *awayModel) rename(tr *awayTree, name string) {
	to := m.name()
	check(m.t, tr.fs.Rename(name, to))
	if to != name {
		tr.bytes[to], tr.moved[to] = tr.bytes[name], true
		delete(tr.bytes, name)
		delete(tr.dirty, to)
	}
}

func (m *awayModel) clone(tr *awayTree) {
	c := &awayTree{
		fs: tr.fs.Clone(), bytes: map[string][]byte{}, dirty: map[string]map[int64]bool{}, moved: maps.Clone(tr.moved), mark: tr.mark,
		layers: slices.Clone(tr.layers),
	}
	for name, b := range tr.bytes {
		c.bytes[name] = bytes.Clone(b)
	}
	for name, d := range tr.dirty {
		c.dirty[name] = maps.Clone(d)
	}
	if len(m.trees) < 3 {
		m.trees = append(m.trees, c)
	} else {
		m.trees[m.rng.IntN(3)] = c
	}
}

// publish makes a layer: unchanged chunks are named where they were, or moved by a cleaner; new ones are put on the shelf.
func (m *awayModel) publish(tr *awayTree) {
	m.t.Helper()
	m.compare(tr)
	l := layer{mark: tr.fs.Mark(), files: map[uint64]places{}}
	snapshot := tr.fs.Clone()
	m.changes(snapshot, tr)
	for name, b := range tr.bytes {
		file := mustOpen(m.t, snapshot, name, os.O_RDONLY)
		at := slices.Repeat([]int64{Nowhere}, (len(b)+ChunkSize-1)/ChunkSize)
		for p := range file.Pieces() {
			i := p.Off / ChunkSize
			at[i] = p.Address
			if p.Address < 0 {
				at[i] = m.shelf.put(p.Data)
			} else if m.rng.IntN(8) == 0 {
				at[i] = m.shelf.put(bytes.Clone(m.shelf.chunks[p.Address][:]))
			}
			if !bytes.Equal(m.shelf.chunks[at[i]][:min(ChunkSize, int64(len(b))-p.Off)], b[p.Off:min(p.Off+ChunkSize, int64(len(b)))]) {
				m.t.Fatalf("the layer has other bytes of %s at %d (address %d)", name, p.Off, p.Address)
			}
		}
		l.files[file.Inode()] = at
	}
	tr.layers = append(tr.layers, l)
	tr.mark, tr.dirty, tr.moved = l.mark, map[string]map[int64]bool{}, map[string]bool{}
}

// changes compares ChangedSince with what was written: arrivals and evictions are not changes.
func (m *awayModel) changes(snapshot *FS, tr *awayTree) {
	m.t.Helper()
	for name, b := range tr.bytes {
		got := slices.Collect(snapshot.ChangedSince(name, tr.mark))
		want := slices.DeleteFunc(slices.Sorted(maps.Keys(tr.dirty[name])), func(i int64) bool { return i*ChunkSize >= int64(len(b)) })
		if tr.moved[name] {
			continue
		}
		for _, i := range got { // a hole that was cut off is not a change
			if !slices.Contains(want, i) {
				m.t.Fatalf("%s: %v changed, %v were written", name, got, want)
			}
		}
	}
}

func (m *awayModel) settled(tr *awayTree) {
	m.t.Helper()
	if len(tr.layers) == 0 {
		return
	}
	l := tr.layers[0]
	tr.layers = tr.layers[1:]
	for ino, at := range l.files {
		if err := tr.fs.Settle(ino, l.mark, at); err != nil && !errors.Is(err, syscall.ENOENT) {
			m.t.Fatal(err)
		}
	}
}

func (m *awayModel) evict(tr *awayTree) {
	before := tr.fs.ResidentBytes()
	e := Eviction{Budget: int64(m.rng.IntN(8)) * ChunkSize, Steps: int64(m.rng.IntN(3) * 8)}
	freed := tr.fs.Evict(e)
	if freed > 0 {
		m.seen["evicted"]++
	}
	if tr.fs.ResidentBytes() != before-freed || freed > 0 && tr.fs.ResidentBytes() < e.Budget {
		m.t.Fatalf("%d of %d bytes freed, %d resident", freed, before, tr.fs.ResidentBytes())
	}
}

// arrive delivers an answer that is no longer awaited.
func (m *awayModel) arrive(tr *awayTree) {
	if len(tr.late) == 0 {
		return
	}
	i := m.rng.IntN(len(tr.late))
	l := tr.late[i]
	tr.late = slices.Delete(tr.late, i, i+1)
	for _, g := range l.got {
		if g.Address == l.wanted {
			data := *g.Data
			m.seen[fmt.Sprint("late ", l.file.Arrived(l.chunk, g.Address, &data))]++
		}
	}
	check(m.t, l.file.Close())
}

// compare checks all files, without leaving anything in memory that was away, and the accounting.
func (m *awayModel) compare(tr *awayTree) {
	m.t.Helper()
	look := tr.fs.Clone()
	for name, want := range tr.bytes {
		check(m.t, look.Bring(m.t.Context(), m.shelf, name))
		if got, err := look.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			m.t.Fatalf("%s: other bytes, %v", name, err)
		}
	}
	for _, fs := range []*FS{tr.fs, look} {
		var chunks, gone int64
		for _, in := range fs.inodes {
			if in == nil {
				continue
			}
			n, a := int64(0), int64(0)
			for _, s := range in.table {
				if s.data != nil {
					n++
				}
				if s.data == away {
					a++
				}
			}
			if n != in.chunks || a != in.away {
				m.t.Fatalf("inode %d counts %d chunks of %d, %d away of %d", in.ino, in.chunks, n, in.away, a)
			}
			chunks, gone = chunks+n, gone+a
		}
		if fs.UsedBytes() != chunks*ChunkSize || fs.AwayBytes() != gone*ChunkSize {
			m.t.Fatalf("%d bytes used, %d away; want %d, %d chunks", fs.UsedBytes(), fs.AwayBytes(), chunks, gone)
		}
	}
}

// TestAwayModel: files whose chunks come and go have the content of plain files, through clones, layers, cleaning and late answers.
func TestAwayModel(t *testing.T) {
	seen := map[string]int{}
	for i := range uint64(16) {
		seed := modelSeed + 200 + i
		t.Logf("seed %d", seed)
		m := &awayModel{t: t, rng: rand.New(rand.NewPCG(seed, 7)), shelf: &shelf{beside: int64(i % 3)}, seen: seen}
		m.trees = []*awayTree{{fs: New(Options{}), bytes: map[string][]byte{}, dirty: map[string]map[int64]bool{}, moved: map[string]bool{}}}
		for range 6000 {
			m.step()
		}
		for _, tr := range m.trees {
			m.compare(tr)
		}
	}
	t.Log(seen)
	for _, what := range []string{"waits", "evicted", "late true", "late false"} {
		if seen[what] < 20 {
			t.Errorf("%s: only %d times", what, seen[what])
		}
	}
}
