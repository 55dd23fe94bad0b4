package takeover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// sparse writes n pages to a file, each with some bytes that do not compress.
func sparse(t *testing.T, files *memfs.FS, name string, rng *rand.ChaCha8, n int) {
	t.Helper()
	const random = 1 << 10
	body := make([]byte, n*memfs.ChunkSize)
	for i := range n {
		_, _ = rng.Read(body[i*memfs.ChunkSize:][:random])
	}
	if err := files.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyCountsWhatLayersShareOnce: it reports how many bytes are stored, and reads them once, however many layers need them.
func TestVerifyCountsWhatLayersShareOnce(t *testing.T) {
	t.Parallel()
	const layers = 5
	st, rng := mem.New(mem.Options{}), rand.NewChaCha8([32]byte{7})
	o := mustOpen(t, st, "w")
	files := memfs.New(memfs.Options{})
	sparse(t, files, "/table", rng, 2000)
	var last *base.Layer
	var since memfs.Mark
	for n := range layers {
		sparse(t, files, "/changed", rng, 10)
		at := write(t, o.Log, fmt.Sprint(n))
		mark := files.Mark()
		l, stats, err := base.Write(t.Context(), st, base.Key(o.Epoch, at.Seq), files.Clone(), base.WriteOptions{Share: last, Since: since})
		if err != nil {
			t.Fatal(err)
		}
		last, since = l, mark
		named := layerOf(o.Epoch, at)
		named.RawBytes, named.StoredBytes, named.Segments = stats.RawBytes, stats.StoredBytes, stats.Segments
		hour := clock.NewVirtual(t0.Add(time.Duration(n) * time.Hour))
		if _, err = manifest.Publish(t.Context(), st, manifest.Options{Epoch: o.Epoch, Writer: "w", Retain: 4 * time.Hour, Clock: hour}, named); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: o.Epoch, Writer: "w"}); err != nil {
		t.Fatal(err)
	}
	stored, others := int64(0), int64(0)
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(a.Key, base.Prefix()) || strings.HasPrefix(a.Key, base.SegmentPrefix()) {
			stored += a.Size
		} else {
			others += a.Size
		}
	}
	counted := store.Count(st)
	r, err := VerifyWith(t.Context(), counted, VerifyOptions{Deep: true})
	// The manifest is read twice.
	if read := counted.Ops().BytesDown; err != nil || r.LayerBytes != stored || read > stored+2*others || r.Layers != layers {
		t.Errorf("of %d bytes that are stored for %d layers, it tells of %d, and has read %d (%d of these for the rest): %v", stored, r.Layers, r.LayerBytes, read, 2*others, err)
	}
}

// heapStore records the size of the heap whenever a segment is read.
type heapStore struct {
	store.Store
	most chan uint64
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (h heapStore) Get(ctx context.Context, key string) (store.Object, error) {
	if strings.HasPrefix(key, base.SegmentPrefix()) {
		h.most <- max(<-h.most, heapBytes())
	}
	return h.Store.Get(ctx, key)
}

// TestSurveyKeepsNothing: the search for what could be adopted does not hold the files in memory: a database may be larger than that.
func TestSurveyKeepsNothing(t *testing.T) { // alone: it looks at the heap
	const pages = 12_000
	st, files := mem.New(mem.Options{}), memfs.New(memfs.Options{})
	if err := files.WriteFile("/PG_VERSION", []byte("18\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sparse(t, files, "/table", rand.NewChaCha8([32]byte{8}), pages)
	key := base.Key(0, 0) + "-01BRANCH"
	_, stats, err := base.Write(t.Context(), st, key, files, base.WriteOptions{Database: "01BRANCH", SegmentBytes: 512 << 10})
	if err != nil {
		t.Fatal(err)
	}
	files = nil
	h := heapStore{st, make(chan uint64, 1)}
	before := heapBytes()
	h.most <- before
	a, err := Survey(t.Context(), h)
	if err != nil || a.Postgres != "18" || a.Layer.RawBytes != stats.RawBytes || a.Layer.StoredBytes != stats.StoredBytes || a.Layer.Segments != stats.Segments {
		t.Errorf("%+v, %v; want %+v", a, err, stats)
	}
	if most := <-h.most; most > before+pages*memfs.ChunkSize/3 || stats.Segments < 20 {
		t.Errorf("of %d MB in %d segments, %d MB were in memory", stats.RawBytes>>20, stats.Segments, (most-before)>>20)
	}
	if err := st.Delete(t.Context(), base.IndexKey(key)); err != nil {
		t.Fatal(err)
	}
	layer := memfs.New(memfs.Options{})
	sparse(t, layer, "/table", rand.NewChaCha8([32]byte{9}), 1)
	if _, _, err := base.Write(t.Context(), st, base.Key(0, 0)+"-02BRANCH", layer, base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Survey(t.Context(), st); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "/PG_VERSION") {
		t.Errorf("files of no version: %v", err)
	}
}
