// Package layers measures what layers (base backups) cost, hold and leave in the bucket: their size, their price, what a week of changes stores,
// what an older build's prefix becomes.
//
// Read stock.go first: it says what a prefix holds and what nothing reaches, by rules of its own. pageload.go changes pages as people do.
package layers

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{layerSizeVerb(), layerPriceVerb(), storedLiveVerb(), carriedOverVerb(), growthVerb()}
}

// Names of the checks that these verbs make.
const (
	checkRestored = "restored"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkRestored, Doc: "a layer that is restored is, byte for byte, what it was taken of"},
	}
}
