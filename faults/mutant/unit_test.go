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
