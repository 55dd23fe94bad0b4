package mutant

import "testing"

// TestUnitTable: names are distinct, and every snippet is in the code exactly once and changes something. The scenario "mutants" shows that
// each is caught.
func TestUnitTable(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range UnitMutants() {
		if seen[m.Name] || m.Doc == "" || m.Plan == "" || m.Old == m.New {
			t.Errorf("%s: %+v", m.Name, m)
		}
		seen[m.Name] = true
		if _, err := m.Overlay(root(t), t.TempDir()); err != nil {
			t.Error(err)
		}
	}
	if !seen["gc-by-metadata"] || !seen["no-fence"] {
		t.Error("the table lacks the ones that it is for")
	}
}

func TestCaughtBy(t *testing.T) {
	for _, c := range []struct{ out, want string }{
		{"ok  \tm/a\t1.2s\n", ""},
		{"--- FAIL: TestA (0.01s)\n    a_test.go:1: no\nFAIL\nFAIL\tm/a\t1.2s\nFAIL\n", "TestA"},
		{"    --- FAIL: TestA/one (0.01s)\n", "TestA/one"},
		{"panic: test timed out after 1m30s\n\trunning tests:\n\t\tTestHangs (1m30s)\n\ngoroutine 1 [running]:\nFAIL\tm/a\t90.0s\nFAIL\n", "TestHangs"},
		{"fatal error: found bad pointer in Go heap\n\ngoroutine 7 [running]:\nFAIL\tm/a\t3.194s\nFAIL\n", "a crash of m/a"},
		{"signal: killed\nFAIL\tm/a\t3.194s\nFAIL\n", "a crash of m/a"},
		{"# m/a\na.go:1:1: undefined: x\nFAIL\tm/a [build failed]\nFAIL\n", ""},
	} {
		if got := caughtBy([]byte(c.out)); got != c.want {
			t.Errorf("%q: %q, want %q", c.out, got, c.want)
		}
	}
}
