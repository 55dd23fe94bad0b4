// Package perf measures how long a commit, an opening and a restore take, how many commits per second are possible, and how SQL compares
// with PGlite on Node and with a native PostgreSQL.
//
// Read commits.go first: one client against a bare PUT, then many clients.
package perf

import (
	"blobpglite/runner/bench"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		roundtripVerb(), freshVerb(), sqlbenchVerb(), nativebenchVerb(), sqlolderVerb(), sqlcheckedVerb(), logRoundtripVerb(), commitLatencyVerb(),
		commitThroughputVerb(), casRateVerb(), reopenVerb(), idleVerb(), amplificationVerb(), nothingNewVerb(),
	}
}
