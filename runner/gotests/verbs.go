// Package gotests runs the Go tests of this repository as an experiment.
package gotests

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{goTestVerb()}
}

// Names of the checks made by these verbs.
const (
	checkTests = "tests"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkTests, Doc: "every test passes, and some were run"},
	}
}
