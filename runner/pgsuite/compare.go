package pgsuite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Difference is a test that printed something else than at the reference.
type Difference struct {
	Name  string
	Lines int    // that differ
	First string // of them, with its sign; what is the matter, where the test did not come to its end
}

// Compare compares the outputs in two folders, and writes a unified diff beside those of got that differ.
func Compare(want, got string, outcomes []Outcome) ([]Difference, error) {
	var all []Difference
	for _, o := range outcomes {
		a, err := os.ReadFile(filepath.Join(want, o.Name+".out"))
		if err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		b, err := os.ReadFile(filepath.Join(got, o.Name+".out"))
		if err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		if o.Wrong == "" && bytes.Equal(a, b) {
			continue
		}
		diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
			A: difflib.SplitLines(string(a)), B: difflib.SplitLines(string(b)), FromFile: "reference", ToFile: "here", Context: 3,
		})
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", o.Name, err)
		}
		if err := os.WriteFile(filepath.Join(got, o.Name+".diff"), []byte(diff), 0o600); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		d := Difference{Name: o.Name, First: o.Wrong}
		for line := range strings.Lines(diff) {
			if isChange(line) {
				d.Lines++
				if d.First == "" {
					d.First = strings.TrimSpace(line)
				}
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// isChange says whether a line of a unified diff is one that differs.
func isChange(line string) bool {
	return strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "+++") || strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---")
}
