package mutant

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func root(t *testing.T) string {
	t.Helper()
	r, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEveryMutantIsCaught tests the suite itself: the explorer's judge does not check what it does not catch here.
func TestEveryMutantIsCaught(t *testing.T) {
	t.Parallel()
	dir, at := t.TempDir(), root(t)
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for _, m := range Mutants() {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			c, err := Hunt(context.Background(), at, dir, m, Budget{Schedules: 4000, Seed: 1})
			switch {
			case err != nil:
				t.Error(err)
			case c.Invariant == "":
				t.Errorf("%s (%s) was not caught in %d schedules", m.Name, m.Doc, c.After)
			default:
				t.Logf("%-26s breaks %-6s caught by %-32q after %5d schedules of %s, %2d steps", m.Name, m.Invariant, c.Invariant, c.After, c.Plan, len(c.Schedule))
			}
		})
	}
	wg.Wait()
}

// TestTable: names are usable in metrics and on command lines, every invariant of the protocol has a mutant, and every snippet is in the
// code exactly once and changes something.
func TestTable(t *testing.T) {
	seen, broken := map[string]bool{}, map[string]bool{}
	for _, m := range Mutants() {
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(m.Name) || seen[m.Name] {
			t.Errorf("the name %q is taken, or not of lower-case words", m.Name)
		}
		seen[m.Name], broken[m.Invariant] = true, true
		if m.Doc == "" || m.Plan == "" || m.Old == m.New {
			t.Errorf("%s: %+v", m.Name, m)
		}
		if _, err := m.Overlay(root(t), t.TempDir()); err != nil {
			t.Error(err)
		}
	}
	for _, i := range []string{dense, once, fenced, byOne, durable, prefix, replay, restorable, oneWriter, idle} {
		if !broken[i] {
			t.Errorf("no mutant breaks invariant %s", i)
		}
	}
}

func TestStaleSnippetIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte("package x\n\n// one one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"two", "one"} {
		_, err := Mutant{Name: "m", File: "x.go", Old: old, New: "three"}.Overlay(dir, dir)
		if !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "x.go") {
			t.Errorf("%s: %v", old, err)
		}
	}
	if _, err := Named("no-fence", "no-such"); err == nil {
		t.Error("an unknown name was found")
	}
	if some, err := Named("no-fence", "no-seqlock"); err != nil || len(some) != 2 {
		t.Errorf("%+v, %v", some, err)
	}
	if _, err := Root(string(filepath.Separator)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the root of the file system: %v", err)
	}
}
