// Package replica tries read replicas: whether they converge, what they show while they follow, how far behind they are, which requests
// they make, and what happens when one is promoted.
//
// Read replica.go first.
package replica

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		replicaConvergesVerb(), replicaLagVerb(), replicaReadsVerb(), replicaStartVerb(), replicaRequestsVerb(), replicaPromotionVerb(),
	}
}

// Names of the checks made by these verbs.
const (
	checkConverged = "converged"
	checkPrefix    = "prefix"
	checkReadOnly  = "read-only"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkConverged, Doc: "at rest a replica has, table by table and database by database, what the writer has"},
		{Name: checkPrefix, Doc: "what a replica shows is a state that the log had, no older than what it has shown, and nothing that was not sent"},
		{Name: checkReadOnly, Doc: "a replica asks the bucket for nothing but reads"},
	}
}
