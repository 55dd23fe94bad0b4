package mutant

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// serviceFile makes pgserve's clock; its one reader of time is replaced there.
const (
	serviceFile = "cloud/pgserve/serve.go"
	passingFile = "cloud/pgserve/passing_time.go"
	passingText = `package main

import (
	"blobpglite/core/clock"
	"blobpglite/faults/clockfault/passing"
)

func passingClock() clock.Clock {
	c, err := passing.FromEnvironment()
	if err != nil {
		panic(err)
	}
	return c
}
`
)

// passingTime makes the service use package passing's clock; it changes nothing else.
func passingTime() Mutant {
	return Mutant{Name: "passing-time", File: serviceFile, Old: "clock: clock.System(), failures:", New: "clock: passingClock(), failures:"}
}

// BuildService builds pgserve with package passing's clock instead of the system's, and with mutants in it, and returns the program's path.
// It needs the go command. Errors: ErrStale, the compiler's.
func BuildService(ctx context.Context, root, dir string, broken ...Mutant) (string, error) {
	edited := map[string]string{}
	for _, m := range append([]Mutant{passingTime()}, broken...) {
		if _, ok := edited[m.File]; !ok {
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.File)))
			if err != nil {
				return "", fmt.Errorf("mutant %s: %w", m.Name, err)
			}
			edited[m.File] = string(text)
		}
		if n := strings.Count(edited[m.File], m.Old); n != 1 {
			return "", fmt.Errorf("mutant %s: %s: %w, but %d times", m.Name, m.File, ErrStale, n)
		}
		edited[m.File] = strings.Replace(edited[m.File], m.Old, m.New, 1)
	}
	edited[passingFile] = passingText
	replace := map[string]string{}
	for name, text := range edited {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("build pgserve: %w", err)
		}
		replace[filepath.Join(root, filepath.FromSlash(name))] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return "", fmt.Errorf("build pgserve: %w", err)
	}
	program := filepath.Join(dir, "pgserve")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-overlay", file, "-o", program, "./cloud/pgserve")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgserve: %w: %s", err, bytes.TrimSpace(out))
	}
	return program, nil
}
