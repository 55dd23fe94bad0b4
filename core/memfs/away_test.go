package memfs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// loaded returns a tree with one file of n chunks that are all on the shelf, and away.
func loaded(t *testing.T, n int64, o Options) (*FS, *File, *shelf) {
	t.Helper()
	s, at := &shelf{}, places{}
	for i := range n {
		at = append(at, s.put(page(byte(i+1))))
	}
	f := New(o)
	file := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	check(t, file.Truncate(n*ChunkSize))
	check(t, file.InstallAway(0, n))
	check(t, file.SetOrigin(at))
	check(t, f.SettleAll(f.Mark()))
	return f, file, s
}

// bring fetches what a read of one chunk needs, and reads it.
func bring(t *testing.T, file *File, s *shelf, chunk int64) {
	t.Helper()
	if missing := file.Missing(chunk*ChunkSize, ChunkSize); missing != nil {
		got, err := Get(t.Context(), s, missing)
		check(t, err)
		file.Fill(missing, got)
	}
	p := make([]byte, ChunkSize)
	if n, err := file.ReadAt(p, chunk*ChunkSize); n != ChunkSize || err != nil || !bytes.Equal(p, page(byte(chunk+1))) {
		t.Fatalf("chunk %d: %d bytes, %v", chunk, n, err)
	}
}

// resident returns the file's chunks that are in memory.
func resident(file *File) (list []int64) {
	for p := range file.Pieces() {
		if p.Data != nil {
			list = append(list, p.Off/ChunkSize)
		}
	}
	return list
}

// TestAwayLoads: what is loaded without its bytes counts as if they were there, needs them, and has them once they have come.
func TestAwayLoads(t *testing.T) {
	f, file, s := loaded(t, 6, Options{MaxBytes: 7 * ChunkSize})
	info := file.Stat()
	if info.Blocks != 6*16 || info.Away != 6*16 || f.UsedBytes() != 6*ChunkSize || f.AwayBytes() != 6*ChunkSize || f.ResidentBytes() != 0 {
		t.Errorf("%+v, %d bytes used, %d away", info, f.UsedBytes(), f.AwayBytes())
	}
	p := make([]byte, 2*ChunkSize)
	var a *AwayError
	if n, err := file.ReadAt(p, ChunkSize/2); n != 0 || !errors.As(err, &a) || !errors.Is(err, ErrAway) || len(a.Missing) != 3 || err.Error() == "" {
		t.Fatal(n, err)
	}
	if n, err := file.WriteAt(p[:ChunkSize], ChunkSize/2); n != 0 || !errors.As(err, &a) || !slices.Equal(a.Missing, []Away{{0, 0}, {1, 1}}) {
		t.Fatal(n, err)
	}
	if err := file.Truncate(ChunkSize + 1); !errors.As(err, &a) || !slices.Equal(a.Missing, file.MissingTruncate(ChunkSize+1)) || a.Missing[0].Chunk != 1 {
		t.Fatal(err)
	}
	for _, err := range []error{f.Truncate("a", 1), second(f.ReadFile("a"))} {
		if !errors.Is(err, ErrAway) {
			t.Error(err)
		}
	}
	if bytes.ContainsFunc(p, func(r rune) bool { return r != 0 }) || file.Stat().Size != 6*ChunkSize {
		t.Error("something was done")
	}
	if got := file.MissingWrite(ChunkSize, 4*ChunkSize); got != nil {
		t.Errorf("whole chunks need %v", got)
	}
	if got := file.MissingWrite(5*ChunkSize, 2*ChunkSize+1); got != nil {
		t.Errorf("what covers the end needs %v", got)
	}
	if twoMore(t, f, file) {
		t.Error("beyond the limit of bytes")
	}
	check(t, f.Bring(t.Context(), s, "a"))
	check(t, f.Bring(t.Context(), s, "a"))
	check(t, f.Bring(t.Context(), s, "none"))
	want := append(page(1), append(page(2), append(page(3), append(page(4), append(page(5), page(6)...)...)...)...)...)
	if got, err := f.ReadFile("a"); err != nil || !bytes.Equal(got, want) || f.AwayBytes() != 0 || s.fetched != 6 {
		t.Error(err, f.AwayBytes(), s.fetched)
	}
	if got := slices.Collect(f.ChangedSince("a", f.Mark()-1)); len(got) != 0 {
		t.Errorf("%v changed by arriving", got)
	}
}

