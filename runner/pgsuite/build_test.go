package pgsuite

import (
	"os"
	"path/filepath"
	"testing"
)

// A source is found where it is said to be, though it is built in another folder.
func TestBuildOfARelativeSource(t *testing.T) {
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
	write("source/configure", "#!/bin/sh\nPACKAGE_VERSION='0.1'\n: > ../configured\n")
	for _, tool := range []string{"cc", "make", "bison", "flex", "perl"} {
		write("bin/"+tool, "#!/bin/sh\n")
	}
	t.Setenv("PATH", filepath.Join(folder, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Chdir(folder)
	n, err := Build(t.Context(), "source", cache, func(string, int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(n.folder, "configured")); err != nil {
		t.Errorf("the script that configures it did not run beside the build: %v", err)
	}
}
