package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// stage is the part of a Dockerfile's stage that is tried here.
type stage struct {
	name    string
	env     []string // NAME=value, in order
	run     []string // shell commands
	workdir string
}

// parseDockerfile reads the instructions that cloud/Dockerfile uses; any other is an error, so that nothing is skipped
// unnoticed.
func parseDockerfile(text string) ([]stage, error) {
	var stages []stage
	for n, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if word != "FROM" && len(stages) == 0 {
			return nil, fmt.Errorf("line %d: %s before the first FROM", n+1, word)
		}
		switch word {
		case "FROM":
			image, name, _ := strings.Cut(rest, " AS ")
			if name == "" {
				name = image
			}
			stages = append(stages, stage{name: name})
			continue
		case "ENV":
			if !strings.Contains(rest, "=") {
				return nil, fmt.Errorf("line %d: ENV %s has no value", n+1, rest)
			}
		case "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT":
		default:
			return nil, fmt.Errorf("line %d: the instruction %s is not supported here", n+1, word)
		}
		s := &stages[len(stages)-1]
		switch word {
		case "ENV":
			s.env = append(s.env, rest)
		case "RUN":
			s.run = append(s.run, rest)
		case "WORKDIR":
			s.workdir = rest
		}
	}
	return stages, nil
}

// image runs the commands of the image's stages in clean folders: a copy of the committed and new files, no cache, and the folders
// of the Dockerfile below one of this run's own. The resulting program must then start without compiling anything.
func image(ctx context.Context, c *checker) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return skipError("the image's files need npm, which is not installed")
	}
	text, err := os.ReadFile(filepath.Join(c.root, "cloud", "Dockerfile"))
	if err != nil {
		return err
	}
	stages, err := parseDockerfile(string(text))
	if err != nil {
		return fmt.Errorf("read the Dockerfile: %w", err)
	}
	root := filepath.Join(c.temp, "image")
	if err := c.checkout(ctx, filepath.Join(root, "src")); err != nil {
		return err
	}
	for _, s := range stages {
		env := []string{}
		for _, e := range s.env {
			name, value, _ := strings.Cut(e, "=")
			if strings.HasPrefix(value, "/") {
				value = filepath.Join(root, value)
			}
			env = append(env, name+"="+value)
		}
		for _, command := range s.run {
			dir := filepath.Join(root, s.workdir)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := c.shell(ctx, dir, env, command); err != nil {
				return fmt.Errorf("stage %s: %w", s.name, err)
			}
		}
	}
	out := filepath.Join(root, "out")
	before, err := countFiles(filepath.Join(out, "cache"))
	if err != nil {
		return err
	}
	env := []string{"BLOBPGLITE_ASSETS=" + filepath.Join(root, "assets", "dist"), "BLOBPGLITE_CACHE=" + filepath.Join(out, "cache")}
	if err := c.shell(ctx, root, env, "\"$BLOBPGLITE_CACHE/../pgserve\" set-up"); err != nil {
		return err
	}
	after, err := countFiles(filepath.Join(out, "cache"))
	if err != nil {
		return err
	}
	if before == 0 || before != after {
		return fmt.Errorf("the image's cache had %d files, and has %d after a start: something is made at the start", before, after)
	}
	return nil
}

// checkout copies the files that git knows, with their current content.
func (c *checker) checkout(ctx context.Context, to string) error {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = c.root
	list, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list the files of the repository: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		if strings.HasPrefix(name, "results/") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(c.root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), b, 0o644)
		}
		if err != nil {
			return fmt.Errorf("copy the repository: %w", err)
		}
	}
	return nil
}

// shell runs a command line in a folder.
func (c *checker) shell(ctx context.Context, dir string, env []string, line string) error {
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, c.stdout, c.stderr
	cmd.Env = append(os.Environ(), env...)
	if err := c.runGroup(ctx, cmd); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

func countFiles(dir string) (int, error) {
	n := 0
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	return n, err
}

// shellcheck checks the scripts, if it is installed.
func shellcheck(ctx context.Context, c *checker) error {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		return skipError("shellcheck is not installed (Debian: shellcheck)")
	}
	scripts, err := filepath.Glob(filepath.Join(c.root, "cloud", "*.sh"))
	if err != nil || len(scripts) == 0 {
		return errors.Join(fmt.Errorf("find the scripts: there are %d", len(scripts)), err)
	}
	return c.exec(ctx, nil, "shellcheck", append(scripts, filepath.Join(c.root, ".ci", "run"))...)
}
