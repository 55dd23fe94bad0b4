package main

import (
	"fmt"
	"slices"
	"strings"

	"blobpglite/runner/record"
)

// caughtWord separates a mutant from what caught it, in the name of a check.
const caughtWord = " caught by "

// mutants shows what has caught each deliberately broken variant, from the
// newest lines of the probes that hunt them.
func mutants(s selection) string {
	var rows [][]string
	var lines []record.Record
	for _, probe := range []string{"e1.7", "mutants.1", "e5.5"} {
		r, ok := newestOf(s, probe)
		if !ok {
			continue
		}
		lines = append(lines, r)
		unit := "schedules"
		switch probe {
		case "mutants.1":
			unit = "rounds"
		case "e5.5":
			unit = "runs"
		}
		for _, c := range r.Checks {
			name, ok := strings.CutPrefix(c.Name, "mutant ")
			if !ok {
				continue
			}
			by, after := "**not caught**", "-"
			if mutant, catcher, caught := strings.Cut(name, caughtWord); caught {
				name, by = mutant, catcher
				if m, ok := metric(r, "mutant_"+strings.ReplaceAll(mutant, "-", "_")+"_count"); ok {
					after = fmt.Sprintf("%s %s", digits(m.Max), unit)
				}
			} else {
				name = strings.TrimSuffix(name, " is caught")
			}
			rows = append(rows, []string{"`" + name + "`", by, after, probe})
		}
	}
	if len(rows) == 0 {
		return noRun
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return strings.Compare(a[3]+a[0], b[3]+b[0]) })
	return table([]string{"mutant", "caught by", "after", "probe"}, rows) + "\n" + source(lines) +
		" What each breaks: `faults/mutant`.\n"
}
