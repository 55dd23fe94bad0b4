package base

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// pagesOf makes a source of a store's layers, closed at the end of the test.
func pagesOf(t testing.TB, st store.Store, o PagesOptions) *Pages {
	t.Helper()
	p, err := NewPages(st, o)
	check(t, err)
	t.Cleanup(p.Close)
	return p
}

// opened returns a layer's tree with only the files outside /base in memory.
func opened(t testing.TB, p *Pages, key string) (*memfs.FS, *Layer, memfs.Mark, Stats) {
	t.Helper()
	dst := memfs.New(memfs.Options{})
	l, mark, stats, err := Open(t.Context(), p, key, dst, func(path string) Wish {
		if strings.HasPrefix(path, "/base/") {
			return Later
		}
		return Needed
	}, Expect{})
	check(t, err)
	return dst, l, mark, stats
}

// whole brings every file of a tree into memory.
func whole(t testing.TB, p *Pages, f *memfs.FS) {
	t.Helper()
	check(t, f.Walk("/", func(path string, i memfs.Info) error {
		if !i.IsRegular() {
			return nil
		}
		return f.Bring(t.Context(), p, path)
	}))
}

// TestOpen: only what is to be kept is read; a requested page comes with its frame; everything is as written.
func TestOpen(t *testing.T) {
	st := store.Count(mem.New(mem.Options{}))
	src := largeTree(t, 24<<20)
	check(t, src.WriteFile("/control", []byte("x"), 0o600))
	_, wrote, err := Write(t.Context(), st, Key(1, 1), src, WriteOptions{})
	check(t, err)
	given := int64(0)
	p := pagesOf(t, st, PagesOptions{Fetched: func(n int64) { given += n }})
	before := st.Ops().BytesDown
	f, l, _, stats := opened(t, p, Key(1, 1))
	if read := st.Ops().BytesDown - before; read*5 > wrote.StoredBytes || stats.ReadBytes != read || l.Use().StoredBytes != wrote.StoredBytes {
		t.Errorf("%d bytes of %d were read; %+v", read, wrote.StoredBytes, stats)
	}
	if f.AwayBytes() < 20<<20 || f.UnsettledBytes(nil) != 0 {
		t.Errorf("%d bytes are away, %d are new", f.AwayBytes(), f.UnsettledBytes(nil))
	}
	file, err := f.Open("/base/5/16384", os.O_RDONLY, 0)
	check(t, err)
	page := make([]byte, memfs.ChunkSize)
	if _, err := file.ReadAt(page, 100*memfs.ChunkSize); !errors.Is(err, memfs.ErrAway) {
		t.Fatalf("read what is away: %v", err)
	}
	missing := file.Missing(100*memfs.ChunkSize, memfs.ChunkSize)
	got, err := memfs.Get(t.Context(), p, missing)
	check(t, err)
	if n := file.Fill(missing, got); n < 2 || n > DefaultFrameBytes/memfs.ChunkSize {
		t.Errorf("%d chunks came", n)
	}
	whole(t, p, f)
	if describe(t, f) != describe(t, src) || f.AwayBytes() != 0 || given == 0 {
		t.Error("it is something else")
	}
	if c := p.Counts(); c.Errors != 0 || c.Requests == 0 || c.Bytes > 2*wrote.StoredBytes {
		t.Errorf("%+v of %d bytes", c, wrote.StoredBytes)
	}
}

// TestLifeOnPages: a tree that is opened, changed, evicted from, and has layers taken and the previous ones deleted, equals one that has
// everything in memory.
func TestLifeOnPages(t *testing.T) {
	t.Logf("seed %d", seed)
	for round := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 200+round))
		c := &chain{t: t, st: mem.New(mem.Options{}), tree: makeTree(t, rng, 12), o: WriteOptions{
			FrameBytes: (1 + rng.IntN(4)) * memfs.ChunkSize, SegmentBytes: int64(1 + rng.IntN(60_000)),
		}}
		c.next()
		var twin *memfs.FS
		for n := range 14 {
			if n%7 == 0 { // a new process
				twin = restored(t, c.st, c.last.Key())
				p := pagesOf(t, c.st, PagesOptions{KeepBytes: 1 << uint(13+rng.IntN(6))})
				c.tree, c.last, c.mark, _ = opened(t, p, c.last.Key())
				c.o.Pages = p
			}
			for range rng.IntN(6) {
				changeBoth(t, rng, c.o.Pages, c.tree, twin)
			}
			mark := c.tree.Mark()
			c.next()
			check(t, c.settle(mark))
			c.forget()
			c.tree.Evict(memfs.Eviction{Budget: int64(rng.IntN(20)) * memfs.ChunkSize})
		}
		want := contents(t, twin)
		if got := contents(t, restored(t, c.st, c.last.Key())); got != want {
			t.Fatalf("round %d: the last layer restores\n%s\nwant\n%s", round, got, want)
		}
		whole(t, c.o.Pages, c.tree)
		if got := contents(t, c.tree); got != want {
			t.Fatalf("round %d: the tree is\n%s\nwant\n%s", round, got, want)
		}
	}
}

