// Package perf measures: what a commit, an opening and a restore take, how many commits fit a second, and how SQL compares with Node's PGlite
// and with a native PostgreSQL.
//
// Read commits.go first: one client against a bare PUT, then many clients.
package perf

import (
	"blobpglite/runner/bench"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{
		roundtripVerb(), freshVerb(), sqlbenchVerb(), nativebenchVerb(), logRoundtripVerb(), commitLatencyVerb(),
		commitThroughputVerb(), casRateVerb(), reopenVerb(), idleVerb(), amplificationVerb(), nothingNewVerb(),
	}
}
