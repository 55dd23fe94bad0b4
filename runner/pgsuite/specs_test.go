package pgsuite

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestOpenSpecs(t *testing.T) {
	if _, _, err := OpenSpecs(t.TempDir()); !errors.Is(err, ErrMissing) {
		t.Errorf("without a source: %v", err)
	}
	source := t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(source, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("configure", "PACKAGE_VERSION='18.6'\n")
	if _, _, err := OpenSpecs(source); err == nil {
		t.Error("a source without a schedule was opened")
	}
	write("src/test/isolation/isolation_schedule", "test: one\n# test: two\ntest: three\n")
	s, version, err := OpenSpecs(source)
	if err != nil || version != "18.6" || !slices.Equal(s.Names, []string{"one", "three"}) {
		t.Errorf("%+v of %s (%v)", s, version, err)
	}
}

// TestCompareSpecs: any of the expected outputs will do; a difference is shown from the nearest.
func TestCompareSpecs(t *testing.T) {
	s := &Specs{files: fstest.MapFS{
		"expected/same.out":    {Data: []byte("a\n")},
		"expected/other.out":   {Data: []byte("a\nb\n")},
		"expected/other_2.out": {Data: []byte("c\n")},
		"expected/wrong.out":   {Data: []byte("a\nb\nc\nd\n")},
		"expected/wrong_1.out": {Data: []byte("a\nB\nc\nD\n")},
		"expected/cut.out":     {Data: []byte("a\n")},
	}}
	out := t.TempDir()
	for name, text := range map[string]string{"same": "a\n", "other": "c\n", "wrong": "a\nB\nc\nd\ne\n", "cut": "a\n"} {
		if err := os.WriteFile(filepath.Join(out, name+".out"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Compare(out, []Outcome{{Name: "same"}, {Name: "other"}, {Name: "wrong"}, {Name: "cut", Wrong: "it ended"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range all {
		got = append(got, d.Name+" "+d.First)
	}
	if want := []string{"wrong -b", "cut it ended"}; !slices.Equal(got, want) || all[0].Lines != 3 {
		t.Errorf("differences %+v, want %q, the first in three lines", all, want)
	}
	if diff, err := os.ReadFile(filepath.Join(out, "wrong.diff")); err != nil || !strings.Contains(string(diff), "+e\n") {
		t.Errorf("the diff is %q (%v)", diff, err)
	}
	if _, err := s.Compare(out, []Outcome{{Name: "none"}}); err == nil {
		t.Error("a test without an output was compared")
	}
}

func TestOwnSpecsAreThere(t *testing.T) {
	s, err := OwnSpecs()
	if err != nil || !slices.Contains(s.Names, "skew") || !slices.IsSorted(s.Names) {
		t.Errorf("%+v (%v)", s, err)
	}
}
