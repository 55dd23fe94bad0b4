// Package layers measures what layers (base backups) cost, hold and leave in the bucket: their size, their price, what a week of changes
// stores, and what becomes of an older build's prefix.
//
// Read stock.go first: it says what a prefix holds and what is unreachable, with code of its own. pageload.go changes pages as applications
// do.
package layers

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{layerSizeVerb(), layerPriceVerb(), storedLiveVerb(), carriedOverVerb(), growthVerb()}
}

// Names of the checks made by these verbs.
const (
	checkRestored = "restored"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkRestored, Doc: "a restored layer is, byte for byte, what it was taken from"},
	}
}
