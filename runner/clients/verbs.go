package clients

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{
		clientVerb(), pgbenchVerb(), doorLatencyVerb(), sessionsVerb(), besideVerb(),
	}
}

// Names of the checks that these verbs make.
const (
	checkSessions = "sessions"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkSessions, Doc: "sessions leave nothing behind, and keep nobody waiting but who wants what they hold"},
	}
}
