//go:build linux && !race

// The race detector takes several times the memory of what it watches.

package base

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/store"
)

// dirStore keeps objects in files, out of the measured memory.
type dirStore string

func (d dirStore) file(key string) string {
	return filepath.Join(string(d), strings.ReplaceAll(key, "/", "_"))
}

func (d dirStore) Get(_ context.Context, key string) (store.Object, error) {
	body, err := os.ReadFile(d.file(key))
	return store.Object{Body: body}, err
}

func (d dirStore) Put(_ context.Context, key string, body []byte, _ string, _ store.Cond) (store.Gen, error) {
	return 1, os.WriteFile(d.file(key), body, 0o600)
}

func (d dirStore) Delete(_ context.Context, key string) error { return os.Remove(d.file(key)) }

func (d dirStore) List(context.Context, string, string) iter.Seq2[store.Attrs, error] {
	return func(func(store.Attrs, error) bool) {}
}

const memoryEnv = "BASE_TEST_MEMORY_DIR"

// A restore must not take much more memory than the database: the whole restoring process is measured.
func TestRestoreFitsInMemory(t *testing.T) {
	if dir := os.Getenv(memoryEnv); dir != "" {
		dst := memfs.New(memfs.Options{})
		_, _, err := Read(t.Context(), dirStore(dir), key, dst, ReadOptions{})
		check(t, err)
		fmt.Printf("peak %d used %d\n", peakBytes(t), dst.UsedBytes())
		return
	}
	const size = 192 << 20
	for name, fill := range map[string]func(testing.TB, int64) *memfs.FS{"compressible": largeTree, "random": randomTree} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, _, err := Write(t.Context(), dirStore(dir), key, fill(t, size), WriteOptions{})
			check(t, err)
			exe, err := os.Executable()
			check(t, err)
			child := exec.CommandContext(t.Context(), exe, "-test.run=^TestRestoreFitsInMemory$")
			child.Env = append(os.Environ(), memoryEnv+"="+dir)
			out, err := child.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var peak, used int64
			_, err = fmt.Sscanf(string(out), "peak %d used %d", &peak, &used)
			check(t, err)
			// 1.5 times the database plus a fixed amount; three copies of it, or two of what was stored, would not fit.
			limit := used*3/2 + 100<<20
			t.Logf("%d MB restored, peak %d MB, limit %d MB", used>>20, peak>>20, limit>>20)
			if used < size || peak > limit {
				t.Fatalf("%d bytes restored, peak %d, limit %d", used, peak, limit)
			}
		})
	}
}

// peakBytes returns the largest resident size of this process so far.
func peakBytes(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	check(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			check(t, err)
			return kb << 10
		}
	}
	t.Fatal("the system does not tell the peak")
	return 0
}

// randomTree is n incompressible bytes.
func randomTree(t testing.TB, n int64) *memfs.FS {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	f := memfs.New(memfs.Options{})
	file, err := f.Open("/random", os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	page := make([]byte, memfs.ChunkSize)
	for off := int64(0); off < n; off += memfs.ChunkSize {
		rng.Read(page)
		_, err := file.WriteAt(page, off)
		check(t, err)
	}
	check(t, file.Close())
	return f
}
