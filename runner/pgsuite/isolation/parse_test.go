package isolation

import (
	"errors"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const sample = `# a comment, { not SQL }
setup { CREATE TABLE t (n int); }
setup {
	VACUUM t;   }
teardown	{DROP TABLE t;}

session s1 # its own
setup { BEGIN; }
step "a 1" { SELECT '# no comment', "x"; }
step a2 { }
teardown { ROLLBACK; }
session "s ""2""" step setup_b { SELECT 1
 }
step B$2 {}

permutation "a 1" setup_b
permutation setup_b ( * ) a2(setup_b,B$2 notices 12) B$2
`

func TestParse(t *testing.T) {
	s, err := Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CREATE TABLE t (n int);", "\n\tVACUUM t;"}; !slices.Equal(s.Setup, want) {
		t.Errorf("setup %q, want %q", s.Setup, want)
	}
	if want := []string{"DROP TABLE t;"}; !slices.Equal(s.Teardown, want) {
		t.Errorf("teardown %q, want %q", s.Teardown, want)
	}
	a := &Session{Name: "s1", Setup: []string{"BEGIN;"}, Teardown: []string{"ROLLBACK;"}, Steps: []*Step{
		{Name: "a 1", SQL: `SELECT '# no comment', "x";`}, {Name: "a2"},
	}}
	b := &Session{Name: `s "2"`, Steps: []*Step{{Name: "setup_b", SQL: "SELECT 1\n", session: 1}, {Name: "B$2", session: 1}}}
	if want := []*Session{a, b}; !reflect.DeepEqual(s.Sessions, want) {
		t.Errorf("sessions %+v, want %+v", s.Sessions, want)
	}
	want := []Permutation{
		{{Name: "a 1", step: a.Steps[0]}, {Name: "setup_b", step: b.Steps[0]}},
		{
			{Name: "setup_b", Blockers: []Blocker{{}}, step: b.Steps[0]},
			{Name: "a2", Blockers: []Blocker{{Kind: Completed, Step: "setup_b", step: b.Steps[0]}, {Kind: Notices, Step: "B$2", Notices: 12, step: b.Steps[1]}}, step: a.Steps[1]},
			{Name: "B$2", step: b.Steps[1]},
		},
	}
	if !reflect.DeepEqual(s.Permutations, want) {
		t.Errorf("permutations %+v, want %+v", s.Permutations, want)
	}
}

func TestParseRefuses(t *testing.T) {
	const two = "session a step x {} step y {}\nsession b step z {}\n"
	for text, want := range map[string]string{
		"":                               "syntax error at line 1",
		"setup { SELECT 1":               "unterminated sql block at line 1",
		"\nsession \"a\nb\" step x {}":   "unexpected newline in quoted identifier at line 2",
		`session "a`:                     "unterminated quoted identifier at line 1",
		"session a\nteardown {}":         "syntax error at line 2",
		"session a step x {}\n;":         "syntax error at line 2: unexpected character \";\"",
		"session step step x {}":         "syntax error at line 1",
		"session a step x {} setup {}":   "syntax error at line 1",
		"teardown {} setup {} " + two:    "syntax error at line 1",
		two + "permutation":              "syntax error at line 3",
		two + "permutation x(":           "syntax error at line 3",
		two + "permutation x(*":          "syntax error at line 3",
		two + "permutation x(z notices)": "syntax error at line 3",
		two + "permutation x 1":          "syntax error at line 3",
		two + "session c step x {}":      "duplicate step name: x",
		two + "permutation x w":          `undefined step "w" specified in permutation`,
		two + "permutation x(z)":         `undefined blocking step "z" referenced in permutation step "x"`,
		two + "permutation x(y) y z":     `permutation step "x" cannot block on its own session`,
	} {
		if _, err := Parse(text); !errors.Is(err, ErrSpec) || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestUnusedSteps(t *testing.T) {
	const sessions = "session a step y {} step x {} step w {} session b step z {}\n"
	for text, want := range map[string][]string{sessions: nil, sessions + "permutation x": {"w", "y", "z"}, sessions + "permutation w x y z": nil} {
		s, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.unused(); !slices.Equal(got, want) {
			t.Errorf("%q: unused %q, want %q", text, got, want)
		}
	}
}

// TestEveryInterleaving: without permutations all are run, each session's steps in their order, the first session's first.
func TestEveryInterleaving(t *testing.T) {
	s, err := Parse("session a step a1 {} step a2 {} session b step b1 {} step b2 {}")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = s.each(func(p Permutation) error {
		var names []string
		for _, l := range p {
			names = append(names, l.Name)
		}
		got = append(got, strings.Join(names, " "))
		return nil
	})
	want := []string{"a1 a2 b1 b2", "a1 b1 a2 b2", "a1 b1 b2 a2", "b1 a1 a2 b2", "b1 a1 b2 a2", "b1 b2 a1 a2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q (%v), want %q", got, err, want)
	}
	calls := 0
	err = s.each(func(Permutation) error { calls++; return ErrEnded })
	if !errors.Is(err, ErrEnded) || calls != 1 {
		t.Errorf("after an error: %v, %d calls, want one", err, calls)
	}
}

// TestOwnSpecs: each can be read, and has its expected output.
func TestOwnSpecs(t *testing.T) {
	specs, err := fs.Glob(Own(), "specs/*.spec")
	if err != nil || len(specs) < 5 {
		t.Fatalf("%d specifications (%v)", len(specs), err)
	}
	expected, err := fs.Glob(Own(), "expected/*.out")
	if err != nil || len(expected) != len(specs) {
		t.Errorf("%d outputs for %d specifications (%v)", len(expected), len(specs), err)
	}
	for _, file := range specs {
		text, err := fs.ReadFile(Own(), file)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := Parse(string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		runs := 0
		if err := spec.each(func(Permutation) error { runs++; return nil }); err != nil {
			t.Fatal(err)
		}
		out, err := fs.ReadFile(Own(), "expected/"+strings.TrimSuffix(path.Base(file), ".spec")+".out")
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(out), "\nstarting permutation:"); n != runs {
			t.Errorf("%s has %d permutations, its output %d", file, runs, n)
		}
	}
}
