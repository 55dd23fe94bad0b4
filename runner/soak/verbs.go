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
		{Name: checkSecond, Doc: "a reader that restores from the bucket, beside whoever writes, has everything that was acknowledged"},
		{Name: checkReconciled, Doc: "the store and the product have counted the same requests, to the request"},
		{Name: checkIdle, Doc: "who has nothing to do asks the bucket for nothing"},
		{Name: checkAlike, Doc: "a dump that is restored into a new database holds the same"},
		{Name: checkLeft, Doc: "when a service has ended there is no instance, no process, no file beside its bucket, and no object that nothing leads to"},
		{Name: checkName, Doc: "written once a second, as a bucket takes it, no name falls behind by more than one write"},
		{Name: checkRamp, Doc: "no rate of requests above what a new bucket takes doubles in less than 20 minutes, but for seconds of a day"},
		{Name: checkRanges, Doc: "in a bucket that has grown to its busiest second no range of names is asked for more than one takes, but for seconds of a day"},
	}
}
