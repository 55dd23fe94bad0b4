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
