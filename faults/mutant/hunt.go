package mutant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// explorer is the program built with each mutant; exitViolated is the exit code with which it says that an invariant was violated.
const (
	explorer     = "./runner/explore/explorer"
	exitViolated = 3
)

// Budget bounds a hunt.
type Budget struct {
	Schedules int    // in the mutant's own plan, and again over all plans if it was not caught there
	Seed      uint64 // of the explorer's random walk
}

// Caught is the result of a hunt.
type Caught struct {
	Mutant    Mutant
	Invariant string // the invariant that caught it; empty: it was not caught
	Detail    string
	Plan      string
	After     int      // schedules until it was caught
	Schedule  []string // the shortest one that catches it
	Story     []string // what happens in it
}

// Hunt builds the explorer with the mutant and lets it look for a violation. dir is for files; the caller deletes it. It needs the go
// command. Errors: ErrStale, the compiler's, a program that could not run. A mutant that was not caught is not an error.
func Hunt(ctx context.Context, root, dir string, m Mutant, b Budget) (Caught, error) {
	program, err := m.Build(ctx, root, dir)
	if err != nil {
		return Caught{}, err
	}
	defer func() { _ = os.Remove(program) }() // they are large, and there are many
	caught := Caught{Mutant: m}
	for _, plan := range []string{m.Plan, ""} {
		ran, v, err := run(ctx, program, plan, b)
		if err != nil {
			return caught, fmt.Errorf("mutant %s: %w", m.Name, err)
		}
		if v != nil {
			caught.Invariant, caught.Detail, caught.Plan, caught.Schedule, caught.Story = v.Invariant, v.Detail, v.Plan, v.Schedule, v.Story
			if plan == "" {
				caught.After += ran
			} else {
				caught.After += v.After
			}
			return caught, nil
		}
		caught.After += ran
	}
	return caught, nil
}

// Build builds the explorer with the mutant in it, and returns the program's path.
func (m Mutant) Build(ctx context.Context, root, dir string) (string, error) {
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, m.Name+".exe")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-overlay", overlay, "-o", program, explorer) // no debug information needed
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build mutant %s: %w: %s", m.Name, err, bytes.TrimSpace(out))
	}
	return program, nil
}

// violation is the part of the explorer's violation that a hunt reads.
type violation struct {
	Plan      string   `json:"plan"`
	Invariant string   `json:"invariant"`
	Detail    string   `json:"detail"`
	Schedule  []string `json:"schedule"`
	Story     []string `json:"story"`
	After     int      `json:"after"`
}

// run explores with one worker, so that the count until a violation is the same each time.
func run(ctx context.Context, program, plan string, b Budget) (schedules int, v *violation, err error) {
	cmd := exec.CommandContext(ctx, program, "-workers", "1", "-exhaustive", "-1", "-schedules", strconv.Itoa(b.Schedules),
		"-seed", strconv.FormatUint(b.Seed, 10), "-plans", plan)
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitViolated) {
		return 0, nil, fmt.Errorf("run the explorer: %w: %s", err, bytes.TrimSpace(text.Bytes()))
	}
	var report struct {
		Schedules  int         `json:"schedules"`
		Violations []violation `json:"violations"`
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		return 0, nil, fmt.Errorf("read the explorer's report: %w", err)
	}
	if len(report.Violations) > 0 {
		v = &report.Violations[0]
	}
	return report.Schedules, v, nil
}
