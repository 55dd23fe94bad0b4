// Package gotests runs the tests of this repository as an experiment.
package gotests

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{goTestVerb()}
}

// Names of the checks that these verbs make.
const (
	checkTests = "tests"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkTests, Doc: "every test passes, and some were run"},
	}
}
