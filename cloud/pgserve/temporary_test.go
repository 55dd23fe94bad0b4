package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTempDir: a path that is not a folder is refused before anything is opened, and one in memory is reported.
func TestTempDir(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{t.TempDir(): true, file: false, file + "/none": false} {
		var said bytes.Buffer
		c, _, err := parse(command{}, []string{"-temp-dir", dir}, io.Discard, &said)
		if (err == nil) != want || !want && !strings.Contains(said.String(), "-temp-dir") {
			t.Errorf("%s: %v, %q", dir, err, said.String())
		}
		if want && c.tempDir != dir {
			t.Errorf("%q was taken", c.tempDir)
		}
	}
	const shared = "/dev/shm"
	if _, err := os.Stat(shared); err != nil || !inMemory(shared) {
		t.Skip("no /dev/shm in memory on this machine")
	}
	var said bytes.Buffer
	c := &config{tempDir: shared, log: slog.New(slog.NewTextHandler(&said, nil))}
	if c.warnTemporary(); !strings.Contains(said.String(), "in memory") {
		t.Errorf("of a folder in memory it said %q", said.String())
	}
	if c.tempDir = t.TempDir(); inMemory(c.tempDir) {
		return
	}
	said.Reset()
	if c.warnTemporary(); said.Len() > 0 {
		t.Errorf("of one on a disk: %q", said.String())
	}
}
