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
		{Name: checkConverged, Doc: "at rest a replica equals the writer in every table of every database"},
		{Name: checkPrefix, Doc: "a replica shows only states of the log, none older than it has shown before, and nothing that was not sent"},
		{Name: checkReadOnly, Doc: "a replica only reads from the bucket"},
	}
}
