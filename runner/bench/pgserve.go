package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"blobpglite/runner/service"
)

// Program builds pgserve once for all cells, in a folder of the cache where an up-to-date build is reused. It copies the program to folder,
// and returns the copy's path.
func (s *Store) Program(ctx context.Context, folder, cacheDir string) (string, error) {
	if s.pgserve == "" {
		var err error
		if s.pgserve, err = buildService(ctx, cacheDir); err != nil {
			return "", err
		}
	}
	body, err := os.ReadFile(s.pgserve)
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	program := filepath.Join(folder, "pgserve")
	return program, os.WriteFile(program, body, 0o700)
}

func buildService(ctx context.Context, cacheDir string) (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	sum := sha256.Sum256([]byte(here))
	cache := filepath.Join(cacheDir, "pgserve-"+hex.EncodeToString(sum[:8]))
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	return service.Build(ctx, cache)
}

// PgserveOf builds pgserve of another commit of this repository, once, in the cache. ErrMissing if the clone does not have it.
func (r *Run) PgserveOf(ctx context.Context, commit string) (string, error) {
	full, err := exec.CommandContext(ctx, "git", "rev-parse", "--verify", "--quiet", commit+"^{commit}").Output()
	if err != nil {
		return "", fmt.Errorf("commit %s, in this clone, is %w", commit, ErrMissing)
	}
	folder := filepath.Join(r.Runtime.CacheDir(), "commit-"+string(full[:12]))
	program := filepath.Join(folder, "pgserve")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	r.Progress("building pgserve of "+commit, 0, 0)
	source, err := os.MkdirTemp("", "blobpglite-commit-")
	if err != nil {
		return "", fmt.Errorf("build pgserve of %s: %w", commit, err)
	}
	defer os.RemoveAll(source)
	archive := filepath.Join(source, "archive.tar")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("build pgserve of %s: %w", commit, err)
	}
	fresh := program + ".new" // whole, or not there
	for _, line := range [][]string{
		{"git", "archive", "--format=tar", "-o", archive, commit}, {"tar", "-x", "-f", archive, "-C", source},
		{"go", "build", "-C", source, "-o", fresh, "./cloud/pgserve"},
	} {
		cmd := exec.CommandContext(ctx, line[0], line[1:]...)
		service.OwnGroup(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build pgserve of %s: %s: %w: %s", commit, line[0], err, Tail(string(out)))
		}
	}
	return program, os.Rename(fresh, program)
}

// ErrMissing: a required program is not on this machine; the error says which. Install it, or skip the experiment.
var ErrMissing = errors.New("not installed")

// Tail is the end of a program's output, for messages.
func Tail(text string) string {
	const most = 600
	return strings.TrimSpace(text[max(0, len(text)-most):])
}
