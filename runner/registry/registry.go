// Package registry is the only package that knows all verbs: each is in the package of its experiments, which does not know the others.
//
//	s, err := scenario.Load("e2", registry.Language())
//	run := bench.Run{Verbs: registry.Verbs(), ...}
package registry

import (
	"slices"

	"blobpglite/runner/bench"
	"blobpglite/runner/chaos"
	"blobpglite/runner/clients"
	"blobpglite/runner/conformance"
	"blobpglite/runner/crash"
	"blobpglite/runner/edges"
	"blobpglite/runner/gotests"
	"blobpglite/runner/layers"
	"blobpglite/runner/mutants"
	"blobpglite/runner/pages"
	"blobpglite/runner/perf"
	"blobpglite/runner/protocol"
	"blobpglite/runner/replica"
	"blobpglite/runner/scenario"
	"blobpglite/runner/serverless"
	"blobpglite/runner/soak"
)

// Verbs returns all verbs.
func Verbs() bench.Verbs {
	return slices.Concat(
		protocol.Verbs(),
		perf.Verbs(),
		layers.Verbs(),
		pages.Verbs(),
		crash.Verbs(),
		chaos.Verbs(),
		mutants.Verbs(),
		clients.Verbs(),
		conformance.Verbs(),
		edges.Verbs(),
		serverless.Verbs(),
		replica.Verbs(),
		soak.Verbs(),
		gotests.Verbs(),
	)
}

// Language returns everything that documents may name.
func Language() scenario.Registry {
	return Verbs().Language(slices.Concat(
		protocol.Checks(),
		layers.Checks(),
		pages.Checks(),
		clients.Checks(),
		conformance.Checks(),
		edges.Checks(),
		replica.Checks(),
		soak.Checks(),
		gotests.Checks(),
	)...)
}

// NeedsPostgres says whether any step of the cells needs PostgreSQL.
func NeedsPostgres(cells []scenario.Cell) bool { return Verbs().NeedPostgres(cells) }

// LeftOut returns why a cell cannot be run on Cloud Run; empty: it can.
func LeftOut(c scenario.Cell) string { return Verbs().LeftOut(c) }
