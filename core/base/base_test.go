package base

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

const (
	seed = 20251125
	key  = "base/7-120"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeTree fills a tree with everything that a layer must preserve.
func makeTree(t testing.TB, rng *rand.Rand, files int) *memfs.FS {
	t.Helper()
	f := memfs.New(memfs.Options{})
	for _, dir := range []string{"/base/1", "/pg_wal/archive_status", "/pg_twophase", "/global"} {
		check(t, f.MkdirAll(dir, 0o700))
	}
	check(t, f.Chmod("/", 0o750))
	check(t, f.WriteFile("/PG_VERSION", []byte("18\n"), 0o640))
	check(t, f.WriteFile("/empty", nil, 0o600))
	check(t, f.Symlink("base/1", "/link"))
	check(t, f.WriteFile("/zeros", make([]byte, 3*memfs.ChunkSize+5), 0o600))
	for i := range files {
		file, err := f.Open(fmt.Sprintf("/base/1/%d", 1000+i), os.O_RDWR|os.O_CREATE, 0o600)
		check(t, err)
		for range rng.IntN(5) {
			_, err := file.WriteAt(pages(rng, rng.IntN(5*memfs.ChunkSize)), int64(rng.IntN(30*memfs.ChunkSize)))
			check(t, err)
		}
		check(t, file.Truncate(int64(rng.IntN(40*memfs.ChunkSize))))
		check(t, file.Close())
	}
	if files > 0 {
		check(t, f.Link("/base/1/1000", "/global/second name"))
	}
	check(t, f.Chtimes("/base/1", time.Time{}, time.Unix(5, 6)))
	check(t, f.Chtimes("/", time.Time{}, time.Unix(7, 8)))
	return f
}

// pages makes n bytes that compress about as well as table pages.
func pages(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; i += 16 {
		chunk := rng.Uint64()
		for j := range min(6, n-i) {
			p[i+j] = byte(chunk >> (8 * j))
		}
	}
	return p
}

// describe lists everything that a restore must reproduce.
func describe(t testing.TB, f *memfs.FS) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	check(t, f.Walk("/", func(path string, i memfs.Info) error {
		fmt.Fprintf(&b, "%s %o", path, i.Mode)
		switch {
		case i.IsSymlink():
			target, err := f.Readlink(path)
			check(t, err)
			fmt.Fprintf(&b, " -> %s", target)
		case i.IsRegular():
			data, err := f.ReadFile(path)
			check(t, err)
			fmt.Fprintf(&b, " %d %08x %v", i.Size, checksum(data), i.Mtime.UnixNano())
			if first[i.Ino] == "" {
				first[i.Ino] = path
			}
			fmt.Fprintf(&b, " %d links, %s", i.Nlink, first[i.Ino])
		default:
			fmt.Fprintf(&b, " %v", i.Mtime.UnixNano())
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// objects returns everything in a store.
func objects(t testing.TB, st store.Store) map[string]string {
	t.Helper()
	all := keys(t, st, "")
	for k := range all {
		o, err := st.Get(context.Background(), k)
		check(t, err)
		all[k] = string(o.Body)
	}
	return all
}

// keys returns the keys of the objects below a prefix, with empty values.
func keys(t testing.TB, st store.Store, prefix string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for a, err := range st.List(context.Background(), prefix, "") {
		check(t, err)
		all[a.Key] = ""
	}
	return all
}

func restore(t testing.TB, st store.Store) *memfs.FS {
	t.Helper()
	dst := memfs.New(memfs.Options{})
	_, _, err := Read(t.Context(), st, key, dst, ReadOptions{})
	check(t, err)
	return dst
}

func TestRoundTrip(t *testing.T) {
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i, o := range []WriteOptions{
		{},
		{FrameBytes: memfs.ChunkSize, SegmentBytes: 1, Parallel: 3},
		{FrameBytes: 3 * memfs.ChunkSize, SegmentBytes: 50_000, Parallel: 1},
		{FrameBytes: DefaultFrameBytes, SegmentBytes: 200_000, Level: 4, Parallel: 20},
		{FrameBytes: MaxFrameBytes, SegmentBytes: MaxSegmentBytes},
	} {
		src := makeTree(t, rng, i*20)
		st := mem.New(mem.Options{})
		counted := store.Count(st)
		_, wrote, err := Write(t.Context(), counted, key, src, o)
		check(t, err)
		dst := memfs.New(memfs.Options{})
		_, read, err := Read(t.Context(), st, key, dst, ReadOptions{Parallel: i + 1})
		check(t, err)
		if want, got := describe(t, src), describe(t, dst); want != got {
			t.Fatalf("restored\n%s\nwant\n%s", got, want)
		}
		if dst.UsedBytes() != wrote.RawBytes || dst.UsedBytes() >= src.UsedBytes() {
			t.Fatalf("%d bytes used, %d in the layer, %d before: zeros were stored", dst.UsedBytes(), wrote.RawBytes, src.UsedBytes())
		}
		if counted.Ops().BytesUp != wrote.StoredBytes || counted.Ops().ClassA != int64(wrote.Segments+1) || counted.Ops().ClassB != 0 {
			t.Fatalf("%+v for %+v", counted.Ops(), wrote)
		}
		if wrote.Files != read.Files || wrote.RawBytes != read.RawBytes || wrote.StoredBytes != read.StoredBytes ||
			wrote.Segments != read.Segments || wrote.Frames != read.Frames || wrote.Files != i*20+3 {
			t.Fatalf("wrote %+v, read %+v", wrote, read)
		}
		largest := max(o.SegmentBytes, maxStored(max(o.FrameBytes, memfs.ChunkSize)))
		for k, body := range objects(t, st) {
			if o.SegmentBytes > 0 && strings.Contains(k, "page/") && int64(len(body)) > largest {
				t.Fatalf("%s has %d bytes, the limit is %d", k, len(body), largest)
			}
		}
	}
}

func TestTheSameTreeGivesTheSameObjects(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 2)), 50)
	o := WriteOptions{FrameBytes: 2 * memfs.ChunkSize, SegmentBytes: 60_000}
	a, b := mem.New(mem.Options{}), mem.New(mem.Options{})
	for _, st := range []store.Store{a, b, a} { // a twice: existing objects are just as good
		_, _, err := Write(t.Context(), st, key, src, o)
		check(t, err)
	}
	before := objects(t, a)
	if !maps.Equal(before, objects(t, b)) {
		t.Fatal("two writes of one tree differ")
	}
	check(t, src.WriteFile("/base/1/1003", []byte("another tree"), 0o600))
	if _, _, err := Write(t.Context(), a, key, src, o); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("another tree under the same key: %v", err)
	}
	if !maps.Equal(before, objects(t, a)) {
		t.Fatal("a finished layer was changed")
	}
}

func TestIncludeAndLimits(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 3)), 10)
	st := mem.New(mem.Options{})
	_, _, err := Write(t.Context(), st, key, src, WriteOptions{Include: func(path string, info memfs.Info) bool {
		return path != "/base" && path != "/global/second name" && path != "/empty"
	}})
	check(t, err)
	dst := restore(t, st)
	for path, want := range map[string]bool{"/PG_VERSION": true, "/pg_wal/archive_status": true, "/base": false, "/empty": false} {
		if _, err := dst.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	for name, c := range map[string]struct {
		o    WriteOptions
		key  string
		want error
	}{
		"too large":         {WriteOptions{MaxBytes: 8192}, key, ErrTooLarge},
		"uneven frames":     {WriteOptions{FrameBytes: 10000}, key, store.ErrInvalid},
		"large frames":      {WriteOptions{FrameBytes: MaxFrameBytes + memfs.ChunkSize}, key, store.ErrInvalid},
		"negative segments": {WriteOptions{SegmentBytes: -1}, key, store.ErrInvalid},
		"many goroutines":   {WriteOptions{Parallel: maxParallel + 1}, key, store.ErrInvalid},
		"key goes up":       {WriteOptions{}, "base/../x", store.ErrInvalid},
		"key is absolute":   {WriteOptions{}, "/base", store.ErrInvalid},
		"no layer's name":   {WriteOptions{}, "fine", store.ErrInvalid},
		"below the limit":   {WriteOptions{MaxBytes: 1 << 40}, Key(1, 2), nil},
	} {
		st := store.Count(mem.New(mem.Options{}))
		if _, _, err := Write(t.Context(), st, c.key, src, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if (st.Ops() == store.Ops{}) != (c.want != nil) {
			t.Errorf("%s: %+v", name, st.Ops())
		}
	}
	if _, _, err := Read(t.Context(), st, key, dst, ReadOptions{}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("restore into a full tree: %v", err)
	}
	small := memfs.New(memfs.Options{MaxBytes: 8192})
	if _, _, err := Read(t.Context(), restoreSource(t, src), key, small, ReadOptions{}); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("restore into too small a tree: %v", err)
	}
}

