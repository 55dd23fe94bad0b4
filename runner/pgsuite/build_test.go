package pgsuite

import (
	"os"
	"path/filepath"
	"testing"
)

// A source is found at its given path, though it is built in another folder, and also through a link.
func TestBuildOfALinkedSource(t *testing.T) {
	folder, cache := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("source/configure", "#!/bin/sh\nPACKAGE_VERSION='0.1'\necho \"$0\" > ../configured\n")
	for _, tool := range []string{"cc", "make", "bison", "flex", "perl"} {
		write("bin/"+tool, "#!/bin/sh\n")
	}
	t.Setenv("PATH", filepath.Join(folder, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Chdir(folder)
	if err := os.Symlink("source", "link"); err != nil {
		t.Fatal(err)
	}
	n, err := Build(t.Context(), "link", cache, func(string, int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(filepath.Join(folder, "source", "configure"))
	if err != nil {
		t.Fatal(err)
	}
	if script, err := os.ReadFile(filepath.Join(n.folder, "configured")); err != nil || string(script) != want+"\n" {
		t.Errorf("%q ran beside the build (%v), want %q", script, err, want)
	}
}
