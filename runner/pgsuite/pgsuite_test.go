package pgsuite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	text := "# a comment\ntest: setup\n\n# test: not this one\ntest: boolean  char\ttext\n"
	if got, want := schedule(text), []string{"setup", "boolean", "char", "text"}; !slices.Equal(got, want) {
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
	wanted := []Difference{{Name: "other", Lines: 3, First: "-b"}, {Name: "cut", First: "the server was gone"}}
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

// TestOneEndsWithItsLimit: a client that goes on does not hold the suite up, and what it printed until then is kept.
func TestOneEndsWithItsLimit(t *testing.T) {
	folder := t.TempDir()
	n := &Native{source: filepath.Join(folder, "source"), folder: filepath.Join(folder, "installed")}
	for _, dir := range []string{filepath.Join(n.tests(), "sql"), filepath.Join(n.folder, "bin")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(n.tests(), "sql", "slow.sql"), []byte("SELECT 1;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What stands for psql reads nothing more than a line, says it, and waits for more that never comes.
	stand := "#!/bin/sh\nread line\necho \"$line\"\ntail -f /dev/null\n"
	if err := os.WriteFile(n.Program("psql"), []byte(stand), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &Suite{native: n, folder: folder, Names: []string{"slow"}}
	out := filepath.Join(folder, "outputs")
	all, err := s.Run(context.Background(), Server{Host: "127.0.0.1", Port: 1, Database: "postgres"}, out, time.Second, func(Outcome, bool) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !strings.Contains(all[0].Wrong, "still at it") {
		t.Errorf("outcomes %+v", all)
	}
	if b, err := os.ReadFile(filepath.Join(out, "slow.out")); err != nil || string(b) != "SELECT 1;\n" {
		t.Errorf("output %q (%v)", b, err)
	}
}
