// Package pages tries databases of which only some is in memory: larger than their cache, waking with the pages that they need, with pages that
// cannot be had.
//
// Read largerthancache.go first.
package pages

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{
		largerThanCacheVerb(), wakeSizeVerb(), wakeGrowthVerb(), pageFaultsVerb(), wakesVerb(),
	}
}

// Names of the checks that these verbs make.
const (
	checkContained = "contained"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkContained, Doc: "who needs none of the pages that cannot be had is served, and who does hears of it"},
	}
}
