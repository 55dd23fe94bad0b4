package edges

import (
	"blobpglite/runner/bench"
	"blobpglite/runner/scenario"
)

// Verbs are what documents may ask for of this package.
func Verbs() []bench.Verb {
	return []bench.Verb{edgeVerb()}
}

// Names of the checks that these verbs make.
const (
	checkEdge = "edge"
)

// Checks are what these say.
func Checks() []scenario.Named {
	return []scenario.Named{
		{Name: checkEdge, Doc: "what was tried at the edge went as it should: nothing acknowledged is lost, nothing stops, errors say why"},
	}
}
