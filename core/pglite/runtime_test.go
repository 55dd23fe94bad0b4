package pglite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/memfs"
)

// copyOfCache makes a private cache folder with everything derived from the PGlite files.
func copyOfCache(t testing.TB) string {
	t.Helper()
	rt, dir := testRuntime(t), t.TempDir()
	if _, err := rt.Template(t.Context(), memfs.Options{}); err != nil { // so that everything exists
		t.Fatal(err)
	}
	start(t, ClusterOptions{})
	for _, part := range []string{filepath.Base(rt.assets.Dir) + ".derived", compiledDir(rt.unchecked())} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join(rt.assets.CacheDir(), part))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// compiledIn returns the folder of the compilations in a copy of the cache.
func compiledIn(dir string) string { return filepath.Join(dir, compiledDir(guardable() == nil)) }

// each calls f for all files below dir that match a pattern, the largest first.
func each(t testing.TB, dir, pattern string, f func(name string)) {
	t.Helper()
	type file struct {
		name string
		size int64
	}
	var files []file
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if ok, _ := filepath.Match(pattern, d.Name()); ok {
			info, err := d.Info()
			files = append(files, file{name, info.Size()})
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no %s in %s", pattern, dir)
	}
	slices.SortFunc(files, func(a, b file) int { return int(b.size - a.size) })
	for _, one := range files {
		f(one.name)
	}
}

func truncateFile(t testing.TB, name string, keep int64) {
	t.Helper()
	if err := os.Truncate(name, keep); err != nil {
		t.Fatal(err)
	}
}

func flipByte(t testing.TB, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Damaged derived files are made again.
func TestDamagedCacheIsRepaired(t *testing.T) {
	shared, dir := testRuntime(t), copyOfCache(t)
	each(t, dir, "pglite-v*.wasm", func(name string) { flipByte(t, name) })
	each(t, dir, "initdb-v*.wasm", func(name string) { truncateFile(t, name, 1000) })
	each(t, dir, "template-v*.image", func(name string) { truncateFile(t, name, 1000) })
	first := true
	each(t, compiledIn(dir), strings.Repeat("[0-9a-f]", entryDigits), func(name string) {
		if filepath.Base(filepath.Dir(name)) == sumsDir {
			return
		}
		if !first { // PostgreSQL itself takes seconds to compile; the others stand for it
			truncateFile(t, name, 100)
		}
		first = false
	})
	var steps []string
	rt, err := NewRuntime(t.Context(), Options{CacheDir: dir, AssetsFrom: shared.assets.Dir, Progress: func(step string, _, _ int64) {
		if !slices.Contains(steps, step) {
			steps = append(steps, step)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rt.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	in := fresh(t, rt)
	defer in.Kill()
	want(t, in, "DO $$ BEGIN PERFORM 1; END $$; SELECT 5", "5")
	for _, step := range []string{"rewriting pglite", "rewriting initdb", "making the template database", "the compilation of plpgsql.so in the cache is damaged"} {
		if !slices.ContainsFunc(steps, func(s string) bool { return strings.HasPrefix(s, step) }) {
			t.Errorf("no step %q in %q", step, steps)
		}
	}
}

func TestNewRuntimeErrors(t *testing.T) {
	shared := testRuntime(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		o          Options
	}{
		{"the cache folder is a file", file, Options{CacheDir: file, AssetsFrom: shared.assets.Dir}},
		{"no PGlite files", "BLOBPGLITE_ASSETS", Options{CacheDir: t.TempDir(), AssetsFrom: t.TempDir()}},
	} {
		if rt, err := NewRuntime(t.Context(), c.o); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, %v", c.name, rt, err)
		}
	}
}

func TestStartErrors(t *testing.T) {
	rt := testRuntime(t)
	template := func() *memfs.FS {
		data, err := rt.Template(t.Context(), memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	without := func(names ...string) *memfs.FS {
		data := template()
		for _, name := range names {
			if err := data.Unlink(name); err != nil {
				t.Fatal(err)
			}
		}
		return data
	}
	with := func(name, text string) *memfs.FS {
		data := template()
		if err := data.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return data
	}
	garbage := memfs.New(memfs.Options{})
	if err := garbage.WriteFile("/readme.txt", []byte("nothing of PostgreSQL's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		o          ClusterOptions
	}{
		{"no data directory", "no data directory given", ClusterOptions{}},
		{"an empty one", "postgresql.conf", ClusterOptions{Data: memfs.New(memfs.Options{})}},
		{"a directory of something else", "postgresql.conf", ClusterOptions{Data: garbage}},
		{"no control file", "pg_control", ClusterOptions{Data: without("/global/pg_control")}},
		{"a damaged control file", "PG_CONTROL_VERSION", ClusterOptions{Data: with("/global/pg_control", strings.Repeat("x", 8192))}},
		{"another version", "18", ClusterOptions{Data: with("/PG_VERSION", "15\n")}},
		{"a bad setting in a file", "nonsense", ClusterOptions{Data: with("/postgresql.conf", "nonsense = 1\n")}},
		{"a bad setting", "nonsense", ClusterOptions{Data: template(), Settings: map[string]string{"nonsense": "1"}}},
		{"a bad value", "shared_buffers", ClusterOptions{Data: template(), Settings: map[string]string{"shared_buffers": "many"}}},
		{"too little memory", "memory limit of 67108864 bytes is below the 134217728", ClusterOptions{Data: template(), MemoryLimit: 64 << 20}},
		{"a full disk", "space", ClusterOptions{Data: full(t, template())}},
	} {
		in, err := rt.StartCluster(t.Context(), c.o)
		if err == nil || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "start PostgreSQL: ") {
			t.Errorf("%s: %v, %v", c.name, in, err)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("%s: an error of %d bytes", c.name, len(err.Error()))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rt.StartCluster(ctx, ClusterOptions{Data: template()}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// full returns a copy of a tree without any room.
func full(t testing.TB, data *memfs.FS) *memfs.FS {
	t.Helper()
	small := memfs.New(memfs.Options{MaxBytes: data.UsedBytes()})
	err := data.Walk("/", func(name string, info memfs.Info) error {
		if info.IsDir() {
			return small.MkdirAll(name, info.Mode&0o777)
		}
		b, err := data.ReadFile(name)
		if err != nil {
			return err
		}
		return small.WriteFile(name, b, info.Mode&0o777)
	})
	if err != nil {
		t.Fatal(err)
	}
	return small
}

func TestStartWithOptions(t *testing.T) {
	rt := testRuntime(t)
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := tryStart(t, rt, ClusterOptions{Data: data, MemoryLimit: 160 << 20,
		Settings: map[string]string{"work_mem": "2MB", "search_path": "a, b"}}, "template1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Kill)
	want(t, in, "SELECT current_database(), current_setting('work_mem'), current_setting('search_path')", "template1|2MB|a, b")
	if in.Err() != nil {
		t.Fatal(in.Err())
	}
}

func TestIdentity(t *testing.T) {
	rt := testRuntime(t)
	if len(rt.SHA256()) != 64 || rt.Version() == "" {
		t.Fatal(rt.SHA256(), rt.Version())
	}
}
