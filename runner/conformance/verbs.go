// Package conformance compares PostgreSQL here with a native PostgreSQL: with its regression suite, its isolation specifications, and two
// clients' programs in every order.
package conformance

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{regressVerb(), isolationVerb(), interleaveVerb()}
}

// Names of the checks made by these verbs.
const (
	checkSuite      = "suite"
	checkInterleave = "interleavings"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkSuite, Doc: "PostgreSQL's own suite ran to its end, with the same output as at PostgreSQL"},
		{Name: checkInterleave, Doc: "two clients get the same answers as from PostgreSQL, in every order of their actions"},
	}
}