func restoreSource(t testing.TB, src *memfs.FS) store.Store {
	t.Helper()
	st := mem.New(mem.Options{})
	_, _, err := Write(t.Context(), st, key, src, WriteOptions{FrameBytes: 2 * memfs.ChunkSize, SegmentBytes: 40_000})
	check(t, err)
	return st
}

func TestProgressReachesTheEnd(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 4)), 30)
	st := mem.New(mem.Options{})
	var last, total int64
	progress := func(d, n int64) {
		if d < last || d > n || (total != 0 && total != n) {
			t.Errorf("progress went from %d of %d to %d of %d", last, total, d, n)
		}
		last, total = d, n
	}
	_, stats, err := Write(t.Context(), st, key, src, WriteOptions{Progress: progress, FrameBytes: 3 * memfs.ChunkSize})
	check(t, err)
	if last != total || total != stats.RawBytes {
		t.Fatalf("write ended at %d of %d, raw %d", last, total, stats.RawBytes)
	}
	last, total = 0, 0
	_, _, err = Read(t.Context(), st, key, memfs.New(memfs.Options{}), ReadOptions{Progress: progress})
	check(t, err)
	if last != total || total != stats.RawBytes {
		t.Fatalf("read ended at %d of %d", last, total)
	}
	last, total = 0, 0
	_, verified, err := Verify(t.Context(), st, key, ReadOptions{Progress: progress})
	check(t, err)
	if last != total || total != stats.RawBytes || verified.StoredBytes != stats.StoredBytes || verified.Files != stats.Files {
		t.Fatalf("verification ended at %d of %d: %+v, written was %+v", last, total, verified, stats)
	}
}

