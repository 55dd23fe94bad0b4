// Package mutants breaks the product on purpose, at build time, and reports which check has noticed it: the explorer's invariants, a
// scenario's probe, or the tests of the broken package. The mutants themselves are in faults/mutant.
//
// Read hunt.go first.
package mutants

import (
	"blobpglite/runner/bench"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{mutantsVerb(), engineMutantsVerb(), unitMutantsVerb()}
}
