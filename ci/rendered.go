package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// rendered checks that the documents below a root are those that the results produce. Documents of only the committed results also pass,
// because a run appends lines to results/ before they are rendered.
func (c *checker) rendered(ctx context.Context, root string) error {
	before, err := c.committed(ctx, root)
	if err != nil {
		return err
	}
	if before != "" {
		cmd := exec.CommandContext(ctx, "go", "run", "./reports", "-check", "-root", before)
		cmd.Dir = c.root
		err := cmd.Run()
		c.count(cmd)
		if err == nil {
			fmt.Fprintln(c.stdout, "the documents show the committed results; results/ has more, which go run ./reports adds to them")
			return nil
		}
	}
	return c.exec(ctx, nil, "go", "run", "./reports", "-check", "-root", root)
}

// committed makes a folder with the current documents and the results of the last commit; empty: the results are the same, or there is no
// commit.
func (c *checker) committed(ctx context.Context, root string) (string, error) {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
		return string(out), err
	}
	const lines = "results/*.jsonl"
	changed, err := git("status", "--porcelain", "--", lines)
	if err != nil || changed == "" {
		return "", nil // a source archive has no commits
	}
	names, err := git("ls-tree", "-r", "--name-only", "HEAD", "results/")
	if err != nil {
		return "", fmt.Errorf("list the results of the last commit: %w", err)
	}
	folder := filepath.Join(c.temp, "committed")
	err = os.MkdirAll(filepath.Join(folder, "results"), 0o755)
	for _, name := range strings.Fields(names) {
		if name != "results/index.html" { // lines, and the pictures below
			text, showErr := git("show", "HEAD:./"+name)
			path := filepath.Join(folder, name)
			err = errors.Join(err, showErr, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
		}
	}
	for _, name := range []string{"README.md", "cloud/README.md", "results/PERFORMANCE.md", "STATUS.md", "results/index.html"} {
		text, readErr := os.ReadFile(filepath.Join(root, name))
		err = errors.Join(err, readErr, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755), os.WriteFile(filepath.Join(folder, name), text, 0o644))
	}
	if err != nil {
		return "", fmt.Errorf("take the results of the last commit: %w", err)
	}
	return folder, nil
}
