// Package soak has pgserve live through weeks of a small application's traffic, on time that is let pass, with what happens to instances and to buckets;
// and reckons what such weeks cost.
//
// Read soak.go first: the whole flow of a run is live. chain.go is what clients are told, wake.go one wake, verify.go what is read afterwards.
package soak

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{
		soakVerb(), soakBillVerb(), soakIdleVerb(), soakMutantsVerb(), fleetVerb(),
	}
}

// Names of the checks that these verbs make.
const (
	checkSecond     = "second-reader"
	checkReconciled = "reconciled"
	checkIdle       = "idle"
	checkAlike      = "dump-restore"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkSecond, Doc: "a reader that restores from the bucket, beside whoever writes, has everything that was acknowledged"},
		{Name: checkReconciled, Doc: "the store and the product have counted the same requests, to the request"},
		{Name: checkIdle, Doc: "who has nothing to do asks the bucket for nothing"},
		{Name: checkAlike, Doc: "a dump that is restored into a new database holds the same"},
	}
}
