// Package crash ends a writer at a chosen moment, by SIGKILL, a power cut, a stall, an expired lease or a hand-over, and checks what the
// next one finds.
//
// Read killpoint.go first: death at every fault point.
package crash

import (
	"blobpglite/runner/bench"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		killpointVerb(), layerKillVerb(), cacheKillVerb(), zombieVerb(), handoverVerb(), blackoutVerb(), stalledOpenerVerb(),
	}
}