// twoMore reports whether two more chunks fit, written after the end of the file.
func twoMore(t *testing.T, f *FS, file *File) bool {
	t.Helper()
	_, err := file.WriteAt(make([]byte, 2*ChunkSize), 6*ChunkSize)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	check(t, file.Truncate(6*ChunkSize))
	return err == nil
}

func second[T any](_ T, err error) error { return err }

// TestAwayErrors: operations that are refused.
func TestAwayErrors(t *testing.T) {
	f, file, s := loaded(t, 3, Options{MaxBytes: 8 * ChunkSize})
	check(t, file.Truncate(20*ChunkSize))
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{file.InstallAway(19, 2), syscall.EINVAL},
		{file.InstallAway(-1, 2), syscall.EINVAL},
		{file.InstallAway(3, 6), syscall.ENOSPC},
		{file.SetOrigin(places{0, Nowhere, 2}), syscall.EINVAL},
		{file.SetOrigin(nil), syscall.EINVAL},
		{f.SettleAll(f.Mark() + 1), syscall.EINVAL},
		{f.Settle(file.Inode(), f.Mark()+1, places{0, 1, 2}), syscall.EINVAL},
		{f.Settle(file.Inode(), f.Mark(), places{0, 1}), syscall.EINVAL},
		{f.Settle(file.Inode(), 0, places{0, 1, 2}), syscall.ENOENT},
		{f.Settle(99, f.Mark(), places{}), syscall.ENOENT},
		{f.Settle(rootIno, f.Mark(), places{}), syscall.EINVAL},
		{mustOpen(t, f, "a", os.O_RDONLY).InstallAway(0, 1), syscall.EBADF},
		{mustOpen(t, f, "a", os.O_RDONLY).SetOrigin(nil), syscall.EBADF},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%v, want %v", c.err, c.want)
		}
	}
	check(t, f.Settle(file.Inode(), f.Mark(), places{0, 1, 2}))
	if err := f.Settle(file.Inode(), Mark(file.in.settled-1), places{0, 1, 2}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an older layer: %v", err)
	}
	cause := errors.New("gone")
	s.err = cause
	if err := f.Bring(t.Context(), s, "a"); !errors.Is(err, syscall.EIO) || !errors.Is(err, cause) {
		t.Error(err)
	}
	for _, err := range []error{
		f.Bring(t.Context(), nil, "a"), second(Get(t.Context(), &shelf{}, []Away{{0, Nowhere}})),
		second(Get(t.Context(), silent{}, file.Missing(0, 1))), f.Bring(t.Context(), s, "a/b"),
	} {
		if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOTDIR) {
			t.Error(err)
		}
	}
	if file.Arrived(7, 0, new([ChunkSize]byte)) || file.Arrived(0, Nowhere, new([ChunkSize]byte)) {
		t.Error("a chunk came that nobody missed")
	}
	defer func() {
		if recover() == nil {
			t.Error("Extents leaves a chunk out")
		}
	}()
	for range file.Extents() {
	}
}

// TestHave: only a source that says so has chunks at hand, and only those that have an address.
func TestHave(t *testing.T) {
	_, file, s := loaded(t, 2, Options{})
	missing := file.Missing(0, ChunkSize)
	for _, c := range []struct {
		source  Source
		missing []Away
		want    bool
	}{
		{s, missing, false},
		{nil, missing, false},
		{ready{s, s.chunks[:1]}, missing, true},
		{ready{s, nil}, missing, false},
		{ready{s, s.chunks[:1]}, []Away{{0, Nowhere}}, false},
	} {
		got, ok := Have(c.source, c.missing)
		if ok != c.want || ok && (len(got) != 1 || got[0].Data[0] != 1) {
			t.Errorf("%v, %v", got, ok)
		}
	}
}

// ready is a shelf that gives some chunks immediately.
type ready struct {
	*shelf
	has [][ChunkSize]byte
}

func (r ready) Ready([]int64) (got []Fetched, ok bool) {
	for i := range r.has {
		got = append(got, Fetched{int64(i), &r.has[i]})
	}
	return got, true
}

// silent is a source that returns nothing.
type silent struct{}

func (silent) Fetch(context.Context, []int64) ([]Fetched, error) { return nil, nil }
func (silent) Ahead([]int64)                                     {}

