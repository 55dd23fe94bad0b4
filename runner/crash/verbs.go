// Package crash has one writer go at a chosen moment, by SIGKILL, a power cut, a stall, an expired lease or a hand-over, and looks at what the next one
// finds.
//
// Read killpoint.go first: death at every fault point.
package crash

import (
	"blobpglite/runner/bench"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{
		killpointVerb(), layerKillVerb(), zombieVerb(), handoverVerb(), blackoutVerb(), stalledOpenerVerb(),
	}
}
