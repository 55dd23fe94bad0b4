package main

import (
	"os"
	"path/filepath"
	"testing"

	"blobpglite/core/engine"
)

func TestCacheBytes(t *testing.T) {
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
}
