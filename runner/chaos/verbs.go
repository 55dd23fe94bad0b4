// Package chaos does everything at the same time, by seed: an episode is a list of actions on one database; one that fails is shrunk and
// written down as a scenario.
//
// Read actions.go first (what an episode may hold), then episode.go (how it is run).
package chaos

import (
	"blobpglite/runner/bench"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{chaosVerb(), episodeVerb()}
}
