package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRendered: the check before a change goes in does not fail because an experiment has been run, as the README
// suggests; documents that show something else fail.
func TestRendered(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "results"), os.DirFS("../results")); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(root, name) }
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) {
		cmd := exec.Command(name, args...)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	check := func() (string, error) {
		var out bytes.Buffer
		c := &checker{root: "..", temp: t.TempDir(), stdout: &out, stderr: &out}
		err := c.rendered(t.Context(), root)
		return out.String(), err
	}
	if err := os.Mkdir(in("cloud"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"README.md", "cloud/README.md", "results/PERFORMANCE.md", "STATUS.md"} {
		write(in(name), read("../"+name))
	}
	run("go", "run", "./reports", "-root", root)
	if out, err := check(); err != nil {
		t.Fatalf("without commits: %v: %s", err, out)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "all"}} {
		run("git", append([]string{"-C", root}, args...)...)
	}
	lines := strings.SplitAfter(strings.TrimSpace(read(in("results/e2.jsonl")))+"\n", "\n")
	last := lines[len(lines)-2]
	write(in("results/e2.jsonl"), strings.Join(lines, "")+regexp.MustCompile(`"rounds":`).ReplaceAllString(regexp.MustCompile(`"run":"[^"]*"`).ReplaceAllString(last, `"run":"7ZZZZZZZZZZZZZZZZZZZZZZZZZ"`), `"rounds":1`))
	if out, err := check(); err != nil || !strings.Contains(out, "results/ has more") {
		t.Errorf("behind a run: %v: %s", err, out)
	}
	run("go", "run", "./reports", "-root", root)
	if out, err := check(); err != nil || strings.Contains(out, "results/ has more") {
		t.Errorf("with the run in the documents: %v: %s", err, out)
	}
	write(in("STATUS.md"), strings.Replace(read(in("STATUS.md")), "**pass**", "**passed**", 1))
	if out, err := check(); err == nil || !strings.Contains(out, "STATUS.md is stale") {
		t.Errorf("with a document that was changed: %v: %s", err, out)
	}
}
