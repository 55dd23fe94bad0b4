package clients

import (
	"bytes"
	"context"
	"errors"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start")) // of the storage client
}

// env is a trial's without a server.
func env(t *testing.T) *Env {
	return &Env{Port: 1, Folder: t.TempDir(), Cache: t.TempDir(), Progress: func(string, int64, int64) {}}
}

func TestTrialsAreDescribed(t *testing.T) {
	names := Names()
	for i, trial := range Trials() {
		if trial.Doc == "" || trial.run == nil || slices.Index(names, trial.Name) != i {
			t.Errorf("%q has no description, does nothing, or is there twice", trial.Name)
		}
		if found, ok := Find(trial.Name); !ok || found.Doc != trial.Doc {
			t.Errorf("%q is not found", trial.Name)
		}
	}
	if _, ok := Find("nobody"); ok {
		t.Error("a trial is found that there is not")
	}
}

// TestGoProgramsAreWhole: they are not part of the module, so nothing else checks them.
func TestGoProgramsAreWhole(t *testing.T) {
	found := 0
	err := fs.WalkDir(programs, "programs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go.txt") {
			return err
		}
		found++
		body, err := programs.ReadFile(path)
		if err != nil {
			return err
		}
		if want, err := format.Source(body); err != nil || !bytes.Equal(body, want) {
			t.Errorf("%s is not formatted: %v", path, err)
		}
		for _, name := range []string{"go.mod.txt", "go.sum.txt"} {
			if b, err := programs.ReadFile(strings.TrimSuffix(path, "main.go.txt") + name); err != nil || len(b) == 0 {
				t.Errorf("%s has no %s: %v", path, name, err)
			}
		}
		return nil
	})
	if err != nil || found < 2 {
		t.Errorf("%d programs, %v", found, err)
	}
}

// script writes a program of the shell.
func script(t *testing.T, folder, name, text string) string {
	t.Helper()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestToolsAreNewEnough(t *testing.T) {
	e := env(t)
	e.Programs = t.TempDir()
	script(t, e.Programs, "old", `echo "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"`)
	script(t, e.Programs, "new", `echo "psql (PostgreSQL) 18.6"`)
	script(t, e.Programs, "strange", `echo "no version"`)
	for name, want := range map[string]error{"old": ErrMissing, "new": nil, "none": ErrMissing} {
		if _, err := e.tool(t.Context(), name, "here", postgresMajor); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := e.tool(t.Context(), "old", "here", 0); err != nil {
		t.Errorf("any version will do: %v", err)
	}
	if _, err := e.tool(t.Context(), "strange", "here", 0); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("a program without a version: %v", err)
	}
}

// TestWhatIsMissingIsSaid: an unavailable client does not count as a failed client.
func TestWhatIsMissingIsSaid(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, name := range []string{"psql", "node_pg", "psycopg", "goose", "drizzle", "pg_dump_jobs", "node_postgres_suite", "postgres_js_suite", "psql_session"} {
		trial, _ := Find(name)
		if _, err := trial.Run(t.Context(), env(t)); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v, want ErrMissing", name, err)
		}
	}
}

func TestConversation(t *testing.T) {
	e := env(t)
	crashes := 0
	e.Crash = func(context.Context) error { crashes++; return nil }
	var steps []string
	e.Progress = func(step string, _, _ int64) { steps = append(steps, step) }
	good := script(t, e.Folder, "good", `echo "AT 1 2 jobs"; echo KILL; read line; echo 'FOUND {"acked": 3, "passed": ["'"$line"'"]}'`)
	got, err := e.converse(t.Context(), exec.CommandContext(t.Context(), good))
	if err != nil || got.Acked != 3 || !slices.Equal(got.Passed, []string{"KILLED"}) || crashes != 1 || !slices.Equal(steps, []string{"jobs"}) {
		t.Errorf("%+v, %v, %d crashes, steps %q", got, err, crashes, steps)
	}
	for name, c := range map[string]struct{ text, want string }{
		"fails":  {`echo "why" >&2; exit 3`, "why"},
		"silent": {`exit 0`, "without saying"},
		"wrong":  {`echo "FOUND nothing"; sleep 100`, "its output"},
	} {
		file := script(t, e.Folder, name, c.text)
		if _, err := e.converse(t.Context(), exec.CommandContext(t.Context(), file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// TestProgramsEndWithTheirContext, and so do the processes that they have started.
func TestProgramsEndWithTheirContext(t *testing.T) {
	e := env(t)
	ctx, cancel := context.WithCancel(t.Context())
	e.Progress = func(string, int64, int64) { cancel() }
	// The pipe that both write to is at its end only when both have gone.
	file := script(t, e.Folder, "forever", `tail -f /dev/null & echo "AT 1 2 begun"; tail -f /dev/null`)
	if _, err := e.converse(ctx, exec.CommandContext(ctx, file)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
}
