package pgsuite

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	text := "# a comment\ntest: setup\n\n# test: not this one\ntest: boolean  char\ttext\n"
	if got, want := schedule(text), [][]string{{"setup"}, {"boolean", "char", "text"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("tests %q, want %q", got, want)
	}
}

func TestPathsLeadToOneFolder(t *testing.T) {
	for sql, want := range map[string]string{
		"\\set filename :abs_srcdir '/data/onek.data'\n":          "\\set filename :abs_srcdir '-data-onek.data'\n",
		"\\set filename :abs_builddir '/results/invalid/path'\n":  "\\set filename :abs_builddir '-results-invalid/path'\n",
		"SELECT '/data/onek.data', ':abs_srcdir ''/results/x''';": "SELECT '/data/onek.data', ':abs_srcdir ''/results/x''';",
		"\\set other '/data/onek.data'\nSELECT 1;\n":              "\\set other '/data/onek.data'\nSELECT 1;\n",
	} {
		if got := paths(sql); got != want {
			t.Errorf("%q becomes %q, want %q", sql, got, want)
		}
	}
}

func TestCompare(t *testing.T) {
	want, got := t.TempDir(), t.TempDir()
	write := func(folder, name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name+".out"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(want, "same", "a\nb\n")
	write(got, "same", "a\nb\n")
	write(want, "other", "a\nb\nc\n")
	write(got, "other", "a\nB\nc\nd\n")
	write(want, "cut", "a\n")
	write(got, "cut", "a\n")
	all, err := Compare(want, got, []Outcome{{Name: "same"}, {Name: "other"}, {Name: "cut", Wrong: "the server was gone"}})
	if err != nil {
		t.Fatal(err)
	}
	wanted := []Difference{{Name: "other", Lines: 3, First: "-b", Last: "-b | +B | +d"}, {Name: "cut", First: "the server was gone"}}
	if !slices.Equal(all, wanted) {
		t.Errorf("differences %+v, want %+v", all, wanted)
	}
	if diff, err := os.ReadFile(filepath.Join(got, "other.diff")); err != nil || !strings.Contains(string(diff), "+B\n") {
		t.Errorf("the diff is %q (%v)", diff, err)
	}
}

func TestBuildNeedsTheSource(t *testing.T) {
	none := func(string, int64, int64) {}
	if _, err := Build(t.Context(), t.TempDir(), t.TempDir(), none); !errors.Is(err, ErrMissing) {
		t.Errorf("without a source: %v", err)
	}
	strange := t.TempDir()
	if err := os.WriteFile(filepath.Join(strange, "configure"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), strange, t.TempDir(), none); err == nil || errors.Is(err, ErrMissing) {
		t.Errorf("with another program's source: %v", err)
	}
}

// standIn is a suite of these files, with a shell script for psql.
func standIn(t *testing.T, script string, groups [][]string, files map[string]string) *Suite {
	folder := t.TempDir()
	n := &Native{source: filepath.Join(folder, "source"), folder: filepath.Join(folder, "installed")}
	for _, dir := range []string{filepath.Join(n.tests(), "sql"), filepath.Join(n.folder, "bin")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(n.tests(), "sql", name+".sql"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(n.Program("psql"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return &Suite{native: n, folder: folder, Groups: groups}
}

func (s *Suite) runHere(t *testing.T, o RunOptions) ([]Outcome, string) {
	out := filepath.Join(s.folder, "outputs")
	all, err := s.Run(t.Context(), Server{Host: "127.0.0.1", Port: 1, Database: "postgres"}, out, o, func(Outcome, bool) {})
	if err != nil {
		t.Fatal(err)
	}
	return all, out
}

// TestOneEndsWithItsLimit: a client that does not end does not hold the suite up, and its output so far is kept.
func TestOneEndsWithItsLimit(t *testing.T) {
	// The stand-in for psql reads only one line, prints it, and waits for more that never comes.
	const script = "read line\necho \"$line\"\ntail -f /dev/null\n"
	s := standIn(t, script, [][]string{{"slow"}}, map[string]string{"slow": "SELECT 1;\n"})
	all, out := s.runHere(t, RunOptions{Limit: time.Second})
	if len(all) != 1 || !strings.Contains(all[0].Wrong, "still at it") {
		t.Errorf("outcomes %+v", all)
	}
	if b, err := os.ReadFile(filepath.Join(out, "slow.out")); err != nil || string(b) != "SELECT 1;\n" {
		t.Errorf("output %q (%v)", b, err)
	}
}

// TestGroupsRunAtOnce: two tests that need each other finish only when run concurrently; groups never are.
func TestGroupsRunAtOnce(t *testing.T) {
	const script = "read word\nif test \"$word\" = say; then echo heard >pipe; else cat pipe; fi\n"
	files := map[string]string{"first": "hear\n", "second": "say\n", "third": "hear\n", "fourth": "say\n"}
	groups := [][]string{{"first", "second"}, {"third", "fourth"}}
	for atOnce, wrong := range map[int]int{0: 4, 2: 0} {
		s := standIn(t, script, groups, files)
		if out, err := exec.CommandContext(t.Context(), "mkfifo", filepath.Join(s.folder, "pipe")).CombinedOutput(); err != nil {
			t.Fatalf("no pipe can be made: %v: %s", err, out)
		}
		all, out := s.runHere(t, RunOptions{AtOnce: atOnce, Limit: time.Duration(2-atOnce)*100*time.Millisecond + time.Duration(atOnce)*10*time.Second})
		var names []string
		for _, o := range all {
			names = append(names, o.Name)
			if o.Wrong != "" {
				wrong--
			}
		}
		if want := slices.Concat(groups...); wrong != 0 || !slices.Equal(names, want) {
			t.Errorf("%d at once: %+v; wrong are %d too few", atOnce, all, wrong)
		}
		if b, err := os.ReadFile(filepath.Join(out, "first.out")); atOnce > 0 && (err != nil || string(b) != "heard\n") {
			t.Errorf("%d at once: printed %q (%v)", atOnce, b, err)
		}
	}
}