// Every byte of every object matters: whatever is changed, Read reports it, names the object and leaves the bucket alone.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	good := objects(t, restoreSource(t, makeTree(t, rng, 30)))
	keys := slices.Sorted(maps.Keys(good))
	if len(keys) < 6 {
		t.Fatalf("only %d objects", len(keys))
	}
	try := func(name string, damage func(map[string]string), object string, want error) {
		t.Helper()
		changed := maps.Clone(good)
		damage(changed)
		st := mem.New(mem.Options{})
		for k, v := range changed {
			_, err := st.Put(t.Context(), k, []byte(v), "", store.Always())
			check(t, err)
		}
		_, _, err := Read(t.Context(), st, key, memfs.New(memfs.Options{}), ReadOptions{})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), object) {
			t.Errorf("%s: %v, want %v of %s", name, err, want, object)
		}
		if _, _, err := Verify(t.Context(), st, key, ReadOptions{}); !errors.Is(err, want) || !strings.Contains(err.Error(), object) {
			t.Errorf("%s: verified: %v, want %v of %s", name, err, want, object)
		}
		if !maps.Equal(changed, objects(t, st)) {
			t.Errorf("%s: the bucket was changed", name)
		}
	}
	x := must(decodeIndex(key, []byte(good[IndexKey(key)])))
	for _, k := range keys {
		var classes []class
		if k == IndexKey(key) {
			classes = indexClasses(t, good[k])
		} else {
			classes = segmentClasses(t, x, k, good[k])
		}
		for _, c := range classes {
			for _, at := range c.samples() {
				for bit := range c.bits(at) {
					body, want := []byte(good[k]), ErrCorrupt
					body[at] ^= bit
					if c.name == "format" && binary.LittleEndian.Uint32(body[c.from:]) > Format {
						want = ErrNewer
					}
					try(fmt.Sprintf("%s, %s: byte %d ^ %02x", k, c.name, at, bit), func(m map[string]string) { m[k] = string(body) }, k, want)
				}
			}
		}
		try(k+" cut", func(m map[string]string) { m[k] = m[k][:len(m[k])-1] }, k, ErrCorrupt)
		try(k+" longer", func(m map[string]string) { m[k] += "x" }, k, ErrCorrupt)
		try(k+" empty", func(m map[string]string) { m[k] = "" }, k, ErrCorrupt)
		try(k+" missing", func(m map[string]string) { delete(m, k) }, k, store.ErrNotFound)
	}
	a, b := SegmentKey(key, 0), SegmentKey(key, 1)
	try("segments swapped", func(m map[string]string) { m[a], m[b] = m[b], m[a] }, "segment", ErrCorrupt)
	newer := func(m map[string]string) {
		k := IndexKey(key)
		m[k] = magic + "\x03\x00\x00\x00" + m[k][len(magic)+4:]
	}
	try("newer", newer, "format is 3, this program reads up to 2", ErrNewer)
	try("newer", newer, "index", manifest.ErrNewer)
	try("format one", func(m map[string]string) {
		k := IndexKey(key)
		m[k] = magic + "\x01\x00\x00\x00" + m[k][len(magic)+4:]
	}, "index", ErrCorrupt)
	try("format zero", func(m map[string]string) {
		k := IndexKey(key)
		m[k] = magic + "\x00\x00\x00\x00" + m[k][len(magic)+4:]
	}, "index", ErrCorrupt)
	try("frame named", func(m map[string]string) {
		body := []byte(m[b])
		body[len(body)-1] ^= 1
		m[b] = string(body)
	}, "frame ", store.ErrCorrupt)
}