// settle tells the tree where the files now are.
func (c *chain) settle(mark memfs.Mark) error {
	for ino, o := range c.last.Origins(c.o.Pages) {
		if err := c.tree.Settle(ino, mark, o); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// contents is describe without the times.
func contents(t testing.TB, f *memfs.FS) string {
	t.Helper()
	var b strings.Builder
	check(t, f.Walk("/", func(path string, i memfs.Info) error {
		if i.IsRegular() {
			data, err := f.ReadFile(path)
			check(t, err)
			fmt.Fprintf(&b, "%s %d %08x\n", path, i.Size, checksum(data))
		}
		return nil
	}))
	return b.String()
}

// changeBoth makes the same change to two trees.
func changeBoth(t testing.TB, rng *rand.Rand, p *Pages, trees ...*memfs.FS) {
	t.Helper()
	path, other := fmt.Sprintf("/base/1/%d", 1000+rng.IntN(12)), fmt.Sprintf("/base/1/%d", 1000+rng.IntN(12))
	what, at, data, size := rng.IntN(6), int64(rng.IntN(30*memfs.ChunkSize)), pages(rng, rng.IntN(3*memfs.ChunkSize)), int64(rng.IntN(40*memfs.ChunkSize))
	for _, f := range trees {
		if what == 0 {
			_ = f.Unlink(path)
			continue
		}
		if what == 1 {
			_ = f.Rename(path, other)
			continue
		}
		file, err := f.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
		check(t, err)
		missing := file.MissingWrite(at, int64(len(data)))
		if what == 2 {
			missing = file.MissingTruncate(size)
		}
		if len(missing) > 0 {
			got, err := memfs.Get(t.Context(), p, missing)
			check(t, err)
			file.Fill(missing, got)
		}
		if what == 2 {
			check(t, file.Truncate(size))
		} else {
			_, err = file.WriteAt(data, at)
			check(t, err)
		}
		check(t, file.Close())
	}
}

// TestBootSet: what one life read first, the next one fetches immediately, in few requests, as far as it is still in the same place.
func TestBootSet(t *testing.T) {
	st := mem.New(mem.Options{})
	c := &chain{t: t, st: st, tree: largeTree(t, 64<<20)}
	c.next()
	rng := rand.New(rand.NewPCG(seed, 300))
	wanted := func(p *Pages, f *memfs.FS) {
		t.Helper()
		rng := rand.New(rand.NewPCG(seed, 301))
		for range 20 {
			file, err := f.Open(fmt.Sprintf("/base/5/%d", 16384+rng.IntN(4)), os.O_RDONLY, 0)
			check(t, err)
			if missing := file.Missing(int64(rng.IntN(2048))*memfs.ChunkSize, memfs.ChunkSize); len(missing) > 0 {
				got, err := memfs.Get(t.Context(), p, missing)
				check(t, err)
				file.Fill(missing, got)
			}
			check(t, file.Close())
		}
	}
	for life := range 3 {
		p := pagesOf(t, st, PagesOptions{})
		c.tree, c.last, c.mark, _ = opened(t, p, c.last.Key())
		wanted(p, c.tree)
		counts := p.Counts()
		if life == 0 && counts.Waited < 10 || life > 0 && counts.Waited > 4 {
			t.Errorf("life %d: %+v", life, counts)
		}
		c.o.Pages, c.o.Boot = p, p.Noted()
		file, err := c.tree.Open("/base/5/16384", os.O_RDWR, 0)
		check(t, err)
		_, err = file.WriteAt(pages(rng, memfs.ChunkSize), int64(rng.IntN(2048))*memfs.ChunkSize)
		check(t, err)
		c.next()
	}
}

// failing is a store whose reads of segments fail a number of times, or wait.
type failing struct {
	store.Store
	mu    sync.Mutex
	fails int
	err   error
	spoil bool
	reads int
	hold  chan struct{}
}

func (f *failing) Get(ctx context.Context, key string) (store.Object, error) {
	if !strings.HasPrefix(key, SegmentPrefix()) {
		return f.Store.Get(ctx, key)
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return store.Object{}, ctx.Err()
		}
	}
	f.mu.Lock()
	f.reads++
	fail := f.fails != 0
	if fail {
		f.fails--
	}
	f.mu.Unlock()
	o, err := f.Store.Get(ctx, key)
	switch {
	case fail && f.spoil && err == nil:
		o.Body = append([]byte{o.Body[0] ^ 1}, o.Body[1:]...)
	case fail:
		return store.Object{}, f.err
	}
	return o, err
}

// TestPagesFaults: transient errors are not seen; a damaged frame is requested once more, and never returned; other errors are reported.
func TestPagesFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails int
		err   error
		spoil bool
		want  error
		reads int
	}{
		{"none", 0, nil, false, nil, 1},
		{"throttled now and then", 3, store.ErrThrottled, false, nil, 4},
		{"not there for a while", 5, store.ErrUnavailable, false, nil, 6},
		{"gone", 1, store.ErrNotFound, false, store.ErrNotFound, 1},
		{"denied", 1, store.ErrDenied, false, store.ErrDenied, 1},
		{"damaged on its way", 1, nil, true, nil, 2},
		{"damaged", 2, nil, true, ErrCorrupt, 2},
	} {
		st := &failing{Store: mem.New(mem.Options{})}
		_, _, err := Write(t.Context(), st, Key(1, 1), largeTree(t, 1<<20), WriteOptions{})
		check(t, err)
		p := pagesOf(t, st, PagesOptions{Clock: noWait{clock.System()}})
		f, _, _, _ := opened(t, p, Key(1, 1))
		st.fails, st.err, st.spoil, st.reads = c.fails, c.err, c.spoil, 0
		file, err := f.Open("/base/5/16384", os.O_RDONLY, 0)
		check(t, err)
		missing := file.Missing(0, memfs.ChunkSize)
		_, err = memfs.Get(t.Context(), p, missing)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || st.reads != c.reads {
			t.Errorf("%s: %v after %d reads", c.name, err, st.reads)
		}
		if err != nil {
			if got, err := memfs.Get(t.Context(), p, missing); err != nil || file.Fill(missing, got) == 0 {
				t.Errorf("%s: asked again: %v", c.name, err)
			}
		}
	}
}

