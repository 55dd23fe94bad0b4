package clients

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		clientVerb(), pgbenchVerb(), doorLatencyVerb(), sessionsVerb(), besideVerb(),
	}
}

// Names of the checks made by these verbs.
const (
	checkSessions = "sessions"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkSessions, Doc: "sessions leave nothing behind, and make only those wait that want what they hold"},
	}
}