func TestPointsAreFiredAndObeyed(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 6)), 30)
	boom := errors.New("boom")
	for _, at := range []point.Point{"", point.BaseBeforeSegment, point.BaseAfterSegment, point.BaseAfterLastSegment, point.BaseAfterIndex} {
		for nth := 1; nth <= 3; nth += 2 {
			st := mem.New(mem.Options{})
			var mu sync.Mutex
			count := map[point.Point]int{}
			hook := func(ctx context.Context, p point.Point) error {
				mu.Lock()
				defer mu.Unlock()
				count[p]++
				if p == at && count[p] == nth {
					return boom
				}
				return nil
			}
			_, stats, err := Write(t.Context(), st, key, src, WriteOptions{Hook: hook, SegmentBytes: 40_000, FrameBytes: 16384})
			_, indexErr := st.Get(t.Context(), IndexKey(key))
			wantIndex := at == "" || at == point.BaseAfterIndex
			single := nth == 3 && (at == point.BaseAfterLastSegment || at == point.BaseAfterIndex)
			switch {
			case at == "" || single:
				check(t, err)
				if count[point.BaseBeforeSegment] != stats.Segments || count[point.BaseAfterSegment] != stats.Segments || stats.Segments < 3 ||
					count[point.BaseAfterLastSegment] != 1 || count[point.BaseAfterIndex] != 1 {
					t.Fatalf("%d segments, fired %v", stats.Segments, count)
				}
			case !errors.Is(err, boom):
				t.Fatalf("%s: %v", at, err)
			case (indexErr == nil) != wantIndex:
				t.Fatalf("%s: index %v", at, indexErr)
			}
			// The same tree under the same key continues from what is there.
			_, _, err = Write(t.Context(), st, key, src, WriteOptions{SegmentBytes: 40_000, FrameBytes: 16384})
			check(t, err)
			if describe(t, restore(t, st)) != describe(t, src) {
				t.Fatalf("%s: the second try restores something else", at)
			}
		}
	}
}

// faulty is a store whose n-th put ends as fault says.
type faulty struct {
	store.Store
	mu    sync.Mutex
	puts  int
	fault func(n int) (apply bool, err error)
	ids   map[string]map[string]bool // the write ids of each key's puts
}

