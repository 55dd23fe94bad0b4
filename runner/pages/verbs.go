// Package pages tries databases that are only partly in memory: larger than their cache, cold starts with only the pages they need, pages
// that cannot be fetched.
//
// Read largerthancache.go first.
package pages

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		largerThanCacheVerb(), wakeSizeVerb(), wakeGrowthVerb(), pageFaultsVerb(), wakesVerb(), oneTransactionVerb(), bothBuildsVerb(),
	}
}

// Names of the checks made by these verbs.
const (
	checkContained = "contained"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkContained, Doc: "statements that need unavailable pages get an error; all others are served"},
	}
}
