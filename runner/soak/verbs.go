// Package soak runs pgserve through weeks of a small application's traffic, on a clock that is advanced, with the faults of instances and
// buckets, and computes what such weeks cost.
//
// Read soak.go first: the function live is the whole flow of a run. chain.go has what clients are told, wake.go one wake, verify.go what is
// read afterwards.
package soak

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		soakVerb(), soakBillVerb(), soakIdleVerb(), soakMutantsVerb(), fleetVerb(),
	}
}

// Names of the checks made by these verbs.
const (
	checkSecond     = "second-reader"
	checkReconciled = "reconciled"
	checkIdle       = "idle"
	checkAlike      = "dump-restore"
	checkLeft       = "nothing-left"
	checkName       = "per-name"
	checkRamp       = "ramp-up"
	checkRanges     = "key-ranges"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkSecond, Doc: "a reader that restores from the bucket, concurrently with the writer, has everything acknowledged"},
		{Name: checkReconciled, Doc: "the store and the product have counted exactly the same requests"},
		{Name: checkIdle, Doc: "an idle instance makes no requests to the bucket"},
		{Name: checkAlike, Doc: "a dump restored into a new database holds the same data"},
		{Name: checkLeft, Doc: "after a service has ended there is no instance, process, file next to its bucket, or unreachable object left"},
		{Name: checkName, Doc: "at one write a second, as a bucket allows, no name falls behind by more than one write"},
		{Name: checkRamp, Doc: "no request rate above a new bucket's limit doubles in less than 20 minutes, except for seconds a day"},
		{Name: checkRanges, Doc: "in a bucket that has grown to its busiest second no range of names exceeds its limit, except for seconds a day"},
	}
}
