// Package mutants breaks the product on purpose, at build time, and says which check has noticed: the explorer's invariants, a scenario's probe, or the
// tests of the broken package. What is broken stands in faults/mutant.
//
// Read hunt.go first.
package mutants

import (
	"blobpglite/runner/bench"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{mutantsVerb(), engineMutantsVerb(), unitMutantsVerb()}
}
