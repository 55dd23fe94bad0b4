package scenario

import (
	"fmt"
	"slices"
	"strings"
)

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// unknown words the error for a name that is not in the list of known ones.
func unknown(what, name string, known []string) string {
	if len(known) == 0 {
		return fmt.Sprintf("unknown %s %q: there is none that could be named here", what, name)
	}
	known = slices.Sorted(slices.Values(known))
	return fmt.Sprintf("unknown %s %q%s; known: %s", what, name, didYouMean(name, known), strings.Join(slices.Compact(known), ", "))
}

// didYouMean returns ", did you mean X?" for the nearest name within a third of the length in edits, or nothing.
func didYouMean(name string, known []string) string {
	best, bestEdits := "", max(1, len(name)/3)+1
	for _, k := range known {
		if edits := editDistance(strings.ToLower(name), strings.ToLower(k)); edits < bestEdits {
			best, bestEdits = k, edits
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// editDistance counts inserted, deleted, replaced and swapped bytes.
func editDistance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
