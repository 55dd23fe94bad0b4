package base

import (
	"os"
	"runtime"
	"testing"
	"weak"

	"blobpglite/core/memfs"
	"blobpglite/core/store/mem"
)

// TestLayerHoldsNoPages: a layer's description is kept as long as its writer lives; the pages it was made from are not.
func TestLayerHoldsNoPages(t *testing.T) {
	tree := memfs.New(memfs.Options{})
	check(t, tree.MkdirAll("/base/5", 0o700))
	f, err := tree.Open("/base/5/16384", os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	check(t, f.Truncate(memfs.ChunkSize))
	page := &[memfs.ChunkSize]byte{1}
	there := weak.Make(page)
	check(t, f.InstallChunk(0, page))
	l, _, err := Write(t.Context(), mem.New(mem.Options{}), Key(1, 1), tree, WriteOptions{})
	check(t, err)
	tree, f, page = nil, nil, nil
	runtime.GC()
	if there.Value() != nil {
		t.Error("a page of the files is still in memory")
	}
	runtime.KeepAlive(l)
}