func (s *faulty) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	s.mu.Lock()
	s.puts++
	apply, err := s.fault(s.puts)
	if s.ids[key] == nil {
		s.ids[key] = map[string]bool{}
	}
	s.ids[key][id] = true
	s.mu.Unlock()
	if !apply {
		return 0, &store.OpError{Op: "put", Key: key, Err: err}
	}
	gen, applyErr := s.Store.Put(ctx, key, body, id, cond)
	if err != nil {
		return 0, &store.OpError{Op: "put", Key: key, Err: err}
	}
	return gen, applyErr
}

type noWait struct{ clock.Clock }

func (noWait) Sleep(ctx context.Context, d time.Duration) error { return ctx.Err() }

func TestStoreFaults(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 7)), 30)
	for _, c := range []struct {
		name  string
		fault func(n int) (bool, error)
		want  error
	}{
		{"every other reply lost", func(n int) (bool, error) { return true, []error{nil, store.ErrUnknown}[n%2] }, nil},
		{"every other put lost", func(n int) (bool, error) { return n%2 == 0, []error{nil, store.ErrUnknown}[n%2] }, nil},
		{"throttled now and then", func(n int) (bool, error) { return n%3 != 0, []error{store.ErrThrottled, nil, nil}[n%3] }, nil},
		{"throttled for good", func(n int) (bool, error) { return n < 3, map[bool]error{false: store.ErrThrottled}[n < 3] }, store.ErrThrottled},
		{"unknown for good", func(n int) (bool, error) { return n < 3, map[bool]error{false: store.ErrUnknown}[n < 3] }, store.ErrUnknown},
		{"denied", func(n int) (bool, error) { return n < 3, map[bool]error{false: store.ErrDenied}[n < 3] }, store.ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := &faulty{Store: mem.New(mem.Options{}), fault: c.fault, ids: map[string]map[string]bool{}}
			_, _, err := Write(t.Context(), st, key, src, WriteOptions{
				SegmentBytes: 40_000, FrameBytes: 16384, Parallel: 2, Clock: noWait{clock.System()},
			})
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			for key, ids := range st.ids {
				if len(ids) != 1 {
					t.Fatalf("the puts of %s went under %d write ids", key, len(ids))
				}
			}
			if c.want == nil && describe(t, restore(t, st)) != describe(t, src) {
				t.Fatal("restored something else")
			}
			if _, err := st.Get(t.Context(), IndexKey(key)); c.want != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("an index after a failure: %v", err)
			}
		})
	}
}

func TestContextStopsBoth(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 8)), 40)
	for n := 1; n < 8; n += 3 {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		stop := func(int64, int64) {
			if calls++; calls == n {
				cancel()
			}
		}
		st := mem.New(mem.Options{})
		small := WriteOptions{SegmentBytes: 20_000, FrameBytes: 8192, Parallel: 2, Progress: stop}
		if _, _, err := Write(ctx, st, key, src, small); !errors.Is(err, context.Canceled) {
			t.Fatalf("write: %v", err)
		}
		full := restoreSource(t, src)
		ctx, cancel = context.WithCancel(t.Context())
		calls = 0
		_, _, err := Read(ctx, full, key, memfs.New(memfs.Options{}), ReadOptions{Progress: stop, Parallel: 2})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("read: %v", err)
		}
		cancel()
	}
}

// The original changes while its clone is being written: with -race this proves that they share safely.
func TestWriteACloneWhileTheOriginalGoesOn(t *testing.T) {
	src := makeTree(t, rand.New(rand.NewPCG(seed, 9)), 40)
	want := describe(t, src)
	st := mem.New(mem.Options{})
	done := make(chan error)
	clone := src.Clone()
	go func() {
		_, _, err := Write(t.Context(), st, key, clone, WriteOptions{FrameBytes: 8192})
		done <- err
	}()
	page := bytes.Repeat([]byte{9}, memfs.ChunkSize)
	for i := range 2000 {
		file, err := src.Open(fmt.Sprintf("/base/1/%d", 1000+i%40), os.O_RDWR, 0)
		check(t, err)
		_, err = file.WriteAt(page, int64(i%20)*memfs.ChunkSize)
		check(t, err)
		check(t, file.Close())
	}
	check(t, <-done)
	if describe(t, restore(t, st)) != want {
		t.Fatal("the layer is not the tree at the moment of the clone")
	}
}
