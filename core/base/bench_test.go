package base

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"blobpglite/core/memfs"
	"blobpglite/core/store/mem"
)

// largeTree is n bytes of table-like pages in files of up to 16 MiB.
func largeTree(t testing.TB, n int64) *memfs.FS {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 20))
	f := memfs.New(memfs.Options{})
	check(t, f.MkdirAll("/base/5", 0o700))
	for i := 0; n > 0; i++ {
		size := min(n, 16<<20)
		file, err := f.Open(fmt.Sprintf("/base/5/%d", 16384+i), os.O_RDWR|os.O_CREATE, 0o600)
		check(t, err)
		for off := int64(0); off < size; off += memfs.ChunkSize {
			_, err := file.WriteAt(pages(rng, int(min(memfs.ChunkSize, size-off))), off)
			check(t, err)
		}
		check(t, file.Close())
		n -= size
	}
	return f
}

const benchBytes = 100 << 20

func BenchmarkWrite100MB(b *testing.B) {
	src := largeTree(b, benchBytes)
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
		b.Run(level.String(), func(b *testing.B) {
			b.SetBytes(benchBytes)
			var stats Stats
			for b.Loop() {
				st := mem.New(mem.Options{})
				var err error
				_, stats, err = Write(b.Context(), st, key, src, WriteOptions{Level: level})
				check(b, err)
			}
			b.ReportMetric(float64(stats.RawBytes)/float64(stats.StoredBytes), "ratio")
		})
	}
}

func BenchmarkRead100MB(b *testing.B) {
	st := mem.New(mem.Options{})
	_, _, err := Write(b.Context(), st, key, largeTree(b, benchBytes), WriteOptions{})
	check(b, err)
	b.SetBytes(benchBytes)
	for b.Loop() {
		_, _, err := Read(b.Context(), st, key, memfs.New(memfs.Options{}), ReadOptions{})
		check(b, err)
	}
}

// hugeTree is a database of n bytes in files of 1 GB whose chunks are all the same one in memory.
func hugeTree(t testing.TB, n int64) *memfs.FS {
	t.Helper()
	page := [memfs.ChunkSize]byte{1, 2, 3}
	f := memfs.New(memfs.Options{})
	check(t, f.MkdirAll("/base/5", 0o700))
	for i := 0; n > 0; i++ {
		size := min(n, 1<<30)
		file, err := f.Open(fmt.Sprintf("/base/5/16384.%d", i), os.O_RDWR|os.O_CREATE, 0o600)
		check(t, err)
		check(t, file.Truncate(size))
		for c := range size / memfs.ChunkSize {
			check(t, file.InstallChunk(c, &page))
		}
		check(t, file.Close())
		n -= size
	}
	return f
}

// BenchmarkLayers10GB: what a layer of a large database costs apart from its uploads, how large its index is, and what opening and settling
// take, after rounds of changes to one page in a hundred.
func BenchmarkLayers10GB(b *testing.B) {
	const files, bytes = 10, 10 << 30
	st := mem.New(mem.Options{})
	first, _, err := Write(b.Context(), st, Key(1, 1), hugeTree(b, bytes), WriteOptions{SegmentBytes: 1 << 10})
	check(b, err)
	p := pagesOf(b, st, PagesOptions{})
	began := p.o.Clock.Monotonic()
	tree, last, mark, _ := opened(b, p, first.Key())
	b.ReportMetric(float64((p.o.Clock.Monotonic()-began).Microseconds())/1e3, "open-ms")
	rng := rand.New(rand.NewPCG(seed, 21))
	page := make([]byte, memfs.ChunkSize)
	seq := uint64(1)
	for b.Loop() {
		b.StopTimer()
		for range bytes / memfs.ChunkSize / 100 {
			file, err := tree.Open(fmt.Sprintf("/base/5/16384.%d", rng.IntN(files)), os.O_RDWR, 0)
			check(b, err)
			page[0], page[1] = byte(rng.Uint32()), 1
			_, err = file.WriteAt(page, rng.Int64N(1<<30/memfs.ChunkSize)*memfs.ChunkSize)
			check(b, err)
			check(b, file.Close())
		}
		seq++
		at := tree.Mark()
		clone := tree.Clone()
		b.StartTimer()
		l, stats, err := Write(b.Context(), st, Key(1, seq), clone, WriteOptions{Share: last, Since: mark, Pages: p, SegmentBytes: 1 << 10})
		b.StopTimer()
		check(b, err)
		began := p.o.Clock.Monotonic()
		longest := p.o.Clock.Monotonic() - began
		for ino, o := range l.Origins(p) {
			began := p.o.Clock.Monotonic()
			check(b, tree.Settle(ino, at, o))
			longest = max(longest, p.o.Clock.Monotonic()-began)
		}
		b.ReportMetric(float64((p.o.Clock.Monotonic()-began).Microseconds())/1e3, "settle-ms")
		b.ReportMetric(float64(longest.Microseconds())/1e3, "settle-file-ms")
		b.ReportMetric(float64(l.size), "index-B")
		b.ReportMetric(float64(stats.CleanedBytes>>20), "cleaned-MB")
		b.ReportMetric(float64(l.Use().Segments), "segments")
		last, mark = l, at
		tree.Evict(memfs.Eviction{Budget: 1 << 20})
		b.StartTimer()
	}
}