// TestPagesPatience: an outage eventually becomes an error.
func TestPagesPatience(t *testing.T) {
	st := &failing{Store: mem.New(mem.Options{})}
	_, _, err := Write(t.Context(), st, Key(1, 1), largeTree(t, 1<<20), WriteOptions{})
	check(t, err)
	clk := clock.NewVirtual(clock.System().Now())
	p := pagesOf(t, st, PagesOptions{Clock: skips{clk}})
	f, _, _, _ := opened(t, p, Key(1, 1))
	st.fails, st.err = -1, store.ErrUnavailable
	if err := f.Bring(t.Context(), p, "/base/5/16384"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if st.reads < 10 {
		t.Errorf("%d reads", st.reads)
	}
	st.fails = 0
	check(t, f.Bring(t.Context(), p, "/base/5/16384"))
}

// skips is a virtual clock on which sleep takes no time.
type skips struct{ *clock.Virtual }

func (s skips) Sleep(ctx context.Context, d time.Duration) error { s.Advance(d); return ctx.Err() }

// TestPagesAreSharedInFlight: a reader that wants a frame in flight waits for it; one that gives up disturbs no other; none gets another's
// chunks.
func TestPagesAreSharedInFlight(t *testing.T) {
	st := &failing{Store: mem.New(mem.Options{})}
	_, _, err := Write(t.Context(), st, Key(1, 1), largeTree(t, 1<<20), WriteOptions{})
	check(t, err)
	p := pagesOf(t, st, PagesOptions{})
	f, _, _, _ := opened(t, p, Key(1, 1))
	file, err := f.Open("/base/5/16384", os.O_RDONLY, 0)
	check(t, err)
	missing := file.Missing(0, memfs.ChunkSize)
	hold := make(chan struct{})
	st.hold = hold
	p.Ahead([]int64{missing[0].Address})
	if _, ok := memfs.Have(p, missing); ok {
		t.Error("what is on its way is ready")
	}
	ctx, cancel := context.WithCancel(t.Context())
	gave := make(chan error)
	go func() { _, err := memfs.Get(ctx, p, missing); gave <- err }()
	cancel()
	if err := <-gave; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	both := make(chan []memfs.Fetched)
	for range 2 {
		go func() {
			got, err := memfs.Get(t.Context(), p, missing)
			both <- got
			gave <- err
		}()
	}
	for waiting := 0; waiting < 2; runtime.Gosched() { // both wait for the same fetch
		p.mu.Lock()
		waiting = 0
		for _, f := range p.frames {
			waiting += f.wanted
		}
		p.mu.Unlock()
	}
	close(hold)
	one, other := <-both, <-both
	check(t, errors.Join(<-gave, <-gave))
	if one[0].Data == other[0].Data || *one[0].Data != *other[0].Data {
		t.Error("two were given the same bytes, or others")
	}
	if file.Fill(missing, one) == 0 || file.Fill(missing, other) != 0 {
		t.Error("it was put in place twice, or not at all")
	}
	if c := p.Counts(); c.Requests != 1 || c.Ahead != 1 || c.AheadUsed != 1 || c.Frames != 1 {
		t.Errorf("%+v", c)
	}
}

// TestPagesAreTheirs: a reader that got a frame's chunks writes to them while others that wait for the same frame still get theirs.
func TestPagesAreTheirs(t *testing.T) {
	st, src := mem.New(mem.Options{}), largeTree(t, 8<<20)
	_, _, err := Write(t.Context(), st, Key(1, 1), src, WriteOptions{})
	check(t, err)
	p := pagesOf(t, st, PagesOptions{})
	f, _, _, _ := opened(t, p, Key(1, 1))
	file, err := f.Open("/base/5/16384", os.O_RDONLY, 0)
	check(t, err)
	missing := file.Missing(100*memfs.ChunkSize, memfs.ChunkSize)
	original, err := src.Open("/base/5/16384", os.O_RDONLY, 0)
	check(t, err)
	var want [memfs.ChunkSize]byte
	_, err = original.ReadAt(want[:], 100*memfs.ChunkSize)
	check(t, err)
	for range 300 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				got, err := memfs.Get(t.Context(), p, missing)
				if err != nil {
					t.Error(err)
					return
				}
				for _, g := range got {
					if g.Address == missing[0].Address && *g.Data != want {
						t.Error("somebody else's bytes")
					}
					clear(g.Data[:])
				}
			})
		}
		all.Wait()
	}
}

