package mutant

import (
	"strings"
	"testing"
)

// TestFileMutantsAreCaught: each rule of the store in a folder has a test that fails without it.
func TestFileMutantsAreCaught(t *testing.T) {
	t.Parallel()
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, m := range FileMutants() {
		failed, said, err := m.FailsTest(t.Context(), root, dir, "./core/store/file")
		if err != nil {
			t.Error(err)
		} else if !failed || !strings.Contains(said, "--- FAIL: "+m.Plan) {
			t.Errorf("%s (%s) is not caught by %s:\n%s", m.Name, m.Doc, m.Plan, said)
		}
	}
}
