// Package conformance holds what PostgreSQL does here against what a native PostgreSQL does: its regression suite, its isolation specifications, and
// two clients' programs in every order.
package conformance

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{regressVerb(), isolationVerb(), interleaveVerb()}
}

// Names of the checks that these verbs make.
const (
	checkSuite      = "suite"
	checkInterleave = "interleavings"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkSuite, Doc: "PostgreSQL's own suite ran to its end, and printed here what it prints at PostgreSQL"},
		{Name: checkInterleave, Doc: "two clients are told, in every order of what they do, what PostgreSQL tells them"},
	}
}