// TestForget: after many layers, only what the last one needs is remembered, and asking for a page in its old place is an error.
func TestForget(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed, 310))
	st := mem.New(mem.Options{})
	c := &chain{t: t, st: st, tree: makeTree(t, rng, 12), o: WriteOptions{FrameBytes: 2 * memfs.ChunkSize, SegmentBytes: 20_000}}
	c.next()
	p := pagesOf(t, st, PagesOptions{KeepBytes: 1 << 20})
	c.tree, c.last, c.mark, _ = opened(t, p, c.last.Key())
	c.o.Pages = p
	old := c.last
	most := 0
	for range 1000 {
		path := fmt.Sprintf("/base/1/%d", 1000+rng.IntN(12))
		check(t, c.tree.WriteFile(path, pages(rng, 1+rng.IntN(60_000)), 0o600))
		mark := c.tree.Mark()
		c.next()
		check(t, c.settle(mark))
		c.forget()
		c.o.Pages.Forget(c.last)
		c.tree.Evict(memfs.Eviction{})
		n := len(p.segments)
		if n != c.last.Use().Segments || len(p.ids) != n || p.kept > 1<<20 {
			t.Fatalf("layer %d: %d segments and %d names are known of %d, %d bytes are kept", c.seq, n, len(p.ids), c.last.Use().Segments, p.kept)
		}
		most = max(most, n)
	}
	t.Logf("%d segments at most", most)
	if _, err := p.Fetch(t.Context(), []int64{0}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a page of layer %s: %v", old.Key(), err)
	}
	whole(t, p, c.tree)
	if want, got := contents(t, c.tree), contents(t, restored(t, st, c.last.Key())); want != got {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}
