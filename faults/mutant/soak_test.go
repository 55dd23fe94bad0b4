package mutant

import "testing"

// TestSoakTable: every mutant of the soak still has its snippet, and builds.
func TestSoakTable(t *testing.T) {
	t.Parallel()
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range append(SoakMutants(), passingTime()) {
		if seen[m.Name] {
			t.Errorf("%s is there twice", m.Name)
		}
		seen[m.Name] = true
		if _, err := m.Overlay(root, t.TempDir()); err != nil {
			t.Error(err)
		}
	}
	if _, err := BuildService(t.Context(), root, t.TempDir(), SoakMutants()...); err != nil {
		t.Error(err)
	}
}
