// Package protocol tries the bucket's guarantees and the protocol that relies on them, without PostgreSQL: conditional writes, races, lost
// replies, leases, takeovers, stale writers, and the explorer of interleavings.
//
// Read primitives.go first, on which everything else is built; then race.go, lease.go, takeover.go.
package protocol

import (
	"blobpglite/runner/bench"
)

import "blobpglite/runner/scenario"

// Verbs returns the verbs of this package, which documents may use.
func Verbs() []bench.Verb {
	return []bench.Verb{
		conditionsVerb(), raceVerb(), contestVerb(), readAfterWriteVerb(), primitiveLatencyVerb(), emulatorVerb(),
		lockedVerb(), takeoversVerb(), zombiesVerb(), heartbeatVerb(), exploreVerb(),
	}
}

// Names of the checks made by these verbs.
const (
	checkConditions     = "conditions"
	checkOneWinner      = "one-winner"
	checkReadAfterWrite = "read-after-write"
	checkEmulator       = "emulator"
	checkExclusive      = "exclusive"
)

// Checks returns the checks made by these verbs, with what each of them says.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkConditions, Doc: "a put is stored if its condition holds, and changes nothing if not"},
		{Name: checkOneWinner, Doc: "of many concurrent writers exactly one is told that it has won, and it has"},
		{Name: checkReadAfterWrite, Doc: "another client reads and lists exactly what was acknowledged"},
		{Name: checkEmulator, Doc: "the emulator is wrong where the table says so, and right behind the front"},
		{Name: checkExclusive, Doc: "a lease is never both renewed and taken over"},
	}
}
