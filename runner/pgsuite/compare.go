package pgsuite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Difference is a test whose output differs from the reference's.
type Difference struct {
	Name  string
	Lines int    // that differ
	First string // first differing line, with its sign; what is wrong, if the test did not finish
	Last  string // of them, the last few
}

// Compare compares the outputs in two folders, and writes a unified diff next to those of got that differ.
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
		d, diff, err := difference(o, a, b)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(got, o.Name+".diff"), []byte(diff), 0o600); err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		all = append(all, d)
	}
	return all, nil
}

// difference compares what a test should have printed with what it did print; shown is a unified diff.
func difference(o Outcome, want, got []byte) (Difference, string, error) {
	diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(string(want)), B: difflib.SplitLines(string(got)), FromFile: "reference", ToFile: "here", Context: 3,
	})
	if err != nil {
		return Difference{}, "", fmt.Errorf("compare %s: %w", o.Name, err)
	}
	const last = 4
	var changes []string
	for line := range strings.Lines(diff) {
		if isChange(line) {
			changes = append(changes, strings.TrimSpace(line))
		}
	}
	d := Difference{Name: o.Name, Lines: len(changes), First: o.Wrong, Last: strings.Join(changes[max(0, len(changes)-last):], " | ")}
	if d.First == "" && len(changes) > 0 {
		d.First = changes[0]
	}
	return d, diff, nil
}

// isChange says whether a line of a unified diff is a differing one.
func isChange(line string) bool {
	return strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "+++") || strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "---")
}
