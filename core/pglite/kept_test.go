package pglite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"blobpglite/core/memfs"
)

// anew makes another runtime on the same cache, with nothing prepared yet.
func anew(t *testing.T, told *[]string) *Runtime {
	t.Helper()
	rt, err := NewRuntime(t.Context(), Options{CacheDir: testRuntime(t).CacheDir(), Progress: func(step string, _, _ int64) {
		if told != nil {
			*told = append(*told, step)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

// forgetKept deletes what was kept for these settings.
func forgetKept(t *testing.T, rt *Runtime, o ClusterOptions) (file string) {
	t.Helper()
	o.fill()
	name, err := rt.keptName(o.settings())
	if err != nil {
		t.Skip("this program has no build ID")
	}
	t.Cleanup(func() {
		if err := rt.assets.KeepNewest(name[:len(name)-len(".image")], 0); err != nil {
			t.Error(err)
		}
	})
	if err := rt.assets.KeepNewest(name[:len(name)-len(".image")], 0); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(rt.CacheDir(), "*.derived", installationName()))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v", found, err)
	}
	return filepath.Join(filepath.Dir(found[0]), name)
}

// A process that finds what another one has prepared starts from the same state: each byte of its memory, of shared memory and of the files
// is as if it had prepared them itself, except for what a start takes from randomness or the clock.
func TestKeptStart(t *testing.T) {
	o := ClusterOptions{Settings: map[string]string{"max_locks_per_transaction": "72"}}
	rt := anew(t, nil)
	file := forgetKept(t, rt, o)
	if _, err := rt.loadKept(fillSettings(o)); !errors.Is(err, errNotKept) {
		t.Fatalf("nothing was kept: %v", err)
	}
	if err := rt.KeepPrepared(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	kept, err := rt.loadKept(fillSettings(o))
	if err != nil {
		t.Fatal(err)
	}
	first, err := rt.prepared.encode(rt.system)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := kept.encode(rt.system); err != nil || !bytes.Equal(first, again) {
		t.Errorf("what was read is not what was written: %d bytes, %d bytes, %v", len(first), len(again), err)
	}
	if on, err := os.ReadFile(file); err != nil || !bytes.Equal(on, first) {
		t.Errorf("the file has %d bytes, %v", len(on), err)
	}

	second := anew(t, nil)
	if err := second.Prepare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	data, err := second.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // kept data must not be changed
		c, err := tryStart(t, second, ClusterOptions{Data: data.Clone(), Settings: o.Settings}, "postgres")
		if err != nil {
			t.Fatal(err)
		}
		if c.image.memory != second.prepared.image.memory {
			t.Error("it did not begin with what was prepared")
		}
		want(t, c, "SELECT current_setting('max_locks_per_transaction')", "72")
		rows(t, c, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 10000)")
		want(t, c, "SELECT count(*) FROM t", "10000")
		c.Kill()
	}
}

func fillSettings(o ClusterOptions) map[string]string {
	o.fill()
	return o.settings()
}

// Kept data that was truncated or changed is not believed: the start is then prepared in full, and that is reported.
func TestKeptStartDamaged(t *testing.T) {
	o := ClusterOptions{Settings: map[string]string{"max_locks_per_transaction": "73"}}
	rt := anew(t, nil)
	file := forgetKept(t, rt, o)
	if err := rt.KeepPrepared(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	other := anew(t, &told)
	rng := rand.New(rand.NewPCG(7, 1))
	for n := range 40 {
		bad := bytes.Clone(good)
		bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
		if n == 0 {
			bad = append(good[:len(good)/2:len(good)/2], make([]byte, len(good)-len(good)/2)...)
		}
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := other.loadKept(fillSettings(o)); !errors.Is(err, errDamaged) {
			t.Fatalf("seed 7, %d: %v", n, err)
		}
		// With a correct sum, damaged content must still not do harm.
		body := bytes.Clone(good[:len(good)-4])
		body[rng.IntN(min(len(body), 400))] ^= 1 << rng.IntN(8)
		if n == 0 {
			body = body[:len(body)/2]
		}
		_ = (&prepared{}).decode(body, other.installed()) // may fail
	}
	if err := other.Prepare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(told, func(s string) bool { return bytes.Contains([]byte(s), []byte("preparing a start in full")) }) {
		t.Errorf("told: %q", told)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Rebuilt programs leave files behind: the oldest are deleted.
func TestKeptStartsAreFew(t *testing.T) {
	rt := anew(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var files []string
	for n := range keptFiles + 2 {
		o := ClusterOptions{Settings: map[string]string{"max_locks_per_transaction": fmt.Sprint(80 + n)}}
		files = append(files, forgetKept(t, rt, o))
		if err := rt.KeepPrepared(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	all, err := filepath.Glob(filepath.Join(filepath.Dir(files[0]), keptPrefix+"*.image"))
	if err != nil || len(all) != keptFiles || !slices.Contains(all, files[len(files)-1]) {
		t.Errorf("%d files, %v; want %d, with the newest", len(all), err, keptFiles)
	}
	preloads := ClusterOptions{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}}
	if err := rt.KeepPrepared(ctx, preloads); err != nil {
		t.Errorf("what preloads a library is not kept, and that is no fault: %v", err)
	}
	if _, err := rt.loadKept(fillSettings(preloads)); !errors.Is(err, errNotKept) {
		t.Errorf("what preloads a library: %v", err)
	}
	if err := rt.KeepPrepared(ctx, ClusterOptions{Settings: map[string]string{"shared_buffers": "none"}}); err == nil {
		t.Error("a start with a bad setting was kept")
	}
}
