// Package chaos is everything at once, by seed: an episode is a list of actions upon one database; one that fails is made smaller and written down as a
// scenario.
//
// Read actions.go first (what an episode may hold), then episode.go (how it is run).
package chaos

import (
	"blobpglite/runner/bench"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{chaosVerb(), episodeVerb()}
}