// TestEvictPassesOverWhatIsWanted: what a scan reads once is evicted before what is read repeatedly.
func TestEvictPassesOverWhatIsWanted(t *testing.T) {
	f, file, s := loaded(t, 64, Options{})
	hot := []int64{3, 17, 40}
	for _, i := range hot {
		bring(t, file, s, i)
		bring(t, file, s, i)
	}
	for i := range int64(64) { // a scan with room for ten
		bring(t, file, s, i)
		if i%8 == 0 {
			for _, h := range hot {
				bring(t, file, s, h)
			}
		}
		f.Evict(Eviction{Budget: 10 * ChunkSize})
		if f.ResidentBytes() > 10*ChunkSize {
			t.Fatalf("%d bytes are resident", f.ResidentBytes())
		}
	}
	if s.fetched != 64 {
		t.Errorf("%d chunks were fetched: some that were wanted went", s.fetched)
	}
	f.Evict(Eviction{})
	if got := resident(file); len(got) != 0 {
		t.Errorf("%v stay", got)
	}
}

// TestEvictKnowsWhatWasRead: even before the first eviction, for bytes that were there from the beginning.
func TestEvictKnowsWhatWasRead(t *testing.T) {
	f, s, at := New(Options{}), &shelf{}, places{}
	file := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	for i := range int64(8) {
		file.WriteAt(page(byte(i+1)), i*ChunkSize)
		at = append(at, s.put(page(byte(i+1))))
	}
	check(t, f.Settle(file.Inode(), f.Mark(), at))
	for range 2 {
		bring(t, file, s, 1)
		bring(t, file, s, 6)
	}
	bring(t, file, s, 3)
	f.Evict(Eviction{Budget: 2 * ChunkSize})
	if got := resident(file); !slices.Equal(got, []int64{1, 6}) {
		t.Errorf("%v stay", got)
	}
}

// TestEvictStays: what is new, kept or not known to be elsewhere stays; steps bound a call.
func TestEvictStays(t *testing.T) {
	f, file, s := loaded(t, 8, Options{})
	check(t, f.Bring(t.Context(), s, "a"))
	file.WriteAt([]byte("x"), 2*ChunkSize)
	check(t, f.WriteFile("b", page(9), 0o600))
	if n := f.Evict(Eviction{Keep: func(path string) bool { return path == "/a" }}); n != 0 {
		t.Errorf("%d bytes of a file that is kept went", n)
	}
	if n := f.UnsettledBytes(nil); n != 2*ChunkSize {
		t.Errorf("%d bytes are new", n)
	}
	if n := f.Evict(Eviction{Steps: 4}); n != 3*ChunkSize {
		t.Errorf("%d bytes went", n)
	}
	f.Evict(Eviction{})
	if got := resident(file); !slices.Equal(got, []int64{2}) || f.ResidentBytes() != 2*ChunkSize {
		t.Errorf("%v stay, %d bytes", got, f.ResidentBytes())
	}
	m := f.Mark()
	at := places{0, 1, s.put(append([]byte("x"), page(3)[1:]...)), 3, 4, 5, 6, 7}
	file.WriteAt([]byte("y"), 3*ChunkSize-1) // no longer away
	check(t, f.Settle(file.Inode(), m, at))
	f.Evict(Eviction{})
	if got := resident(file); !slices.Equal(got, []int64{2}) {
		t.Errorf("%v stay, of which chunk 2 was written since", got)
	}
	check(t, f.Settle(file.Inode(), f.Mark(), at)) // a layer with it
	check(t, f.Unlink("a"))
	if f.Evict(Eviction{Keep: func(string) bool { return false }}) != 0 || f.Evict(Eviction{}) != ChunkSize {
		t.Error("a file without a name")
	}
	check(t, file.Close())
	if f.AwayBytes() != 0 || f.UsedBytes() != ChunkSize {
		t.Errorf("%d bytes away, %d used", f.AwayBytes(), f.UsedBytes())
	}
}

