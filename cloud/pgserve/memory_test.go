package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"blobpglite/core/engine"
)

func TestCacheBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none, limited := filepath.Join(dir, "none"), file("limited", "536870912\n")
	for name, c := range map[string]struct {
		files []string
		want  int64
	}{
		"no file":              {[]string{none}, 0},
		"version 2":            {[]string{limited, none}, 512 << 20},
		"version 1":            {[]string{none, limited}, 512 << 20},
		"version 2, unlimited": {[]string{file("max", "max\n"), limited}, 0},
		"version 1, unlimited": {[]string{none, file("huge", "9223372036854771712\n")}, 0},
		"nonsense":             {[]string{file("nonsense", "a lot")}, 0},
	} {
		if got := containerMemory(c.files...); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	for _, c := range []struct{ given, container, want int64 }{
		{0, 0, defaultCache}, {0, 2560 << 20, 512 << 20}, {0, 64 << 20, engine.LeastCache}, {-1, 512 << 20, 0}, {100 << 20, 512 << 20, 100 << 20},
	} {
		if got := cacheBytes(c.given, c.container); got != c.want {
			t.Errorf("%d of %d: %d, want %d", c.given, c.container, got, c.want)
		}
	}
	for cache, want := range map[int64]string{engine.LeastCache: "8MB", 512 << 20 / 5: "12MB", 1 << 30: "16MB", 64 << 30: "16MB"} {
		if got := sharedBuffers(cache); got != want {
			t.Errorf("shared_buffers of %d: %s, want %s", cache, got, want)
		}
	}
	for cache, want := range map[int64]string{engine.LeastCache: "16MB", 512 << 20 / 5: "25MB", 1 << 30: "64MB", 64 << 30: "64MB"} {
		if got := maintenanceMemory(cache); got != want {
			t.Errorf("maintenance_work_mem of %d: %s, want %s", cache, got, want)
		}
	}
	log := slog.New(slog.DiscardHandler)
	c := &config{container: 512 << 20, settings: settings{"work_mem": "1MB"}, log: log}
	if cache, s := c.bounded(); cache != 512<<20/5 || s["shared_buffers"] != "12MB" || s["work_mem"] != "1MB" || len(c.settings) != 1 {
		t.Errorf("of 512 MiB: %d, %v", cache, s)
	}
	c.settings["shared_buffers"] = "20MB"
	if _, s := c.bounded(); s["shared_buffers"] != "20MB" {
		t.Errorf("given: %v", s)
	}
	c = &config{cache: allInMemory, settings: settings{}, log: log}
	if cache, s := c.bounded(); cache != 0 || len(s) != 0 {
		t.Errorf("all in memory: %d, %v", cache, s)
	}
}

// TestSetUpCollectsLess: within the container's memory, and only during set-up.
func TestSetUpCollectsLess(t *testing.T) {
	t.Parallel()
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer debug.SetGCPercent(percent)
	for _, container := range []int64{0, 512 << 20} {
		undo := collectLess(container)
		want := limit
		if container > 0 {
			want = 384 << 20
		}
		if now := debug.SetMemoryLimit(-1); now != want {
			t.Errorf("container of %d bytes: the limit is %d, want %d", container, now, want)
		}
		undo()
		if now := debug.SetMemoryLimit(-1); now != limit {
			t.Errorf("container of %d bytes: afterwards the limit is %d, it was %d", container, now, limit)
		}
		if now := debug.SetGCPercent(100); now != 100 {
			t.Errorf("container of %d bytes: afterwards GOGC is %d", container, now)
		}
	}
}
