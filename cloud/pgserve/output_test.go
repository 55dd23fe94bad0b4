package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNothingIsWrittenOver: no command that writes a file overwrites one, unless it is told to.
func TestNothingIsWrittenOver(t *testing.T) {
	t.Parallel()
	bucket := emulator(t)
	c := start(t, bucket...)
	c.query(t, "CREATE TABLE t (a int)")
	for _, command := range [][]string{{"restore-to"}, {"dump", "-o"}} {
		name := filepath.Join(t.TempDir(), "the only copy")
		if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append(append(command, name), bucket...)
		if text := admin(t, 1, args...); !strings.Contains(text, name) || !strings.Contains(text, "-force") {
			t.Error(text)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != "precious" {
			t.Errorf("%s: %.20q, %v", command[0], b, err)
		}
		admin(t, 0, append(args, "-force")...)
		if b, err := os.ReadFile(name); err != nil || len(b) < 1000 {
			t.Errorf("%s -force: %.20q, %v", command[0], b, err)
		}
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	hello := func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err }
	folder := t.TempDir()
	left := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, e.Name()+"="+string(b))
		}
		if got := strings.Join(names, " "); got != strings.Join(want, " ") {
			t.Errorf("in the folder: %s, want %s", got, want)
		}
	}
	name := filepath.Join(folder, "a")
	// A writer that fails leaves nothing of its own, and keeps the old file.
	fails := func(w io.Writer) error { return errors.Join(hello(w), errors.New("the bucket is gone")) }
	if err := writeFile(name, nil, false, fails); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Error(err)
	}
	left()
	if err := writeFile(name, nil, false, hello); err != nil {
		t.Error(err)
	}
	left("a=hello")
	if err := writeFile(name, nil, true, fails); err == nil {
		t.Error("no error")
	}
	left("a=hello")
	// One that came while it was written stays.
	other := filepath.Join(folder, "b")
	err := writeFile(other, nil, false, func(io.Writer) error { return os.WriteFile(other, []byte("rival"), 0o600) })
	if !errors.Is(err, errExists) {
		t.Error(err)
	}
	left("a=hello", "b=rival")
	for _, bad := range []string{folder, filepath.Join(folder, "nowhere", "a"), name} {
		if err := writeFile(bad, nil, false, hello); err == nil {
			t.Errorf("%s is written", bad)
		}
	}
	left("a=hello", "b=rival")
	// A pipe, or a device, is written, not replaced, whatever is said.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	for _, force := range []bool{false, true} {
		if err := writeFile(pipe, nil, force, hello); err != nil {
			t.Error(err)
		}
		b := make([]byte, 5)
		if info, err := os.Stat(pipe); err != nil || info.Mode().IsRegular() {
			t.Fatal("the pipe is none any more")
		}
		if _, err := io.ReadFull(reader, b); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
	}
}
