// Package npm installs npm packages, at pinned versions, in a cache:
//
//	folder, err := npm.Install(ctx, cache, progress, "pg@8.23.1")     // folder/node_modules/pg
//
// Packages' scripts are not run.
package npm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrMissing: npm is not installed, or cannot get the packages; the error says what.
var ErrMissing = errors.New("not installed")

// Install installs packages, given with their versions, in a folder of the cache, unless that was done before, and returns the folder.
// Error: ErrMissing.
func Install(ctx context.Context, cache string, progress func(step string, done, total int64), packages ...string) (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%s (Debian: %s) is %w", program, map[string]string{"node": "nodejs", "npm": "npm"}[program], ErrMissing)
		}
	}
	name := strings.NewReplacer("/", "_", "@", "_").Replace(strings.Join(packages, "+"))
	folder := filepath.Join(cache, "npm-"+name)
	done := filepath.Join(folder, "installed")
	if _, err := os.Stat(done); err == nil {
		return folder, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("install npm packages: %w", err)
	}
	progress("npm install "+strings.Join(packages, " "), 0, 0)
	args := append([]string{"install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder}, packages...)
	cmd := exec.CommandContext(ctx, "npm", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it has children
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		const most = 900
		return "", fmt.Errorf("%s from npm is %w: %w: %s", strings.Join(packages, " "), ErrMissing, err, strings.TrimSpace(string(out[max(0, len(out)-most):])))
	}
	return folder, os.WriteFile(done, nil, 0o600)
}
