package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAffected(t *testing.T) {
	t.Parallel()
	all := []importer{
		{Dir: ".", ImportPath: "m", Imports: []string{"m/core/engine"}},
		{Dir: "core/clock", ImportPath: "m/core/clock"},
		{Dir: "core/wal", ImportPath: "m/core/wal", Imports: []string{"m/core/clock"}},
		{Dir: "core/engine", ImportPath: "m/core/engine", Imports: []string{"m/core/wal"}},
		{Dir: "cloud/pgserve", ImportPath: "m/cloud/pgserve", XTestImports: []string{"m/core/wal"}},
		{Dir: "reports", ImportPath: "m/reports"},
	}
	for _, tt := range []struct{ files, want string }{
		{"core/engine/a.go", ". ./core/engine"},
		{"core/wal/testdata/x/y", "./cloud/pgserve ./core/engine ./core/wal"},
		{"core/clock/a_test.go reports/b.go", "./core/clock ./core/wal ./reports"},
		{"README.md", "./cloud/pgserve"},
		{"GLOSSARY.md", ""},
		{"go.mod core/wal/a.go", ""},
		{"db.go", "."},
		{"findings/x.sh", "."},
		{"", ""},
	} {
		if got := strings.Join(affected(all, strings.Fields(tt.files)), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.files, got, tt.want)
		}
	}
}

// TestChangedFiles uses git itself, in a repository of its own.
func TestChangedFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=none"}, args...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
	}
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q", "-b", "main")
	write("old")
	git("add", "-A")
	git("commit", "-qm", "one")
	git("checkout", "-qb", "branch")
	write("committed")
	git("add", "-A")
	git("commit", "-qm", "two")
	write("new file")
	if err := os.Remove(filepath.Join(root, "old")); err != nil {
		t.Fatal(err)
	}
	got, err := changedFiles(t.Context(), root)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"committed", "new file", "old"}) {
		t.Errorf("%q, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := changedFiles(ended, root); err == nil {
		t.Error("git was not asked")
	}
}
