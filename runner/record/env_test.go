package record

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestCollectEnv(t *testing.T) {
	t.Parallel()
	env := CollectEnv(EnvOptions{Store: "mem", Target: "local", PGliteSHA256: "abc"})
	if env.CPUs < 1 || env.Go != runtime.Version() || env.Region != "local" || env.Store != "mem" || env.PGliteSHA256 != "abc" {
		t.Errorf("env: %+v", env)
	}
	if !strings.HasPrefix(env.Machine, runtime.GOOS+"/"+runtime.GOARCH) {
		t.Errorf("machine: %q", env.Machine)
	}
	other := env
	other.CPUs++
	if env.MachineClass() == other.MachineClass() {
		t.Error("another number of processors is the same machine class")
	}
}

// gitTree makes a repository with one commit.
func gitTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": "package main\n", "README.md": "a\n", "STATUS.md": "a\n", "results/e9.jsonl": "", ".gitignore": "*.tmp\n",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "."},
		{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "one"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCollectSource(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, path string
		dirty      bool
	}{
		{"clean", "", false},
		{"results", "results/e9.jsonl", false},
		{"a new results file", "results/e8.jsonl", false},
		{"the status", "STATUS.md", false},
		{"the readme", "README.md", false},
		{"an ignored file", "x.tmp", false},
		{"the source", "main.go", true},
		{"an untracked file", "core/other.go", true},
		{"a name with a space", "a b.go", true},
		{"a readme deeper down", "core/README.md", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := gitTree(t)
			if tt.path != "" {
				write(t, filepath.Join(dir, tt.path), "changed\n")
			}
			got := CollectSource(t.Context(), dir)
			if got.Dirty != tt.dirty || len(got.Commit) != 40 || (got.Why != "") != tt.dirty {
				t.Errorf("got %+v, want dirty %v", got, tt.dirty)
			}
		})
	}
}

func TestCollectSourceFromSubfolder(t *testing.T) {
	t.Parallel()
	dir := gitTree(t)
	write(t, filepath.Join(dir, "results", "e9.jsonl"), "{}\n")
	if got := CollectSource(t.Context(), filepath.Join(dir, "results")); got.Dirty {
		t.Errorf("seen from a folder below, results make the tree dirty: %+v", got)
	}
}

func TestCollectSourceWithoutRepository(t *testing.T) {
	t.Setenv("GIT_CEILING_DIRECTORIES", os.TempDir())
	got := CollectSource(t.Context(), t.TempDir())
	if !got.Dirty || got.Commit != "" || got.Why == "" {
		t.Errorf("without a repository: %+v", got)
	}
}