// TestSettleKnowsTheFile: a layer of a file says nothing about another that now has its number.
func TestSettleKnowsTheFile(t *testing.T) {
	f, file, s := loaded(t, 2, Options{})
	m, ino := f.Mark(), file.Inode()
	check(t, file.Close())
	check(t, f.Unlink("a"))
	check(t, f.Install("b", 0o600, time.Now(), NewContent(ChunkSize, func() ([]byte, error) { return page(7), nil })))
	b := mustOpen(t, f, "b", os.O_RDWR)
	if b.Inode() != ino {
		t.Fatal("it has another number")
	}
	if err := f.Settle(ino, m, places{0, 1}); !errors.Is(err, syscall.ENOENT) {
		t.Error(err)
	}
	if f.Evict(Eviction{}); f.AwayBytes() != 0 {
		t.Error("it went")
	}
	check(t, f.Settle(ino, f.Mark(), places{s.put(page(7))}))
	if f.Evict(Eviction{}); f.AwayBytes() != ChunkSize {
		t.Error("a layer that has it does not let it go")
	}
	bring2(t, f, s)
}

func bring2(t *testing.T, f *FS, s *shelf) {
	t.Helper()
	check(t, f.Bring(t.Context(), s, "b"))
	if got, err := f.ReadFile("b"); err != nil || !bytes.Equal(got, page(7)) {
		t.Error(err)
	}
}

// TestArrivesInAFileThatEnds: bytes after the end are zeros, whatever arrived.
func TestArrivesInAFileThatEnds(t *testing.T) {
	s := &shelf{}
	f := New(Options{})
	file := mustOpen(t, f, "a", os.O_RDWR|os.O_CREATE)
	check(t, file.Truncate(10))
	check(t, file.InstallAway(0, 1))
	check(t, file.SetOrigin(places{s.put(page(1))}))
	check(t, f.Bring(t.Context(), s, "a"))
	check(t, file.Truncate(20))
	if got, err := f.ReadFile("a"); err != nil || !bytes.Equal(got, append(page(1)[:10], make([]byte, 10)...)) {
		t.Errorf("%x, %v", got, err)
	}
}

// TestFillTakesNeighbours: what comes with a chunk is put in place around it, even beyond written chunks, but not over them.
func TestFillTakesNeighbours(t *testing.T) {
	_, file, s := loaded(t, 20, Options{})
	file.WriteAt(page(99), 12*ChunkSize)
	s.beside = 4
	missing := file.Missing(10*ChunkSize, ChunkSize)
	got, err := Get(t.Context(), s, missing)
	check(t, err)
	if n := file.Fill(missing, got); n != 8 || len(got) != 9 {
		t.Errorf("%d of %d taken", n, len(got))
	}
	if got := resident(file); !slices.Equal(got, []int64{6, 7, 8, 9, 10, 11, 12, 13, 14}) {
		t.Errorf("%v are there", got)
	}
	page12 := make([]byte, ChunkSize)
	if _, err := file.ReadAt(page12, 12*ChunkSize); err != nil || !bytes.Equal(page12, page(99)) {
		t.Errorf("what was written is another: %v", err)
	}
}

// BenchmarkReadWatched8K is BenchmarkRead8K on a file that is evicted from.
func BenchmarkReadWatched8K(b *testing.B) {
	f := New(Options{})
	file := must(f.Open("a", os.O_RDWR|os.O_CREATE, 0o600))
	file.WriteAt(make([]byte, 4096*ChunkSize), 0)
	at := make(places, 4097)
	for _, err := range []error{f.Settle(file.Inode(), f.Mark(), at), file.Truncate(4097 * ChunkSize), file.InstallAway(4096, 1)} {
		if err != nil {
			b.Fatal(err)
		}
	}
	file.in.watch()
	buf := page(1)
	b.SetBytes(ChunkSize)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		file.ReadAt(buf, int64(i*61%4096)*ChunkSize)
		i++
	}
}

// BenchmarkEvict evicts a GiB that was not read twice: the cost of a chunk.
func BenchmarkEvict(b *testing.B) {
	const chunks = 1 << 17
	f := New(Options{})
	file := must(f.Open("a", os.O_RDWR|os.O_CREATE, 0o600))
	if err := errors.Join(file.Truncate(chunks*ChunkSize), file.InstallAway(0, chunks), file.SetOrigin(make(places, chunks)), f.SettleAll(f.Mark())); err != nil {
		b.Fatal(err)
	}
	shared := new([ChunkSize]byte)
	for b.Loop() {
		b.StopTimer()
		for i := range int64(chunks) {
			file.Arrived(i, 0, shared)
		}
		f.free = nil
		b.StartTimer()
		if f.Evict(Eviction{}) != chunks*ChunkSize {
			b.Fatal("something stays")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/chunks, "ns/chunk")
}
